"""explore: a world as a page that solves it in the browser, and the page as a widget of a notebook."""

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cai.compile.table_model import Tables
from cai.support.files import write_whole
from cai.view.explorer.options import Vary, variants_of
from cai.view.explorer.world_data import world_data
from cai.world.definition import World

ENGINE = ("model.js", "engine.js", "account.js")
"""The model in the browser, in the order in which its scripts build on each other."""
HEIGHT = 900
"""Of the widget in a notebook, pixels."""


@dataclass(frozen=True)
class Explorer:
    """A page that solves a world in the browser, without a server or a network.

    Attributes:
        data: the world as dicts, lists and numbers; ``cai.view.explorer`` describes its fields.
        template, scripts, styles: the files that the page is made of; ``explore``'s unless given.
    """

    data: dict[str, Any]
    template: str = "page.html.jinja"
    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ("page.css",)

    def __repr__(self) -> str:
        return f"Explorer({self.data['title']}: {self.data['size']})"

    @property
    def html(self) -> str:
        """The page."""
        scripts = self.scripts or (*ENGINE, *page_scripts())
        return page_of(self.template, self.data, scripts=[*scripts], styles=[*self.styles])

    def save(self, path: str | Path) -> Path:
        """Write the page and return its path.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(path)
        write_whole(path.parent, {path.name: self.html.encode()})
        return path

    def _repr_html_(self) -> str:
        page = html.escape(self.html, quote=True)
        name = html.escape(f"Explorer of {self.data['title']}", quote=True)
        return f'<iframe srcdoc="{page}" title="{name}" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'


def explore(
    world: World | Tables | Callable[..., World],
    *,
    vary: Vary | None = None,
    title: str | None = None,
    temperature: float | None = None,
) -> Explorer:
    """Return a page that solves a finite world in the browser; Jupyter shows it, ``save`` writes it to a file.

    Args:
        world: a world, its tables, or a class or function that makes one, whose options then get sliders.
        vary: the options with sliders, ``{"slip": [0, 0.1, 0.2]}`` or names alone; None chooses up to two that matter.
        title: of the page; the name of the world unless given.
        temperature: the initial α, reward units; unless given, the one with the best return.

    Raises:
        WorldError: the world is not valid, is seen in part, or has no such option; or α is not positive and finite.
        IntractableError: it is not finite, or too large for a page.
    """
    return Explorer(world_data(variants_of(world, vary), title=title, temperature=temperature))


def page_of(template: str, data: dict[str, Any], *, scripts: list[str], styles: list[str]) -> str:
    """Put data, scripts and styles into a template of this folder, as one page.

    The template has ``title``, ``data`` (JSON), ``scripts`` and ``styles`` (texts to be put inside their elements).
    """
    environment = Environment(
        loader=PackageLoader("cai.view.explorer", "."), autoescape=True, undefined=StrictUndefined
    )
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # no text ends the script
    return environment.get_template(template).render(
        title=data["title"], data=Markup(text), scripts=_read(scripts), styles=_read(styles)
    )


def page_scripts() -> list[str]:
    """Return the names of the scripts of the page, in the order of their names, ``page.js`` last."""
    names = [file.name for file in files("cai.view.explorer").iterdir() if file.name.startswith("page_")]
    return [*sorted(name for name in names if name.endswith(".js")), "page.js"]


def _read(names: list[str]) -> list[Markup]:
    return [Markup(files("cai.view.explorer").joinpath(name).read_text(encoding="utf-8")) for name in names]
