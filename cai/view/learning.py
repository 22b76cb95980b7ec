"""How learners came to be good: policy nats and returns against environment steps, a line and a band a learner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, MaxNLocator
from numpy.typing import NDArray

from cai.errors import fault
from cai.evaluation.across_seeds import Curve, Estimate
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import Row
from cai.support.numbers import MINUS, brief, short, show
from cai.view.style import DPI, FAINT, GREY, INK, LINES, Margins, panels, plain

Array = NDArray[Any]
LABEL = 0.165
"""The height of a label at the right of a panel, inches."""
APART = 8.0
"""From so many times as many steps on, the steps' axis is logarithmic."""
DEEPEST = 1e-9
"""Gaps below this are rounding."""
DASHES = ("-", "--", ":")
"""Where there are more learners than colours."""


@dataclass(frozen=True)
class Label:
    """A name at the right of a panel: the height it points to, in data units, its words and its colour."""

    height: float
    name: str
    words: str
    colour: str


def nats_curves(comparison: Comparison) -> Figure:
    """Draw policy nats against environment steps on a logarithmic scale, a line and a seed band a learner.

    Raises:
        WorldError: no history knows its policy nats.
    """
    curves = _of_field(comparison, "policy_nats")
    if not curves:
        raise fault(
            "nats_curves", "no history that knows policy nats", "runs on a world with tables and a finite ELBO*"
        )
    title = f"Policy nats while learning, α = {show(comparison.temperature)}"
    how = (
        "ELBO* − ELBO(π), what is still missing to the best policy: interquartile mean over seeds, 95 % bootstrap "
        "band. At the right the end and, in brackets, the worst at or after the best. Grey: policies that do not learn."
    )
    figure, (axes,) = panels(1, (6.9, 4.1), title, how, Margins(left=0.75, right=2.75, top=1.0, bottom=0.6))
    plain(axes, "ELBO* − ELBO(π), nats")
    _steps_axis(axes, list(curves.values()))
    fixed = {name: x for name, x in _fixed_values(comparison, "policy_nats").items() if x > DEEPEST}
    ends = {name: comparison.row(name).estimate("policy_nats") for name in comparison.runs}
    known = {name: end for name, end in ends.items() if end is not None}
    others = [*fixed.values(), *(end.value for end in known.values())]
    frame = _log_frame(axes, list(curves.values()), others)
    for name, curve in curves.items():
        _draw(axes, curve, looks(comparison)[name], frame)
    _draw_fixed_values(axes, fixed, frame)
    labels = []
    for name, end in known.items():
        height, colour = _within(end.value, frame), _colour(comparison, name)
        if name not in curves:  # only its end is known
            axes.plot(axes.get_xlim()[1], height, "D", color="white", markeredgecolor=colour, clip_on=False, zorder=4)
        labels.append(Label(height, name, _words(end, comparison.row(name).estimate("worst_policy_nats")), colour))
    label_column(axes, [*labels, *_labels_of(fixed, frame)])
    return figure


def return_curves(comparison: Comparison) -> Figure:
    """Draw the return of the policy and that of its most probable action against environment steps, reward units."""
    title = f"Returns while learning, α = {show(comparison.temperature)}"
    how = (
        "E[Σ r], reward units: interquartile mean over seeds, 95 % bootstrap band. Left: acting as the policy does, by "
        "chance. Right: always its most probable action; in brackets the worst at or after the best."
    )
    room = Margins(left=0.75, right=2.25, top=1.0, bottom=0.6, across=2.35)
    figure, axes = panels(2, (3.2, 3.5), title, how, room)
    fixed = _fixed_values(comparison, "expected_return")
    for ax, (field, words, read) in zip(axes, RETURNS, strict=True):
        curves = _of_field(comparison, field)
        plain(ax, f"{words}, reward units")
        _steps_axis(ax, list(curves.values()))
        frame = _linear_frame(ax, list(curves.values()), list(fixed.values()))
        for name, curve in curves.items():
            _draw(ax, curve, looks(comparison)[name], frame)
        _draw_fixed_values(ax, fixed, frame)
        labels = [
            Label(_within(float(curve.value[-1]), frame), name, read(comparison.row(name)), _colour(comparison, name))
            for name, curve in curves.items()
        ]
        label_column(ax, [*labels, *_labels_of(fixed, frame)])
    return figure


