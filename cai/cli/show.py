"""cai show: an overview of a world."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cai.bridges.named import source_of
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import read_picture, read_world, title_of
from cai.errors import WorldError
from cai.learn.presets import as_text, presets_of

Picture = Annotated[Path | None, typer.Option("--out", help="A .svg, .png or .pdf file: its map, or else its graph.")]


@app.command()
@with_exit_code
def show(
    world: opt.World,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    as_json: opt.Json = False,
    out: Picture = None,
) -> None:
    """Show a world: its size, its horizon, its variables, its options, where its file is, and its picture."""
    read_picture("--out", out)
    source, suited = source_of(world), presets_of(world)
    try:
        instance = read_world(world, settings, horizon, discount)
    except WorldError:
        if not suited or out is not None:
            raise
        show_presets(world, suited, as_json)  # an environment without a table has no more to show
        return
    from cai.view.overview import overview, print_overview

    seen, options = overview(instance), source.options or ()
    if as_json:
        known = {"options": [vars(option) for option in options], "summary": source.summary, "source": source.place}
        print_json({**seen.plain(), **known, **({"presets": suited} if suited else {})})
    else:
        title = f"{title_of(world, settings)}: {source.summary}" if source.summary else title_of(world, settings)
        print_overview(title, seen, source.place, options)
        if suited:
            print()
            show_presets(world, suited, as_json)
    if out is not None:
        from cai.view.world_map import draw_world

        print(f"picture: {draw_world(instance, out).resolve()}")


def show_presets(env: str, suited: dict[str, dict[str, Any]], as_json: bool) -> None:
    """Print the presets of learners for an environment."""
    if as_json:
        print_json({"presets": suited})
        return
    print(f"presets (cai learn {env} -a NAME)")
    for name, settings in suited.items():
        print(f"  {name:16}  {as_text(settings)}")
