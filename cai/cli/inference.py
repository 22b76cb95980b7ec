"""compare --inference-types: what each type of inference says of a world, would do, and would get."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cai.cli.app import print_json
from cai.cli.fits import Job
from cai.cli.results import write
from cai.support.parallel import each

if TYPE_CHECKING:
    from cai.compile.table_model import Tables
    from cai.evaluation.comparison import Comparison


def inference(
    title: str, job: Job, alphas: Sequence[float], out: Path | None, ray: str | None, *, as_json: bool
) -> None:
    """Print the types of inference at every temperature, and write the report of what their policies get."""
    done = dict(each(_types, job.compiled, alphas, ray=ray, title="temperatures"))
    comparisons = [done[n] for n in range(len(alphas))]
    if as_json:
        print_json([one.plain() for one in comparisons])
    else:
        from cai.view.terminal import print_comparison

        for one in comparisons:
            print_comparison(title, one)
            for name, why in one.left_out.items():
                print(f"left out: {name}, since {why}")
    if out is not None:
        write(title, job.world, comparisons, out)


def _types(tables: "Tables", alpha: float) -> "Comparison":
    from cai.evaluation.inference_types import inference_types

    return inference_types(tables, temperature=alpha)
