"""Bars of a comparison's numbers: one column of its table, or where the nats between log Z and each policy go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cai.errors import fault
from cai.evaluation.across_seeds import Estimate
from cai.evaluation.columns import Column
from cai.evaluation.comparison import Comparison
from cai.support.numbers import brief, rounded, show
from cai.view.canvas import Room, open_axes, panel
from cai.view.policy_looks import looks_of
from cai.view.readings import comparison_of
from cai.view.style import GREY, INK
from cai.view.vector import tell

PARTS = {"start": "#8f99a3", "action": "#E69F00", "luck": "#8a6bb0"}
"""The parts of log Z − ELBO(π), and their colours."""
BAR = 0.23
"""The height of a policy's row, inches."""
FAR = 2.0
"""log Z is drawn up to so many times the longest bar: farther away it would press all bars together."""


def column_bars(
    comparison: Comparison,
    column: str = "expected_return",
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw one column of a comparison as bars, a policy a row; over seeds with the 95 % interval.

    For ``"elbo"`` the dashed line is ELBO* and the dotted one log Z. For ``"expected_return"`` the dashed line is J*,
    the highest return of any policy, where it is known.

    Args:
        comparison: what ``cai.compare`` returns.
        column: the field of a column with a unit, e.g. "expected_return", "regret", "elbo", "policy_nats".
        scale: the ends of the axis.
        title: above the panel; the column's title unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the comparison has no such column of numbers.
    """
    head = _column(comparison_of(comparison, "column_bars"), column)
    names = [row.name for row in comparison.rows]
    every = [row.estimate(column) for row in comparison.rows]
    values = np.array([np.nan if one is None else _rounded(comparison, head, one.value) for one in every])
    drawn = np.where(np.isfinite(values), values, 0.0)
    known = {name: at for name, at in _rules(comparison, column).items() if at is not None}
    rules = {name: at for name, at in known.items() if name != "log Z" or abs(at) <= FAR * max(1e-9, *np.abs(drawn))}
    ax = _rows_of(ax, names, title or f"{head.title}, {head.unit}", bottom=0.3 + 0.16 * bool(known))
    each = looks_of(comparison).values()
    look: dict[str, Any] = {"color": [one.colour for one in each], "hatch": [one.hatch for one in each]}
    ax.barh(range(len(names)), drawn, **look, edgecolor="white", linewidth=0, height=0.66, alpha=0.85)
    _intervals(ax, every)
    low, high = _reach([*drawn, *rules.values(), *_finite_ends(every)])
    ax.set_xlim(*(scale or (low, high)))
    for n, value in enumerate(values):
        _number(ax, n, "not known" if every[n] is None else _shown(value))
    for name, at in rules.items():
        ax.axvline(at, color=INK, linestyle=":" if name == "log Z" else "--", linewidth=1.1, zorder=3)
    if known:
        signs = {name: ("· · · " if name == "log Z" else "– – ") * (name in rules) for name in known}
        marks = [f"{signs[name]}{name} = {show(at)}{'' if name in rules else ' →'}" for name, at in known.items()]
        place: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 7.8, "color": INK, "va": "top"}
        ax.text(0.0, -0.24 / (BAR * len(names)) - 0.02, ", ".join(marks), **place)
    told = "; ".join(
        f"{name}: {'not known' if one is None else show(one.value)}" for name, one in zip(names, every, strict=True)
    )
    more = "".join(f" {name} = {show(at)}." for name, at in known.items())
    return tell(ax, f"{head.title}, {head.unit}, α = {show(comparison.temperature)}. {told}.{more}", ax.get_xlim())


def nats_bars(
    comparison: Comparison,
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw log Z − ELBO(π) of each policy as bars of start, action and luck nats: shorter is better.

    Args:
        comparison: what ``cai.compare`` returns, of a world that can be compiled.
        scale: the ends of the axis, nats.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: log Z is not known or not finite.
    """
    if comparison_of(comparison, "nats_bars").log_evidence is None:
        raise fault("nats_bars", "a comparison whose log Z is not known or not finite", "a finite log Z")
    names = [row.name for row in comparison.rows]
    title = title or "log Z − ELBO(π), nats"
    ax = _rows_of(ax, names, title, bottom=0.5)
    left, told = np.zeros(len(names)), []
    for part, colour in PARTS.items():
        width = np.array([_finite(getattr(row, f"{part}_nats")) for row in comparison.rows])
        ax.barh(range(len(names)), width, left=left, color=colour, height=0.66)
        left = left + width
    for n, row in enumerate(comparison.rows):
        gap = rounded(row.evidence_gap, comparison.log_evidence)
        _number(ax, n, show(gap))
        parts = (f"{show(rounded(getattr(row, f'{part}_nats'), comparison.log_evidence))} {part}" for part in PARTS)
        told.append(f"{row.name}: {show(gap)} nats, {', '.join(parts)}")
    ax.set_xlim(*(scale or (0, _reach([*left])[1])))
    handles = [Patch(facecolor=colour, label=part) for part, colour in PARTS.items()]
    below: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.24 / (BAR * len(names)))}
    ax.legend(handles=handles, ncols=3, frameon=False, fontsize=8, labelcolor=INK, handlelength=1.0, **below)
    return tell(ax, f"log Z − ELBO(π), nats, α = {show(comparison.temperature)}. {'; '.join(told)}.", ax.get_xlim())


