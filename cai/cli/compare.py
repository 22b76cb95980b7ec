"""cai compare: policies of one world, or of a world and its twin, by the same exact accounts."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cai.cli.app import app, told
from cai.cli.options import (
    Discount,
    Horizon,
    Json,
    Out,
    Rules,
    Settings,
    Temperature,
    World,
    read_rules,
    read_world,
    require_folder,
    title_of,
)
from cai.cli.results import compared, write

if TYPE_CHECKING:
    from cai.comparison.compare import Comparison

EVERY = ("POSTERIOR", "VARIATIONAL", "HARD", "MAP", "prior")

Twin = Annotated[
    list[str] | None,
    typer.Option(help="Settings of a twin world, name=value: what changes, and what does not, goes into the report."),
]


@app.command()
@told
def compare(
    world: World,
    rule: Rules = None,
    temperature: Temperature = None,
    horizon: Horizon = None,
    discount: Discount = None,
    settings: Settings = None,
    twin: Twin = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Compare policies by the same exact accounts: return, entropy, ELBO, and where every nat is lost."""
    require_folder(out)
    made, policies = read_world(world, settings, horizon, discount), read_rules(rule or list(EVERY), prior=True)
    from cai.compile.tabulate import tabulate

    comparisons = compared(tabulate(made), policies, temperature)
    notes = []
    if twin:
        from cai.view.lessons import twin_lesson

        changed = [*(settings or []), *twin]
        other = compared(tabulate(read_world(world, changed, horizon, discount)), policies, temperature)
        notes.append(twin_lesson(title_of(world, settings), comparisons, title_of(world, changed), other))
    _print(world, comparisons, notes, as_json=as_json)
    if out is not None:
        write(title_of(world, settings), made, comparisons, out, notes, quiet=as_json)


def _print(world: str, comparisons: Sequence["Comparison"], notes: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([json.loads(one.json()) for one in comparisons], indent=2))
        return
    from cai.view.terminal import print_comparison

    for one in comparisons:
        print_comparison(world, one)
    for note in notes:
        print(note)
