"""cai claims: what is claimed for soft optimality, tried."""

from pathlib import Path
from typing import Annotated

import typer

from cai.cli import complete, known
from cai.cli.app import app, with_exit_code
from cai.cli.options import require_folder
from cai.support.wording import read_name

Names = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=complete.claims,
        help="exploration, fine-tuning, ties, robustness, reward-scale or deep-sea; all unless given.",
    ),
]
Folder = Annotated[Path | None, typer.Option("--out", help="Write a figure and the numbers of each into this folder.")]
Seeds = Annotated[int | None, typer.Option(min=2, help="Seeds of each experiment that has any; its own unless given.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small versions: seconds each, and weaker evidence.")]


@app.command()
@with_exit_code
def claims(names: Names = None, out: Folder = None, seeds: Seeds = None, quick: Quick = False) -> None:
    """Try what is claimed for soft optimality, each claim as one experiment with a verdict."""
    require_folder(out)
    chosen = [read_name("claim", name.replace("_", "-"), known.claims()) for name in names or known.claims()]
    from cai.experiments.claims import CLAIMS
    from cai.view.terminal import print_table

    for name in dict.fromkeys(chosen):
        result = CLAIMS[name].run(**CLAIMS[name].settings(seeds=seeds, quick=quick))
        print_table(f"{name}: {result.claim}", *result.table)
        print(result.verdict.sentence(result.evidence), *result.verdict.lines, "", sep="\n")
        if out is not None:
            from cai.view.claim_figures import save_claim

            figure, numbers = save_claim(name, result, out)
            print(f"figure: {figure.resolve()}\nnumbers: {numbers.resolve()}\n")
