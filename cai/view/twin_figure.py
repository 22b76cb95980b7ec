"""Twins in one figure: two worlds with one log Z, and how far apart their best policies are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.support.numbers import show
from cai.view.canvas import Room, open_axes, panel
from cai.view.style import GREY, INK, LINES
from cai.view.vector import tell

ROW = 0.55
"""The height of a temperature's row, inches."""
WORLDS = ((LINES[0], "o"), (LINES[1], "s"))
"""Colour and mark of ELBO* in each world."""
RINGS = ((4.0, INK), (8.0, "none"))
"""Size and filling of log Z's mark in each world: where they are equal, one is a ring around the other."""


def twins(
    names: Sequence[str],
    pairs: Sequence[tuple[Comparison, Comparison]],
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw log Z of two worlds on one line, and their two ELBO* apart; a row a temperature, coldest first.

    All in reward units, α times the nats, so that temperatures can be compared.

    Args:
        names: of the two worlds.
        pairs: their comparisons at each temperature.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: there is no temperature at which all four numbers are finite.
    """
    rows = [row for row in map(_row, sorted(pairs, key=lambda pair: pair[0].temperature)) if row is not None]
    if len(names) != 2 or not rows:
        raise fault("twins", f"{len(names)} names, {len(rows)} temperatures with finite answers", "two worlds, finite")
    labels = [f"α = {show(alpha)}" for alpha, _ in rows]
    room = Room(left=0.2 + 0.075 * max(map(len, labels)), bottom=0.5 + 0.2 * 3)
    ax = panel(ax, (2.7, ROW * len(rows)), room, title or "promised, and reached")
    open_axes(ax, "α · nats, reward units")
    for n, (_, (promised, reached)) in enumerate(rows):
        ax.plot([min(*promised, *reached), max(promised)], [n, n], color=GREY, linewidth=0.8, zorder=1)
        for value, (size, fill) in zip(promised, RINGS, strict=True):
            look: dict[str, Any] = {"markerfacecolor": fill, "markeredgecolor": INK, "linestyle": ""}
            ax.plot([value], [n - 0.22], marker="D", markersize=size, **look)
        for value, (colour, mark) in zip(reached, WORLDS, strict=True):
            ax.plot([value], [n + 0.12], marker=mark, color=colour, markersize=8, linestyle="")
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.locator_params(axis="x", nbins=5)
    _key(ax, names, len(rows))
    return tell(ax, _told(names, rows))


Row = tuple[float, tuple[tuple[float, float], tuple[float, float]]]


def _row(pair: tuple[Comparison, Comparison]) -> Row | None:
    """Return α, and α log Z and α ELBO* of both worlds; None where one of them is not finite."""
    alpha = pair[0].temperature
    each = [value for field in ("log_evidence", "elbo_star") for value in (getattr(one, field) for one in pair)]
    if any(value is None or not np.isfinite(value) for value in each):
        return None
    a, b, c, d = (alpha * value for value in each)
    return alpha, ((a, b), (c, d))


def _key(ax: Axes, names: Sequence[str], rows: int) -> None:
    """Say below the panel what the marks are."""
    place: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "linestyle": ""}
    entries = [(INK, "D", "log Z, of both worlds"), *((*WORLDS[n], f"ELBO*, {name}") for n, name in enumerate(names))]
    for n, (colour, mark, words) in enumerate(entries):
        y = -(0.55 + 0.2 * n) / (ROW * rows)
        ax.plot([0.02], [y], marker=mark, color=colour, markersize=6, **place)
        ax.text(0.06, y, words, transform=ax.transAxes, fontsize=8, color=INK, va="center")


def _told(names: Sequence[str], rows: Sequence[Row]) -> str:
    each = []
    for alpha, ((z_a, z_b), (star_a, star_b)) in rows:
        each.append(
            f"At α = {show(alpha)} log Z is {show(z_a / alpha)} nats in {names[0]} and {show(z_b / alpha)} in "
            f"{names[1]}; "
            f"ELBO* is {show(star_a / alpha)} and {show(star_b / alpha)}."
        )
    return f"log Z and ELBO* of two worlds. {' '.join(each)}"
