"""One look for every picture: palettes for colour-blind readers too, panels laid out in inches, PNG bytes."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatterMathtext
from numpy.typing import NDArray

INK, GREY, FAINT = "#1f2933", "#66727f", "#d5dae0"
NOTHING = "#e9e9ec"
"""The ground under hatching: a number that is not finite."""
WALL = "#4a5560"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", INK)
"""The palette of Okabe and Ito, the order of the policies."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 110
MAX_WIDTH = 12.0


@dataclass(frozen=True)
class Margins:
    """The room around and between panels, inches."""

    left: float = 0.75
    right: float = 0.9
    top: float = 1.0
    bottom: float = 0.75
    across: float = 0.35
    down: float = 0.75


def panels(
    count: int, size: tuple[float, float], title: str, subtitle: str, room: Margins
) -> tuple[Figure, list[Axes]]:
    """Lay out ``count`` panels of ``size`` (width, height) inches in as few rows as fit, under a heading.

    Inches, not a layout engine: the engine costs more time than the drawing.
    """
    width, height = size
    fitting = int((MAX_WIDTH - room.left - room.right + room.across) // (width + room.across))
    columns = max(1, min(count, fitting))
    rows = -(-count // columns)
    columns = -(-count // rows)
    total_w = room.left + columns * width + (columns - 1) * room.across + room.right
    total_w = max(total_w, 7.2, 0.3 + 0.107 * len(title))  # the heading must fit
    total_h = room.top + rows * height + (rows - 1) * room.down + room.bottom
    figure = Figure(figsize=(total_w, total_h), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = []
    for n in range(count):
        row, column = divmod(n, columns)
        x = room.left + column * (width + room.across)
        y = total_h - room.top - (row + 1) * height - row * room.down
        axes.append(figure.add_axes((x / total_w, y / total_h, width / total_w, height / total_h)))
    head(figure, title, subtitle)
    return figure, axes


def head(figure: Figure, title: str, subtitle: str) -> None:
    """Write the heading of a figure: a bold line, and a grey one below that says how to read it."""
    height = figure.get_figheight()
    x = 0.16 / figure.get_figwidth()
    figure.text(x, 1 - 0.10 / height, title, va="top", fontsize=12.5, fontweight="bold", color=INK)
    lines = textwrap.fill(subtitle, int(figure.get_figwidth() / 0.072))
    figure.text(x, 1 - 0.36 / height, lines, va="top", fontsize=8.8, color=GREY, linespacing=1.25)


def plain(axes: Axes, title: str) -> None:
    """Give an axes the house's look: a small bold title on the left, thin grey spines and ticks."""
    axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=5)
    axes.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.6)
    for spine in axes.spines.values():
        spine.set(color=GREY, linewidth=0.6)


def colour_bar(axes: Axes, norm: Normalize, cmap: Colormap, label: str, *, extend: str = "neither") -> None:
    """Draw a slim colour bar on the right of an axes; ``label`` carries the unit."""
    box, figure = axes.get_position(), axes.get_figure(root=True)
    assert figure is not None  # every axes here comes from ``panels``
    inch = 1 / figure.get_figwidth()
    side = figure.add_axes((box.x1 + 0.07 * inch, box.y0, 0.09 * inch, box.height))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=side, extend=extend)
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=6.8, length=2, width=0.5, colors=INK, pad=1.5)
    bar.set_label(label, fontsize=7.5, color=INK, labelpad=2)


def hatch_ground(axes: Axes) -> None:
    """Hatch the ground of an axes, so that a transparent (not finite) pixel shows it."""
    axes.patch.set(facecolor=NOTHING, edgecolor="#9aa3ad", hatch="////", linewidth=0.0)


def hatch_key(text: str) -> Patch:
    """Return the legend's entry for hatching."""
    return Patch(facecolor=NOTHING, edgecolor="#9aa3ad", hatch="////", linewidth=0.0, label=text)


def foot_key(figure: Figure, handles: Sequence[Any]) -> None:
    """Place a legend at the foot of a figure, on the left."""
    x = 0.16 / figure.get_figwidth()
    y = 0.08 / figure.get_figheight()
    length = sum(0.55 + 0.075 * len(handle.get_label()) for handle in handles)  # inches, roughly
    lines = -(-length // (figure.get_figwidth() - 0.3))
    figure.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(x, y),
        ncols=-(-len(handles) // max(1, int(lines))),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.6,
        borderpad=0,
        borderaxespad=0,
    )


def pale(name: str, share: float) -> Colormap:
    """Blend a sequential colour map with white, keeping a share of it, so that dark text is legible on it.

    The order in lightness stays, which is what makes it readable without colour.
    """
    colours = colormaps[name](np.linspace(0, 1, 256))
    colours[:, :3] = 1 - share * (1 - colours[:, :3])
    return ListedColormap(colours, name=f"pale {name}").with_extremes(bad=(0, 0, 0, 0))


def amounts(name: str, darkest: float = 1.0) -> Colormap:
    """Return a one-hue map for amounts from 0 up: nothing is white, not finite is transparent.

    A ``darkest`` below 1 keeps it light enough for dark digits.
    """
    colours = colormaps[name](np.linspace(0.08, darkest, 256))
    return ListedColormap(colours, name=f"amounts {name}").with_extremes(bad=(0, 0, 0, 0), under="white")


def span(values: NDArray[Any]) -> Normalize:
    """Return the linear scale of the finite values; never empty."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high - low <= 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)


def log_gaps(axes: Axes) -> None:
    """Turn to a logarithmic axis for gaps; those of exactly nothing lie on its floor, which is labelled 0."""
    values = drawn(axes)
    positive = values[values > 0]
    floor = float(positive.min()) / 10 if positive.size else 1e-3
    for line in axes.lines:
        data = np.asarray(line.get_ydata(), dtype=float)
        line.set_ydata(np.where(data <= 0, floor, data))
    axes.set_ylim(floor, float(positive.max()) * 3 if positive.size else 1.0)
    axes.set_yscale("log")
    if (values <= 0).any():
        powers = LogFormatterMathtext()
        axes.yaxis.set_major_formatter(lambda value, place: powers(value) if value > 2.5 * floor else "")
        axes.text(-0.02, 0.0, "0", transform=axes.transAxes, ha="right", va="center", fontsize=7.5, color=INK)


def drawn(axes: Axes) -> NDArray[Any]:
    """Return every finite height that a line of the axes has."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float).reshape(-1) for line in axes.lines])
    finite: NDArray[Any] = values[np.isfinite(values)]
    return finite


def png(figure: Figure) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor="white")
    return out.getvalue()