RETURNS: tuple[tuple[str, str, Callable[[Row], str]], ...] = (
    ("stochastic_return", "return of the policy", lambda row: _words(row.estimate("expected_return"), None)),
    (
        "deterministic_return",
        "return of its likeliest action",
        lambda row: _words(row.estimate("deterministic_return"), row.estimate("worst_return")),
    ),
)
"""The panels of returns: the field of ``Progress``, its heading, and what is written at the right."""


def label_column(axes: Axes, labels: Sequence[Label]) -> None:
    """Write labels at the right of an axes, each as near to its height as the others let it, with a leader line."""
    if not labels:
        return
    inches = axes.get_window_extent().height / DPI
    ordered = sorted(labels, key=lambda label: label.height)
    points = [axes.transData.transform((1.0, label.height))[1] for label in ordered]
    box = axes.get_window_extent()
    wished = [(point - box.y0) / box.height for point in points]
    width = box.width / DPI
    for label, y, to in zip(ordered, wished, spread(wished, LABEL / inches), strict=True):
        leader = ([1.0, 1 + 0.06 / width, 1 + 0.14 / width], [y, to, to])
        axes.plot(*leader, transform=axes.transAxes, color=label.colour, linewidth=0.8, clip_on=False, zorder=5)
        place: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "parse_math": False}
        weight = "normal" if label.colour == GREY else "bold"
        x = 1 + 0.18 / width
        text = axes.text(x, to, label.name, **place, fontsize=8, color=label.colour, fontweight=weight)
        after = (text.get_window_extent().x1 - box.x0) / box.width + 0.07 / width
        axes.text(after, to, label.words, **place, fontsize=7.5, color=INK if label.colour != GREY else GREY)