def _column(comparison: Comparison, field: str) -> Column:
    numbers = {column.field: column for column in comparison.columns if column.unit}
    if field not in numbers:
        raise fault("column_bars, column", f"{field!r}", f"one of {list(numbers)}")
    return numbers[field]


def _rounded(comparison: Comparison, column: Column, value: float) -> float:
    known = comparison.log_evidence if column.unit == "nats" else None
    return float(rounded(value, known) or 0.0)


def _rules(comparison: Comparison, field: str) -> dict[str, float | None]:
    """Return the exact answers that a column is measured against."""
    if field == "elbo":
        return {"ELBO*": comparison.elbo_star, "log Z": comparison.log_evidence}
    if field != "expected_return":
        return {}
    pairs = ((row.expected_return, getattr(row, "regret", None)) for row in comparison.rows if "regret" in row.cells)
    best = [reward + lost for reward, lost in pairs if reward is not None and lost is not None]
    return {"J*": next((value for value in best if np.isfinite(value)), None)}


def _rows_of(ax: Axes | None, names: Sequence[str], title: str, bottom: float) -> Axes:
    room = Room(left=0.15 + 0.074 * max(map(len, names)), right=0.75, bottom=bottom)
    ax = panel(ax, (2.3, BAR * len(names)), room, title)
    open_axes(ax, "")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter(lambda x, _: show(x))
    return ax


def _intervals(ax: Axes, every: Sequence[Estimate | None]) -> None:
    for n, one in enumerate(every):
        if one is not None and len(one.runs) > 1 and np.isfinite([one.low, one.high]).all():
            ax.plot([one.low, one.high], [n, n], color=GREY, linewidth=1.6, zorder=4)


def _finite_ends(every: Sequence[Estimate | None]) -> list[float]:
    return [end for one in every if one is not None for end in (one.low, one.high) if np.isfinite(end)]


def _number(ax: Axes, row: int, words: str) -> None:
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8, "color": INK}
    ax.text(1.03, row, words, **place)


def _reach(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.04 * (high - low) or 1.0
    return (low - air if low < 0 else 0.0), (high + air if high > 0 or low == 0 else 0.0)


def _finite(value: float | None) -> float:
    return max(0.0, value) if value is not None and np.isfinite(value) else 0.0


def _shown(value: float) -> str:
    return brief(value, 4) if np.isfinite(value) else show(value)
