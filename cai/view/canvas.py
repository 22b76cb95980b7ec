"""Small panels, laid out in inches: a page sets them side by side and lets them wrap."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from cai.errors import fault
from cai.support.numbers import show, superscript
from cai.view.style import DPI, FAINT, INK, plain
from cai.view.vector import CRISP, Drawing

Array = NDArray[Any]
WIDE = 3.0
"""The usual width of what is drawn, inches: two panels stand side by side on a page, one on a phone."""
HATCH = "#8f99a3"
"""Grey that is seen on a dark page and on a light one."""
DARK = "#10181f"
"""Ink on colour, which is light in both."""


@dataclass(frozen=True)
class Room:
    """The room around what is drawn, inches."""

    left: float = 0.1
    right: float = 0.1
    top: float = 0.32
    bottom: float = 0.45


def panel(ax: Axes | None, size: tuple[float, float], room: Room, title: str) -> Axes:
    """Return the axes to draw on, with a title: the given one, or that of a new drawing of ``size`` inches inside."""
    lines = _wrapped(title, size[0] + room.right if ax is None else inches(ax)[0])
    if ax is None:
        width, height = size
        top = room.top + 0.16 * lines.count("\n")
        total = width + room.left + room.right, height + top + room.bottom
        figure = Drawing(figsize=total, dpi=DPI, facecolor="none")
        FigureCanvasAgg(figure)
        ax = figure.add_axes((room.left / total[0], room.bottom / total[1], width / total[0], height / total[1]))
    ax.set_facecolor("none")
    plain(ax, lines)
    return ax


def _wrapped(title: str, width: float) -> str:
    return textwrap.fill(title, max(12, int(width / 0.088)))


def inches(ax: Axes) -> tuple[float, float]:
    """Return the width and height of an axes, inches."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_position()
    return box.width * figure.get_figwidth(), box.height * figure.get_figheight()


def open_axes(ax: Axes, below: str, beside: str = "") -> None:
    """Give an axes of curves the house's look: no box, a faint grid, what is measured and its unit."""
    ax.grid(color=FAINT, linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(below, fontsize=8.5, color=INK, labelpad=2)
    ax.set_ylabel(beside, fontsize=8.5, color=INK, labelpad=2)


def cells(
    ax: Axes,
    x: Array,
    y: Array,
    values: Array,
    cmap: Colormap,
    norm: Normalize,
    *,
    wide: float = 1.0,
    high: float = 1.0,
) -> PolyCollection:
    """Fill rectangles around the points (x, y) with the colours of their values."""
    drawn = PolyCollection(_rectangles(x, y, wide, high), cmap=cmap, norm=norm, linewidths=0, gid=CRISP)
    drawn.set_array(values)
    ax.add_collection(drawn, autolim=False)
    return drawn


def blocks(ax: Axes, x: Array, y: Array, side: float, colour: str) -> None:
    """Fill squares around the points (x, y) with one colour."""
    if len(x):
        squares = PolyCollection(_rectangles(x, y, side, side), facecolors=colour, linewidths=0, gid=CRISP)
        ax.add_collection(squares, autolim=False)


def hatched(ax: Axes, x: Array, y: Array, side: float) -> None:
    """Hatch squares around the points (x, y): there is no number there."""
    if len(x):
        look: dict[str, Any] = {"facecolors": "none", "edgecolors": HATCH, "hatch": "/////", "linewidths": 0.4}
        ax.add_collection(PolyCollection(_rectangles(x, y, side, side), **look), autolim=False)


def _rectangles(x: Array, y: Array, wide: float, high: float) -> Any:
    corners = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]]) / 2
    return np.stack([x, y], -1)[:, None, :] + corners