def spread(wished: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Move ascending heights apart until neighbours are ``gap`` apart, within the bounds where they fit."""
    top = max(high, low + gap * (len(wished) - 1))
    placed: list[float] = []
    for n, height in enumerate(wished):
        placed.append(max(height, placed[-1] + gap) if n else max(height, low))
    for n in reversed(range(len(placed))):
        placed[n] = min(placed[n], top if n == len(placed) - 1 else placed[n + 1] - gap)
    return placed


def _of_field(comparison: Comparison, field: str) -> dict[str, Curve]:
    return {name: curves[field] for name, curves in comparison.curves.items() if field in curves}


def looks(comparison: Comparison) -> Mapping[str, tuple[str, str]]:
    """Give every learner its colour and its dashes, the same in every picture."""
    many = len(LINES)
    return {name: (LINES[n % many], DASHES[n // many % len(DASHES)]) for n, name in enumerate(comparison.runs)}


def _colour(comparison: Comparison, name: str) -> str:
    return looks(comparison)[name][0]


def _fixed_values(comparison: Comparison, field: str) -> dict[str, float]:
    """Return the numbers of the policies that do not learn, as far as they are finite."""
    rows = [row for row in comparison.rows if not row.seeds]
    values = {row.name: getattr(row, field) for row in rows}
    return {name: value for name, value in values.items() if value is not None and np.isfinite(value)}


def _draw_fixed_values(axes: Axes, fixed: Mapping[str, float], frame: tuple[float, float]) -> None:
    for value in fixed.values():
        if frame[0] < value < frame[1]:
            axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5)


def _labels_of(fixed: Mapping[str, float], frame: tuple[float, float]) -> list[Label]:
    return [Label(_within(value, frame), name, brief(value), GREY) for name, value in fixed.items()]


def _within(value: float, frame: tuple[float, float]) -> float:
    return min(max(value, frame[0]), frame[1])


def _draw(axes: Axes, curve: Curve, look: tuple[str, str], frame: tuple[float, float]) -> None:
    """Draw a curve and its band, and a fine line on to the label where it ends early; what is outside lies on the edge.

    Infinite values lie there too.
    """
    colour, dash = look
    value, below, above = (np.clip(field.numpy(), *frame) for field in (curve.value, curve.low, curve.high))
    axes.fill_between(curve.steps.numpy(), below, above, color=colour, alpha=0.16, linewidth=0, zorder=2)
    end: dict[str, Any] = {"marker": "o", "markersize": 4, "markevery": [-1], "clip_on": False}
    axes.plot(curve.steps.numpy(), value, color=colour, linestyle=dash, linewidth=1.7, zorder=3, **end)
    rest, right = float(curve.steps[-1]), axes.get_xlim()[1]
    if rest < right:
        axes.plot([rest, right], [value[-1], value[-1]], color=colour, linewidth=0.6, alpha=0.6, zorder=2)


def _words(final: Estimate | None, worst: Estimate | None) -> str:
    """Write the end of a learner, and in brackets the worst at or after its best."""
    if final is None:
        return ""
    return brief(final.value) + (f" ({brief(worst.value)})" if worst is not None else "")


def _steps_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    ends = [float(curve.steps[-1]) for curve in curves] or [1.0]
    positive = [float(curve.steps[curve.steps > 0][0]) for curve in curves if bool((curve.steps > 0).any())]
    if positive and max(ends) > APART * max(min(ends), min(positive)):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.4)
        axes.set_xlim(0, max(ends))
    else:
        axes.set_xlim(0, max([*ends, 1.0]))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))
    axes.set_xlabel("environment steps (updates, for a fit)", fontsize=8, color=INK, labelpad=2)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _log_frame(axes: Axes, curves: Sequence[Curve], others: Sequence[float]) -> tuple[float, float]:
    """Set a logarithmic scale: gaps of nothing lie on its floor, infinite ones on its top, and both are labelled."""
    drawn = np.concatenate(
        [*(field.numpy() for curve in curves for field in (curve.value, curve.low, curve.high)), others]
    )
    seen = drawn[np.isfinite(drawn) & (drawn > DEEPEST)]
    floor, top = (float(seen.min()) / 1.6, float(seen.max()) * 1.6) if seen.size else (1e-3, 1.0)
    nothing, endless = bool((drawn <= DEEPEST).any()), bool(np.isinf(drawn).any())
    floor, top = floor / (4 if nothing else 1), top * (4 if endless else 1)
    axes.set_yscale("log")
    axes.set_ylim(floor, top)
    powers = LogFormatterMathtext()
    edge = (floor * (2.5 if nothing else 1), top / (2.5 if endless else 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, at: powers(y, at) if edge[0] <= y <= edge[1] else ""))
    for shown, height, text in ((nothing, 0.0, "0"), (endless, 1.0, "∞")):
        if shown:
            axes.text(-0.012, height, text, transform=axes.transAxes, ha="right", va="center", fontsize=8, color=INK)
    return floor, top


def _linear_frame(axes: Axes, curves: Sequence[Curve], others: Sequence[float]) -> tuple[float, float]:
    """Frame the interquartile means and the others' numbers; bands that reach farther are cut."""
    drawn = np.concatenate([*(curve.value.numpy() for curve in curves), others])
    seen = drawn[np.isfinite(drawn)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * max(1.0, abs(high))
    axes.set_ylim(low - margin, high + margin)
    if bool(np.isneginf(drawn).any()):
        place: dict[str, Any] = {
            "transform": axes.transAxes,
            "ha": "right",
            "va": "center",
            "fontsize": 8,
            "color": INK,
        }
        axes.text(-0.02, 0.0, f"{MINUS}∞", **place)
    return low - margin, high + margin
