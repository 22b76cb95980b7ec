"""compare --inference-types: what each type of inference says of a world, would do, and would get."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.app import print_json
from cai.cli.fits import Job
from cai.cli.results import write
from cai.support.parallel import each

if TYPE_CHECKING:
    from cai.compile.table_model import Tables
    from cai.evaluation.inference_types import InferenceTypes


def inference(
    title: str, job: Job, alphas: Sequence[float], out: Path | None, ray: str | None, *, as_json: bool
) -> None:
    """Print the types of inference at every temperature, and write the report of what their policies get."""
    done = dict(each(_types, job.compiled, alphas, ray=ray, title="temperatures"))
    found = [done[n] for n in range(len(alphas))]
    if as_json:
        print_json([_plain(one) for one in found])
    else:
        from cai.view.terminal import describe

        for one in found:
            print(f"{title} at α = {one.temperature:g}: {describe(job.compiled)}\n\n{one.table()}\n")
    if out is not None:
        write(title, job.world, [one.comparison for one in found], out, [_note(one) for one in found])


def _types(tables: "Tables", alpha: float) -> "InferenceTypes":
    from cai.evaluation.inference_types import inference_types

    return inference_types(tables, temperature=alpha)


def _plain(one: "InferenceTypes") -> dict[str, Any]:
    rungs = [
        {"name": rung.name, "formula": rung.formula, "objective": rung.objective, "actions": rung.actions}
        for rung in one.rungs
    ]
    return {**json.loads(one.comparison.json()), "rungs": rungs, "left_out": dict(one.left_out)}


def _note(one: "InferenceTypes") -> str:
    """Return the table as lines whose cells are held apart by dots, since a note keeps line breaks but no columns."""
    lines = [re.sub(r" {2,}", " · ", line.strip()) for line in one.table().splitlines()]
    return "\n".join([f"Types of inference at α = {one.temperature:g}, objective and ELBO in nats:", *lines])
