"""cai explore: a world as a page that solves it in the browser."""

import contextlib
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import read_clock, read_settings, read_temperatures, title_of
from cai.errors import fault
from cai.support.progress import working

Page = Annotated[
    Path | None, typer.Option("--out", help="Write the page to this .html file; unless given, it opens in the browser.")
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        help="Add a slider for an option of the world, slip=0,0.1,0.3 or slip alone; repeatable. "
        "Unless given, up to two options that matter."
    ),
]
Start = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        "-t",
        help="The initial temperature α, reward units; unless given, the one with the best return.",
    ),
]


@app.command()
@with_exit_code
def explore(
    world: opt.World,
    temperature: Start = None,
    horizon: opt.Horizon = None,
    discount: opt.Discount = None,
    settings: opt.Settings = None,
    vary: Vary = None,
    as_json: opt.Json = False,
    out: Page = None,
) -> None:
    """Explore a finite world in the browser: sliders, painting, messages step by step. Needs no network."""
    if out is not None and (out.suffix != ".html" or not out.absolute().parent.is_dir()):
        raise fault("--out", f"'{out}'", "a file that ends in .html, in a folder that exists")
    alpha = None if temperature is None else read_temperatures([temperature])[0]
    pairs, overrides, options = read_settings(settings), read_clock(horizon, discount), _read_vary(vary)
    with contextlib.redirect_stdout(sys.stderr), working(f"compiling {world}"):
        from cai.view.explorer.explore import explore as page_of
        from cai.view.explorer.options import maker_of

        make = maker_of(world, pairs, overrides)
        explorer = page_of(make, vary=options, title=title_of(world, settings), temperature=alpha)
    page = explorer.save(out or Path(tempfile.mkdtemp(prefix="cai-")) / "explorer.html").resolve()
    if as_json:
        print_json({"page": str(page), "world": explorer.data["size"]})
    else:
        print(f"page: {page}")
    if out is None and not as_json:
        webbrowser.open(page.as_uri())


def _read_vary(texts: list[str] | None) -> dict[str, list[float | bool] | None] | None:
    """Read ``name=0,0.1,0.3``, or a name alone, whose values are then chosen."""
    if texts is None:
        return None
    options: dict[str, list[float | bool] | None] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        words = [word.strip() for word in values.split(",")] if equals else []
        numbers = [{"True": True, "False": False}.get(word, _as_number(word)) for word in words]
        if not name.isidentifier() or None in numbers:
            raise fault("--vary", f"'{text}'", "a name, or name=0,0.1,0.3 with numbers, True or False")
        options[name] = [number for number in numbers if number is not None] if equals else None
    return options


def _as_number(word: str) -> float | None:
    try:
        return int(word) if word.lstrip("-").isdigit() else float(word)
    except ValueError:
        return None
