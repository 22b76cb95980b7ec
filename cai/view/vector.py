"""Figures as vector graphics that a page can take in: text stays text, ink follows the page, the ground is clear."""

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as Tree
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from cai.errors import fault
from cai.support.files import write_whole
from cai.view.style import DPI, FAINT, GREY, INK

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
PAGE_INKS = {INK: "", GREY: "0.72", FAINT: "0.2"}
"""Colours that stand for the page's own ink, and how much of it shows; all other colours stay as they are."""
CRISP = "crisp"
"""The group of cells that touch: drawn without smoothing, so that no seam shows between them."""
ROUND = {"stroke-linejoin": "round", "stroke-linecap": "butt"}
"""What matplotlib says of all its lines."""


class Drawing(Figure):
    """A figure that says in words what is seen; a notebook shows it as vector graphics in the page's own ink.

    Attributes:
        alt: what is seen, computed from the data.
        scale: the ends of its colours, or of its upright axis; None where a common scale has no meaning.
    """

    alt: str = ""
    scale: tuple[float, float] | None = None

    def _repr_html_(self) -> str:
        return svg(self)


def alt(figure: Figure) -> str:
    """Return the alternative text of a figure of ``cai.view``: what it shows, with its numbers.

    Raises:
        WorldError: the figure was not made by ``cai.view``.
    """
    words = str(getattr(figure, "alt", ""))
    if not words:
        raise fault("alt, figure", "a figure that was not drawn by cai.view", "one of its figures, or alt='…' for svg")
    return words


def tell(axes: Axes, words: str, scale: tuple[float, float] | None = None) -> Figure:
    """Keep with the figure of an axes what is seen there, and its scale; return the figure.

    Its text is shown as it is: a ``$`` in somebody's name begins no formula.
    """
    for text in axes.findobj(Text):
        text.set_parse_math(False)
    figure: Any = axes.get_figure(root=True)
    figure.alt = "\n".join(part for part in (getattr(figure, "alt", ""), words) if part)
    figure.scale = scale
    return figure  # type: ignore[no-any-return]


def svg(figure: Figure, *, alt: str | None = None) -> str:
    """Return a figure as inline SVG, with ``<title>``, ``<desc>`` and ``role="img"``.

    Black and grey become ``currentColor`` and the background is transparent, so the figure fits a dark page and a light
    one. Text stays text. A narrow page makes the figure narrower.

    Args:
        figure: any figure of matplotlib.
        alt: the alternative text; a figure of ``cai.view`` has its own.

    Raises:
        WorldError: there is no alternative text.
    """
    words = _alt(figure) if alt is None else alt
    out = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "cai"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has fonts of its own
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing, transparent=True)
    root = Tree.fromstring(out.getvalue())
    _plain_names(root)
    key = "cai" + hashlib.sha1(out.getvalue() + words.encode()).hexdigest()[:8]
    for group in root.iter("g"):
        if group.get("id") == CRISP:
            _merge(group)
    for element in root.iter():
        _restyle(element)
    _own_ids(root, key)
    _head(root, words, key)
    return Tree.tostring(root, encoding="unicode")


_alt = alt


def save_figure(figure: Figure, path: str | Path, where: str) -> Path:
    """Write a figure as SVG, PNG or PDF by the suffix of its file, whole or not at all; return the path.

    Raises:
        WorldError: the suffix is none of these; ``where`` is said in it.
    """
    path = Path(path)
    form = path.suffix.lower().lstrip(".")
    if form not in ("svg", "png", "pdf"):
        raise fault(where, f"'{path.name}'", "a name that ends in .svg, .png or .pdf")
    out = io.BytesIO()
    if form == "svg":
        out.write(svg(figure, alt=getattr(figure, "alt", "") or path.stem).encode())
    else:
        undated = {"CreationDate": None} if form == "pdf" else {}
        figure.savefig(out, format=form, dpi=DPI, metadata=undated, facecolor="white")
    write_whole(path.parent, {path.name: out.getvalue()})
    return path


def _plain_names(root: Tree.Element) -> None:
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text, element.tail = (part and (part if part.strip() else None) for part in (element.text, None))
        for name in [name for name in element.attrib if "}" in name]:
            element.set(name.rpartition("}")[2], element.attrib.pop(name))
    for defs in list(root.iter("defs")):  # a rule for "*" would reach the whole page
        for style in defs.findall("style"):
            defs.remove(style)


def _merge(group: Tree.Element) -> None:
    """Join the rectangles of one colour into one path: what a map weighs is its colours, not its cells."""
    paths: dict[str, list[str]] = {}
    for path in group.findall("path"):
        corners = re.findall(r"-?[\d.]+(?:e-?\d+)?", path.get("d", ""))
        points = [f"{float(x):.2f} {float(y):.2f}" for x, y in zip(corners[::2], corners[1::2], strict=False)]
        paths.setdefault(path.get("style", ""), []).append(f"M{'L'.join(points[:4])}z")
        group.remove(path)
    for style, pieces in paths.items():
        Tree.SubElement(group, "path", {"d": "".join(pieces), "style": style})
    group.set("shape-rendering", "crispEdges")


def _restyle(element: Tree.Element) -> None:
    style = element.get("style")
    if style is not None:
        style = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _ink, style)
        element.set("style", re.sub(r"font(-family)?: ([^;]*?)'DejaVu Sans'[^;]*", rf"font\1: \2{FONT}", style))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag == "path":
        element.set(
            "d", re.sub(r"-?\d+\.\d{3,}", lambda x: f"{float(x[0]):.2f}", element.get("d", "")).replace("\n", "")
        )


def _ink(found: re.Match[str]) -> str:
    what, colour = found.groups()
    if colour not in PAGE_INKS:
        return found[0]
    share = PAGE_INKS[colour]
    return f"{what}: currentColor" + (f"; {what}-opacity: {share}" if share else "")


def _own_ids(root: Tree.Element, key: str) -> None:
    """Keep the ids that are referred to, under names of this figure's own: a page holds many figures."""
    text = Tree.tostring(root, encoding="unicode")
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        name = element.get("id")
        if name is not None and name not in used:
            del element.attrib["id"]
        elif name is not None:
            element.set("id", f"{key}-{name}")
        for attribute, value in element.attrib.items():
            if "#" in value and attribute not in ("id", "fill"):  # the ground of a hatch has its colour in ``fill``
                element.set(attribute, re.sub(r"(url\(#|^#)(?=[\w-]+(?:\)|$))", rf"\g<1>{key}-", value))


def _head(root: Tree.Element, words: str, key: str) -> None:
    _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
    root.attrib.clear()
    pixels = round(width * 96 / 72)
    root.attrib.update({
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "width": f"{pixels}",
        "style": "max-width: 100%; height: auto; " + "; ".join(f"{name}: {value}" for name, value in ROUND.items()),
        "role": "img", "aria-labelledby": f"{key}-title {key}-desc",
    })  # fmt: skip
    first, _, rest = words.partition("\n")
    head, stop, more = first.partition(". ")
    title = Tree.Element("title", {"id": f"{key}-title"})
    title.text = head + stop.strip()
    desc = Tree.Element("desc", {"id": f"{key}-desc"})
    desc.text = " ".join(part for part in (more, rest.replace("\n", " ")) if part) or title.text
    root.insert(0, desc)
    root.insert(0, title)
