"""The ladder of temperatures: return, ELBO or gap of each policy from cold to warm."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import Row
from cai.support.numbers import brief, rounded, show
from cai.view.canvas import Room, log_ticks, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.policy_looks import look
from cai.view.style import INK
from cai.view.summary import coldest_first
from cai.view.vector import tell

Read = Callable[[Comparison, Row], float | None]


def _return(comparison: Comparison, row: Row) -> float | None:
    return row.expected_return  # type: ignore[no-any-return]


def _elbo(comparison: Comparison, row: Row) -> float | None:
    return None if row.elbo is None else comparison.temperature * row.elbo


def _gap(comparison: Comparison, row: Row) -> float | None:
    return rounded(row.optimality_gap, comparison.elbo_star)


WHAT: dict[str, tuple[str, str, Read]] = {
    "return": ("expected return", "reward units", _return),
    "elbo": ("α·ELBO(π)", "reward units", _elbo),
    "gap": ("ELBO* − ELBO(π)", "nats", _gap),
}
"""What a ladder may show: its name, its unit, and how it is read off a row."""


def temperature_ladder(
    comparisons: Sequence[Comparison],
    what: str = "return",
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw return, α·ELBO or the gap to ELBO* against the temperature, one line for each policy, colder to the left.

    With "elbo" the dashed line is α·ELBO* and the dotted one α·log Z. With "gap" the dotted line is log Z − ELBO*, and
    gaps of exactly 0 lie at the bottom of the logarithmic axis. A learner's line is the interquartile mean over seeds.

    Args:
        comparisons: comparisons of one world at two or more temperatures, in any order.
        what: "return" (reward units), "elbo" (α·ELBO, reward units) or "gap" (nats).
        scale: the ends of the vertical axis.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: there are fewer than two, or two at one temperature; or ``what`` is none of these.
    """
    if what not in WHAT:
        raise fault("temperature_ladder, what", f"{what!r}", f"one of {list(WHAT)}")
    if isinstance(comparisons, Comparison) or len(comparisons) < 2:
        seen = "one comparison" if isinstance(comparisons, Comparison) else f"{len(comparisons)} comparisons"
        raise fault("temperature_ladder", seen, "a list of two at least, at different temperatures")
    ordered = coldest_first(comparisons)
    alphas = [comparison.temperature for comparison in ordered]
    words, unit, read = WHAT[what]
    lines = _lines(ordered, read) | _exact(ordered, what)
    ends = {name: next((y for y in values[::-1] if np.isfinite(y)), np.nan) for name, values in lines.items()}
    room = Room(left=0.62, right=width_of([(name, brief(end)) for name, end in ends.items()]), bottom=0.45)
    ax = panel(ax, (2.3, 2.3), room, title or f"{words}, {unit}")
    if what == "gap":
        log_floor(ax, list(lines.values()), scale)
    else:
        ax.set_ylim(*(scale or _frame(list(lines.values()), list(_exact(ordered, what).values()))))
    low = ax.get_ylim()[0] if what == "gap" else -np.inf
    drawn = {name: np.where(np.isfinite(values), np.maximum(values, low), np.nan) for name, values in lines.items()}
    for name, values in drawn.items():
        ax.plot(alphas, values, **_look(name, list(lines)))
    _axis(ax, alphas)
    known = [name for name in drawn if np.isfinite(ends[name])]
    last = {name: drawn[name][np.isfinite(drawn[name])][-1] for name in known}
    looks = {name: _look(name, list(lines)) for name in known}
    name_ends(
        ax, [Label(last[name], name, brief(ends[name]), own["color"], own["linestyle"]) for name, own in looks.items()]
    )
    return tell(ax, _told(words, unit, alphas, lines), ax.get_ylim())


def _lines(ordered: Sequence[Comparison], read: Read) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys(row.name for comparison in ordered for row in comparison.rows)

    def one(comparison: Comparison, name: str) -> float:
        value = next((read(comparison, row) for row in comparison.rows if row.name == name), None)
        return np.nan if value is None else float(value)

    return {name: np.array([one(comparison, name) for comparison in ordered]) for name in names}


