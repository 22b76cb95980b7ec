"""Learning curves: the results of each learner over steps, with a line and a band over its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cai.errors import fault
from cai.evaluation.across_seeds import Curve, learning_curve
from cai.evaluation.comparison import Comparison
from cai.evaluation.subject import Run
from cai.support.numbers import brief, short, show
from cai.view.canvas import Array, Room, log_ticks, open_axes, panel
from cai.view.curve_names import LINE, Label, name_ends, width_of
from cai.view.policy_looks import looks_of
from cai.view.readings import by_name
from cai.view.style import INK
from cai.view.vector import tell

WHAT = {
    "policy_nats": ("ELBO* − ELBO(π)", "nats", "policy_nats"),
    "stochastic_return": ("return of the policy", "reward units", "expected_return"),
    "deterministic_return": ("return of its likeliest action", "reward units", "expected_return"),
    "elbo": ("ELBO(π)", "nats", "elbo"),
}
"""What is followed: its name, its unit, and the column of policies that do not learn."""
APART = 8.0
"""From so many times as many steps on, the steps' axis is logarithmic."""
DEEPEST = 1e-9
"""Gaps below this are rounding."""


def learning_curves(
    runs: Comparison | Mapping[str, Run | Sequence[Run]],
    what: str = "policy_nats",
    *,
    scale: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw learning curves: the interquartile mean over the seeds against steps, with a 95 % bootstrap band.

    Nats have a logarithmic axis, with 0 at its bottom and infinity at its top. In a comparison, policies that do not
    learn are dotted lines.

    Args:
        runs: a comparison, or a dict by name of one run, or of several seeds as ``cai.learn.many`` returns them.
        what: "policy_nats", "stochastic_return", "deterministic_return" or "elbo".
        scale: the ends of the vertical axis.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: ``what`` is something else, or no run has measured it.
    """
    if what not in WHAT:
        raise fault("learning_curves, what", f"{what!r}", f"one of {list(WHAT)}")
    words, unit, column = WHAT[what]
    curves, fixed = _curves(runs, what), _fixed(runs, column)
    if not curves:
        raise fault("learning_curves", f"no run that knows its {what}", "runs on a world with tables and exact answers")
    ends = {name: float(curve.value[-1]) for name, curve in curves.items()}
    wide = width_of([(name, brief(end)) for name, end in (ends | fixed).items()])
    high = max(2.4, LINE * (len(ends) + len(fixed)))
    ax = panel(ax, (2.6, high), Room(left=0.62, right=wide, bottom=0.45), title or f"{words}, {unit}")
    open_axes(ax, "steps")
    _steps_axis(ax, list(curves.values()))
    frame = _log_frame if what == "policy_nats" else _linear_frame
    low, high = frame(ax, list(curves.values()), list(fixed.values()), scale)
    labels, looks = [], looks_of(runs)
    for name, curve in curves.items():
        colour, dash = looks[name].colour, looks[name].dash
        _draw(ax, curve, colour, dash, (low, high))
        labels.append(Label(ends[name], name, brief(ends[name]), colour, dash))
    for name, value in fixed.items():
        colour = looks[name].colour
        if low < value < high:
            ax.axhline(value, color=colour, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1.5)
        labels.append(Label(value, name, brief(value), colour, ":"))
    name_ends(ax, labels)
    return tell(ax, _told(words, unit, curves, fixed), ax.get_ylim())


def _curves(runs: Comparison | Mapping[str, Run | Sequence[Run]], what: str) -> dict[str, Curve]:
    every = runs.runs if isinstance(runs, Comparison) else by_name(runs, "learning_curves")
    seeds = {name: tuple(each) if isinstance(each, Sequence) else (each,) for name, each in every.items()}
    curves = {name: learning_curve(each, what) for name, each in seeds.items()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def _fixed(runs: Comparison | Mapping[str, Any], column: str) -> dict[str, float]:
    """Return the numbers of the policies that do not learn, as far as they are finite, gaps of nothing left out."""
    if not isinstance(runs, Comparison):
        return {}
    values = {row.name: getattr(row, column) for row in runs.rows if not row.seeds and column in row.cells}
    known = {name: value for name, value in values.items() if value is not None and np.isfinite(value)}
    return {name: value for name, value in known.items() if column != "policy_nats" or value > DEEPEST}


def _draw(ax: Axes, curve: Curve, colour: str, dash: str, frame: tuple[float, float]) -> None:
    """Draw a curve and its band, what is outside on the edge; a fine line leads on where it ends early."""
    value, below, above = (np.clip(field.numpy(), *frame) for field in (curve.value, curve.low, curve.high))
    ax.fill_between(curve.steps.numpy(), below, above, color=colour, alpha=0.2, linewidth=0, zorder=2)
    ax.plot(curve.steps.numpy(), value, color=colour, linestyle=dash, linewidth=1.7, zorder=3)
    rest, right = float(curve.steps[-1]), ax.get_xlim()[1]
    if rest < right:
        ax.plot([rest, right], [value[-1], value[-1]], color=colour, linewidth=0.6, alpha=0.6, zorder=2)


def _steps_axis(ax: Axes, curves: Sequence[Curve]) -> None:
    ends = [float(curve.steps[-1]) for curve in curves]
    positive = [float(curve.steps[curve.steps > 0][0]) for curve in curves if bool((curve.steps > 0).any())]
    if positive and max(ends) > APART * max(min(ends), min(positive)):
        ax.set_xscale("symlog", linthresh=min(positive), linscale=0.4)
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(0, max([*ends, 1.0]))
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))


def _every(curves: Sequence[Curve], others: Sequence[float]) -> Array:
    fields = [field.numpy() for curve in curves for field in (curve.value, curve.low, curve.high)]
    return np.concatenate([*fields, np.array(others, dtype=float)])


def _log_frame(
    ax: Axes, curves: Sequence[Curve], others: Sequence[float], scale: tuple[float, float] | None
) -> tuple[float, float]:
    """Set a logarithmic axis: gaps of nothing lie on its floor, infinite ones on its top, and both are labelled."""
    drawn = _every(curves, others)
    seen = drawn[np.isfinite(drawn) & (drawn > DEEPEST)]
    floor, top = (float(seen.min()) / 1.6, float(seen.max()) * 1.6) if seen.size else (1e-3, 1.0)
    nothing, endless = bool((drawn <= DEEPEST).any()), bool(np.isinf(drawn).any())
    floor, top = scale or (floor / (4 if nothing else 1), top * (4 if endless else 1))
    log_ticks(ax, floor, top, (floor * (2.5 if nothing else 1), top / (2.5 if endless else 1)))
    for shown, height, text in ((nothing, 0.0, "0"), (endless, 1.0, "∞")):
        if shown:
            ax.text(-0.02, height, text, transform=ax.transAxes, ha="right", va="center", fontsize=8, color=INK)
    return floor, top


def _linear_frame(
    ax: Axes, curves: Sequence[Curve], others: Sequence[float], scale: tuple[float, float] | None
) -> tuple[float, float]:
    """Frame the interquartile means and the others' numbers; bands that reach farther are cut."""
    seen = np.concatenate([*(curve.value.numpy() for curve in curves), np.array(others, dtype=float)])
    seen = seen[np.isfinite(seen)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    air = 0.06 * (high - low) or 0.05 * max(1.0, abs(high))
    low, high = scale or (low - air, high + air)
    ax.set_ylim(low, high)
    return low, high


def _told(words: str, unit: str, curves: Mapping[str, Curve], fixed: Mapping[str, float]) -> str:
    seeds = sorted({curve.runs for curve in curves.values()})
    over = f"{seeds[-1]} seed{'s' * (seeds[-1] > 1)}"
    each = [
        f"{name}: {show(float(curve.value[0]))} to {show(float(curve.value[-1]))} "
        f"after {short(float(curve.steps[-1]))} steps"
        for name, curve in curves.items()
    ]
    each += [f"{name}, which does not learn: {show(value)}" for name, value in fixed.items()]
    return f"Learning curves, {words}, {unit}, over {over}. {'; '.join(each)}."