def colour_key(ax: Axes, cmap: Colormap, norm: Normalize, unit: str, *, below: float = 0.1) -> None:
    """Draw what the colours mean under an axes, ``below`` inches down: a strip, the numbers at its ends, the unit."""
    width, height = inches(ax)
    share = min(1.0, 1.15 / width)
    strip = ax.inset_axes((0.0, -(below + 0.1) / height, share, 0.1 / height))
    strip.set_facecolor("none")
    steps = 28
    place = (np.arange(steps) + 0.5) / steps
    cells(strip, place * steps, np.zeros(steps), np.asarray(norm.inverse(place)), cmap, norm)
    strip.set(xlim=(0, steps), ylim=(-0.5, 0.5), yticks=[])
    strip.set_xticks([0, steps], [show_short(float(norm.vmin or 0.0)), show_short(float(norm.vmax or 0.0))])
    strip.tick_params(labelsize=7.5, colors=INK, length=0, pad=2)
    low, high = strip.get_xticklabels()
    low.set_horizontalalignment("left")
    high.set_horizontalalignment("right")
    for spine in strip.spines.values():
        spine.set_visible(False)
    words = unit + (", logarithmic" if isinstance(norm, LogNorm) else "")
    beside: dict[str, Any] = {"xycoords": strip.transAxes, "textcoords": "offset points"}
    strip.annotate(words, (1.0, 0.5), (6, 0), **beside, va="center", fontsize=8, color=INK)


def show_short(value: float, digits: int = 3) -> str:
    """Write a number in at most six characters or so: a cell is narrow."""
    if not np.isfinite(value) or value == 0:
        return show(value)
    size = abs(value)
    text = (
        f"{value:.{digits if size < 100 else 3}g}"
        if 1e-3 <= size < 1000
        else f"{value:.0f}"
        if 1000 <= size < 1e5
        else f"{value:.0e}"
    )
    return text.replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def power(value: float) -> str:
    """Write a number of a logarithmic axis: in full where it is short, else as a power of ten."""
    exponent = np.log10(value) if value > 0 else np.nan
    if np.isfinite(exponent) and abs(exponent) < 3.5:
        return f"{value:g}"
    return f"10{superscript(round(exponent))}" if abs(exponent - np.round(exponent)) < 1e-9 else ""


def log_ticks(ax: Axes, low: float, high: float, edge: tuple[float, float]) -> None:
    """Set the numbers of a logarithmic upright axis, more of them where it is short; none outside ``edge``."""
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y) if edge[0] <= y <= edge[1] else ""))
    ax.yaxis.set_minor_locator(NullLocator())


def linear(fields: Sequence[Float[Array, "..."]], scale: tuple[float, float] | None) -> Normalize:
    """Return the linear scale of the finite values, or the given one; never empty."""
    if scale is not None:
        return Normalize(*_ends(scale))
    every = np.concatenate([np.asarray(field, dtype=float).reshape(-1) for field in fields])
    finite = every[np.isfinite(every)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high - low <= 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)


def logarithmic(fields: Sequence[Float[Array, "..."]], scale: tuple[float, float] | None, depth: float) -> LogNorm:
    """Return a logarithmic scale for amounts from 0 up, ``depth`` times deep; less than that is drawn as nothing."""
    if scale is not None:
        return LogNorm(*_ends(scale, above=0.0))
    every = np.concatenate([np.asarray(field, dtype=float).reshape(-1) for field in fields])
    positive = every[np.isfinite(every) & (every > 1e-9)]
    if not positive.size:
        return LogNorm(1 / depth, 1.0)
    high = float(positive.max())
    return LogNorm(min(max(high / depth, 0.9 * float(positive.min())), high / 10), high)


def _ends(scale: tuple[float, float], above: float = -np.inf) -> tuple[float, float]:
    """Return the ends of a scale that was given.

    Raises:
        WorldError: they are not two finite numbers, the lower one first and above ``above``.
    """
    low, high = scale
    if not above < low < high < np.inf:
        raise fault("scale", f"{scale}", f"(low, high), finite{' and above 0' if above == 0 else ''}, low below high")
    return low, high