def _exact(ordered: Sequence[Comparison], what: str) -> dict[str, NDArray[Any]]:
    """Return the exact answers that stand beside the policies."""

    def times(field: str) -> NDArray[Any]:
        values = [(comparison.temperature, getattr(comparison, field)) for comparison in ordered]
        return np.array([np.nan if nats is None else alpha * nats for alpha, nats in values])

    if what == "return":
        return {}
    if what == "elbo":
        return {"α·ELBO*": times("elbo_star"), "α·log Z": times("log_evidence")}
    alphas = np.array([comparison.temperature for comparison in ordered])
    promised = (times("log_evidence") - times("elbo_star")) / alphas
    sizes = np.abs(times("log_evidence") / alphas)
    return {"log Z − ELBO*": np.where(np.abs(promised) <= 1e-9 * np.maximum(1, sizes), 0.0, promised)}


def _look(name: str, names: Sequence[str]) -> dict[str, Any]:
    if name in ("α·ELBO*", "α·log Z", "log Z − ELBO*"):
        return {"color": INK, "linestyle": "--" if name == "α·ELBO*" else ":", "linewidth": 1.2, "zorder": 2}
    n = list(names).index(name)
    own = look(n)
    early = 1.6 * (len(names) - 1 - n) / max(1, len(names) - 1)  # where lines coincide, the earlier one is a rim
    drawn = {"color": own.colour, "marker": own.marker, "linestyle": own.dash}
    return {**drawn, "markersize": 4.5 + early, "linewidth": 1.3 + early}


def log_floor(ax: Axes, lines: Sequence[NDArray[Any]], scale: tuple[float, float] | None) -> float:
    """Set a logarithmic axis for gaps; those of exactly nothing lie on its floor, labelled 0, which is returned."""
    every = np.concatenate(lines)
    positive = every[np.isfinite(every) & (every > 0)]
    nothing = bool((every <= 0).any())
    floor = float(positive.min()) / (10 if nothing else 2) if positive.size else 1e-3
    low, high = scale or (floor, float(positive.max()) * 2 if positive.size else 1.0)
    log_ticks(ax, low, high, (low * (2.5 if nothing else 1), high))
    if nothing:
        ax.text(-0.03, 0.0, "0", transform=ax.transAxes, ha="right", va="center", fontsize=8, color=INK)
    return low


def _frame(lines: Sequence[NDArray[Any]], exact: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the heights that are shown: a line that falls far below the exact answers leaves the frame."""
    every = np.concatenate(lines)
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    answers = np.concatenate(exact) if exact else every
    answers = answers[np.isfinite(answers)]
    if answers.size:
        inner = max(float(answers.max() - answers.min()), 1e-9 * abs(high))
        low = low if float(answers.min()) - low <= 3 * inner else float(answers.min()) - 0.6 * inner
    air = 0.05 * (high - low) or 0.05 * max(1.0, abs(high))
    return low - air, high + air


def _axis(ax: Axes, alphas: Sequence[float]) -> None:
    open_axes(ax, "temperature α, reward units")
    ax.set_xscale("log")
    ax.set_xlim(min(alphas), max(alphas))
    place = np.log(alphas)
    apart = 0.14 * (place[-1] - place[0])
    shown = [alphas[0]]
    for alpha in alphas[1:-1]:
        if np.log(alpha) - np.log(shown[-1]) > apart and place[-1] - np.log(alpha) > apart:
            shown.append(alpha)
    shown.append(alphas[-1])
    ax.set_xticks(shown, [show(alpha) for alpha in shown])
    ax.xaxis.set_minor_locator(NullLocator())


def _told(words: str, unit: str, alphas: Sequence[float], lines: dict[str, NDArray[Any]]) -> str:
    cold, warm = (show(alpha) for alpha in (alphas[0], alphas[-1]))
    each = (f"{name}: {show(float(values[0]))} to {show(float(values[-1]))}" for name, values in lines.items())
    return f"{words}, {unit}, from α = {cold} to α = {warm}. {'; '.join(each)}."
