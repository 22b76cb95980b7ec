"""cai claims: the claims about soft optimality, tested by experiments."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli import complete, known
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import require_folder
from cai.cli.output import write_report
from cai.support.numbers import finite
from cai.support.wording import read_name

Names = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=complete.claims,
        help="exploration, fine-tuning, ties, robustness, reward-scale or deep-sea; all unless given.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", help="Write a report with figures and numbers into this folder."),
]
Seeds = Annotated[
    int | None, typer.Option(min=2, help="Seeds of each experiment with random numbers; its own number unless given.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Small versions of the experiments: up to a minute each, with weaker evidence.")
]

QUICK = "These are the small versions of the experiments (--quick): up to a minute each, with weaker evidence."


@app.command()
@with_exit_code
def claims(
    names: Names = None, out: Folder = None, seeds: Seeds = None, quick: Quick = False, as_json: opt.Json = False
) -> None:
    """Try what is claimed for soft optimality, each claim as one experiment with a verdict."""
    require_folder(out)
    chosen = [read_name("claim", name.replace("_", "-"), known.claims()) for name in names or known.claims()]
    from cai.experiments.claims import CLAIMS
    from cai.view.terminal import print_table

    found: dict[str, Any] = {}
    for name in dict.fromkeys(chosen):
        found[name] = result = CLAIMS[name].run(**CLAIMS[name].settings(seeds=seeds, quick=quick))
        if not as_json:
            print(f"{name}: {result.claim}", f"verdict: {result.verdict.sentence(result.evidence)}", sep="\n")
            print_table("", *result.table)
            print(*result.verdict.lines, "", sep="\n")
        if out is not None:  # after each, since all of them take long
            write_report("", "Claims about soft optimality", None, found, out, notes=[QUICK] if quick else [])
    if as_json:
        print_json([_plain(name, result) for name, result in found.items()])


def _plain(name: str, result: Any) -> dict[str, Any]:
    heads, rows = result.table
    verdict = {"verdict": result.verdict.word, "evidence": result.evidence}
    checks = [vars(check) for check in result.verdict.checks]
    table = [finite(dict(zip(heads, row, strict=True))) for row in rows]
    return {"name": name, "claim": result.claim, **verdict, "checks": checks, "table": table}
