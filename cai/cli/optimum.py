"""cai optimum: the exact optima of a world, over a ladder of temperatures."""

from typing import Annotated

import typer

from cai.cli import options as opt
from cai.cli.app import app, print_json, say, with_exit_code
from cai.cli.given_options import read_temperatures, read_world, title_of
from cai.cli.output import show_rows

HEADS = ("α", "ELBO* (nats)", "log Z (nats)", "return of π* (reward)", "entropy of π* (nats)", "per step", "steps")
Temperature = Annotated[
    list[float] | None,
    typer.Option(
        "--temperature",
        "-t",
        help="The temperature α, reward units; repeatable; 1, 0.3, 0.1, 0.03 and 0.01 unless given.",
    ),
]
Map = Annotated[str | None, typer.Option("--map", help="The map of a FrozenLake id: short for --set map_name=….")]


@app.command()
@with_exit_code
def optimum(
    world: opt.World,
    temperature: Temperature = None,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    map_name: Map = None,
    as_json: opt.Json = False,
) -> None:
    """Print a world's best return, and ELBO*, log Z and the entropy of the best policy at several temperatures."""
    given = [*(settings or []), *([] if map_name is None else [f"map_name={map_name}"])]
    alphas = read_temperatures(temperature) if temperature else None
    instance = read_world(world, given, horizon, discount)
    from cai.verification.optimum import LADDER, optimum

    found = optimum(instance, temperatures=alphas or LADDER, progress=not as_json)
    if found.note is not None:
        say(found.note)
    if as_json:
        print_json({**found.plain(), "name": title_of(world, given)})
        return
    limit = "no time limit" if found.horizon is None else f"T = {found.horizon:,}"
    title = f"{title_of(world, given)}, {limit}, γ = {found.discount:g}: the best return is {found.expected_return:.6g}"
    show_rows(title, HEADS, [one.plain() for one in found.soft], as_json=False)
