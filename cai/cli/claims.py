"""cai claims: what is claimed for soft optimality, tried."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.app import app, with_exit_code
from cai.cli.options import require_folder
from cai.support.numbers import finite
from cai.support.wording import read_name

Names = Annotated[
    list[str] | None,
    typer.Argument(help="exploration, fine-tuning, ties, robustness, reward-scale or deep-sea; all unless given."),
]
Folder = Annotated[Path | None, typer.Option("--out", help="Write a figure and the numbers of each into this folder.")]
Seeds = Annotated[int | None, typer.Option(min=2, help="Seeds of each experiment that has any; its own unless given.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small versions: seconds each, and weaker evidence.")]


@app.command()
@with_exit_code
def claims(names: Names = None, out: Folder = None, seeds: Seeds = None, quick: Quick = False) -> None:
    """Try what is claimed for soft optimality, each claim as one experiment with a verdict."""
    require_folder(out)
    from cai.experiments.claims import CLAIMS

    chosen = [read_name("claim", one.replace("_", "-"), tuple(CLAIMS)) for one in names or CLAIMS]
    for name in dict.fromkeys(chosen):
        result = CLAIMS[name].run(**CLAIMS[name].settings(seeds=seeds, quick=quick))
        tell(name, result)
        if out is not None:
            keep(name, result, out)


def tell(name: str, result: Any) -> None:
    """Print the numbers and the verdict."""
    from cai.view.terminal import print_table

    print_table(f"{name}: {result.claim}", *result.table)
    print(f"verdict: {result.verdict.word}", *result.verdict.lines, "", sep="\n")


def keep(name: str, result: Any, out: Path) -> None:
    """Write the figure and the numbers, both or none."""
    from cai.support.files import write_whole
    from cai.view.claim_figures import figure_of
    from cai.view.style import png

    numbers = {"claim": result.claim, "verdict": result.verdict.word, "checks": result.verdict.lines, **asdict(result)}
    text = json.dumps(finite(numbers), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(out, {f"{name}.png": png(figure_of(result)), f"{name}.json": text.encode()})
    print(f"figure: {(out / f'{name}.png').resolve()}\nnumbers: {(out / f'{name}.json').resolve()}\n")
