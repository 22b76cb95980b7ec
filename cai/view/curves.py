"""The curves of fits: ELBO(π) and its gap to ELBO* at each step, one line for each fit."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.learn.result import Learned
from cai.support.numbers import brief, rounded, show
from cai.view.canvas import Room, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.ladder import log_floor
from cai.view.panel_rows import Panels
from cai.view.policy_looks import Look, looks_of
from cai.view.style import GREY, INK
from cai.view.vector import tell

Points = NDArray[Any]
"""Steps and nats, ``[N, 2]``."""
EXACT = frozenset({"tables", "enumeration"})
"""The estimators whose recorded ELBO is exact; the others' is the mean of a step's particles."""
WIDE = (2.9, 2.4)
"""The size of a panel, inches."""
MANY = 200
"""From so many steps on the steps' axis is logarithmic."""


@dataclass(frozen=True)
class ElboCurve:
    """One fit made ready to be drawn; what is not finite is left out.

    Attributes:
        name: of the fit.
        noisy: estimates of ELBO(π), nats; empty for an exact estimator.
        exact: exact values of ELBO(π), nats: all, or those whose gap was computed; the end's too, if it is exact.
        gaps: ELBO* - ELBO(π), nats, where it was computed; 0 where it is rounding.
        end: the last step and ELBO(π) there, nats, ``[1, 2]``.
        error: the standard error of the end, nats.
        own: its colour, marker and dashes.
    """

    name: str
    noisy: Points
    exact: Points
    gaps: Points
    end: Points
    error: float
    own: Look

    @property
    def line(self) -> Points:
        """What the eye should follow: the exact values, or where there is no more than one, the estimates' mean."""
        if len(self.exact) > 1 or not len(self.noisy):
            return self.exact
        window = np.ones(max(1, len(self.noisy) // 10))
        return np.stack([np.convolve(axis, window / window.size, "valid") for axis in self.noisy.T], -1)


def curve_of(name: str, fit: Learned, own: Look) -> ElboCurve:
    """Read a fit's history as points."""
    star, sure = fit.elbo_star, fit.estimator in EXACT
    before = [row for row in fit.history if row.steps < fit.steps]  # the record of the last step is the result itself
    seen = [(row.steps, row.elbo) for row in before if row.elbo is not None]
    known = [(row.steps, row.policy_nats) for row in before if row.policy_nats is not None]
    exact = seen if sure else [] if star is None else [(step, star - gap) for step, gap in known]
    end = (fit.steps, math.nan if fit.elbo is None else fit.elbo)
    missing = [] if fit.gap is None else [(fit.steps, fit.gap)]
    return ElboCurve(
        name=name,
        noisy=_points([] if sure else seen),
        exact=_points([*exact, *([] if fit.samples else [end])]),
        gaps=_points([(step, rounded(gap, star) or 0.0) for step, gap in [*known, *missing]]),
        end=_points([end]),
        error=fit.standard_error or 0.0,
        own=own,
    )


def _points(pairs: Sequence[tuple[int, float]]) -> Points:
    points = np.array(pairs, dtype=float).reshape(-1, 2)
    finite: Points = points[np.isfinite(points).all(-1)]
    return finite


def elbo_curves(
    fits: Mapping[str, Learned],
    *,
    elbo_star: float | None,
    log_evidence: float | None,
    among: Comparison | Iterable[str] | None = None,
) -> Panels:
    """Draw ELBO(π) of each fit against its updates, with ELBO* and log Z; beside it the gap to ELBO* where it is known.

    Args:
        fits: by name.
        elbo_star: ELBO*, nats; None where it is not known.
        log_evidence: log Z, nats; None where it is not known.
        among: a comparison, or names, among which the fits are: they have the colours that they have there.

    Raises:
        WorldError: there is no fit.
    """
    if not fits:
        raise fault("elbo_curves, fits", "none", "at least one fit")
    looks = looks_of(fits if among is None else among)
    curves = [curve_of(name, fit, looks[name]) for name, fit in fits.items()]
    last = max(1, *(fit.steps for fit in fits.values()))
    answers = _answers(elbo_star, log_evidence)
    alphas = {fit.temperature for fit in fits.values()}
    about = f", α = {show(alphas.pop())}" if len(alphas) == 1 else ""
    notes = _how_to_read(curves) + _measured_against_log_z(fits, elbo_star)
    drawn = {"elbo": _draw_elbo(curves, answers, last, notes, about)}
    if any(len(curve.gaps) for curve in curves):
        drawn["gap"] = _draw_gaps(curves, last, about)
    return Panels(drawn)


def _how_to_read(curves: Sequence[ElboCurve]) -> str:
    text = ""
    if any(len(curve.noisy) for curve in curves):
        text += " Pale: the noisy estimate of a step; marked: exact."
    if any(len(curve.noisy) and len(curve.exact) < 2 for curve in curves):
        text += " A line without marks: a running mean of estimates."
    return text


def _measured_against_log_z(fits: Mapping[str, Learned], elbo_star: float | None) -> str:
    """Name the fits whose best is another one, log Z: their guides bend the dynamics too."""
    if elbo_star is None:
        return ""
    bests = {name: fit.elbo_star for name, fit in fits.items() if fit.elbo_star is not None}
    names = [name for name, best in bests.items() if rounded(best - elbo_star, elbo_star)]
    return f" Compared with log Z, because a full guide also changes the dynamics: {', '.join(names)}." if names else ""


def _draw_elbo(curves: Sequence[ElboCurve], answers: Sequence["Answer"], last: int, notes: str, about: str) -> Figure:
    words = [(answer.name, f"= {show(answer.value)} ↑") for answer in answers]
    words += [(curve.name, _end(curve)) for curve in curves]
    room = Room(left=0.75, right=width_of(words), bottom=0.45 + 0.16 * (2 + len(notes) // 60))
    axes = panel(None, WIDE, room, "ELBO(π), nats")
    _steps_axis(axes, last)
    for curve in curves:
        axes.plot(*curve.noisy.T, color=curve.own.colour, linewidth=0.7, alpha=0.35, zorder=1.5)
        _draw_line(axes, curve.line, curve.own, marks=len(curve.noisy) > 0 and len(curve.exact) > 1)
        end: dict[str, Any] = {**_look(curve.own), "markersize": 5, "capsize": 3, "zorder": 4}
        axes.errorbar(curve.end[:, 0], curve.end[:, 1], yerr=curve.error or None, **end)
    low, high = _frame(axes, curves, answers)
    axes.set_ylim(low, high)
    for answer in answers:
        axes.axhline(answer.value, **answer.look, zorder=2)
    labels = [
        Label(answer.value, f"{answer.name} = {show(answer.value)}" + (" ↑" if answer.value > high else ""), "", INK)
        for answer in answers
    ]
    ends = [curve for curve in curves if len(curve.end)]
    labels += [_label(curve, float(curve.end[0, 1]), _end(curve)) for curve in ends]
    name_ends(axes, labels)
    left_out = _left_out(curves, low)
    below = textwrap.fill(". ".join(part for part in (left_out, notes.strip()) if part), 62)
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top"}
    axes.text(0.0, -0.42 / WIDE[1], below, **place, fontsize=7.5, color=GREY)
    exact = "; ".join(f"{answer.name} = {show(answer.value)}" for answer in answers)
    return tell(axes, f"ELBO of fits, nats, step by step{about}. {_told(curves)} {exact}. {below}".replace("\n", " "))


def _label(curve: ElboCurve, height: float, words: str) -> Label:
    return Label(height, curve.name, words, curve.own.colour, curve.own.dash)


def _end(curve: ElboCurve) -> str:
    return brief(float(curve.end[0, 1]), 4) if len(curve.end) else ""


def _told(curves: Sequence[ElboCurve]) -> str:
    """Say where each fit begins and ends."""
    each = [
        f"{curve.name}: {show(float(curve.line[0, 1]))} to {_end(curve)}"
        for curve in curves
        if len(curve.line) and len(curve.end)
    ]
    return f"{'; '.join(each)}." if each else ""


def _left_out(curves: Sequence[ElboCurve], low: float) -> str:
    """Say which fits begin below the frame, and which end at -inf."""
    below = [
        f"{curve.name} from {show(float(curve.line[0, 1]))}" for curve in curves if (curve.line[:1, 1] < low).any()
    ]
    lost = [curve.name for curve in curves if not len(curve.end)]
    parts = {"begins below the frame": below, "ends at −∞": lost}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def _draw_gaps(curves: Sequence[ElboCurve], last: int, about: str) -> Figure:
    known = [curve for curve in curves if len(curve.gaps)]
    ends = {curve.name: float(curve.gaps[-1, 1]) for curve in known}
    words = [(name, brief(end)) for name, end in ends.items()]
    axes = panel(None, WIDE, Room(left=0.65, right=width_of(words), bottom=0.45), "ELBO* − ELBO(π), nats")
    _steps_axis(axes, last)
    every = np.concatenate([curve.gaps[:, 1] for curve in known])
    floor = log_floor(axes, [every], None)
    for curve in known:
        points = np.stack([curve.gaps[:, 0], np.maximum(curve.gaps[:, 1], floor)], -1)
        _draw_line(axes, points, curve.own, marks=len(curve.noisy) > 0)
        axes.plot(*points[-1:].T, **_look(curve.own), markersize=5, zorder=4)
    name_ends(axes, [_label(curve, max(ends[curve.name], floor), brief(ends[curve.name])) for curve in known])
    each = (f"{curve.name}: {show(float(curve.gaps[0, 1]))} to {show(ends[curve.name])}" for curve in known)
    return tell(axes, f"ELBO* − ELBO(π) of fits, nats, step by step, logarithmic{about}. {'; '.join(each)}.")


def _draw_line(axes: Axes, points: Points, own: Look, marks: bool) -> None:
    marked: dict[str, Any] = {**_look(own), "markersize": 4, "markevery": 0.04} if marks else {"color": own.colour}
    axes.plot(*points.T, **marked, linestyle=own.dash, linewidth=1.5, zorder=3)


def _look(own: Look) -> dict[str, Any]:
    return {"color": own.colour, "marker": own.marker}


def _steps_axis(axes: Axes, last: int) -> None:
    if last >= MANY:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.1, 1.2 * last)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlim(-0.02 * last, 1.03 * last)
    axes.xaxis.set_major_formatter(lambda step, place: f"{step:,.0f}")
    open_axes(axes, "steps")


def _frame(axes: Axes, curves: Sequence[ElboCurve], answers: Sequence["Answer"]) -> tuple[float, float]:
    """Return the heights to be shown: far-away first steps fall out below, a far-away log Z above."""
    reaches = [_reach(axes, curve) for curve in curves if len(curve.line) or len(curve.end)] or [(0.0, 0.0)]
    low, high = min(low for low, _ in reaches), max(high for _, high in reaches)
    for answer in answers:  # ELBO* always, log Z where it is not too far away
        if "ELBO*" in answer.name or answer.value - high <= high - low:
            low, high = min(low, answer.value), max(high, answer.value)
    margin = 0.06 * (high - low) or 0.05 * max(1.0, abs(high))
    return low - margin, high + margin


def _reach(axes: Axes, curve: ElboCurve) -> tuple[float, float]:
    """Return the lowest and the highest that count: of its width on the axis, a third may fall below the frame."""
    points = np.concatenate([curve.line, curve.end])
    width = axes.transScale.transform(np.stack([points[:, 0], np.ones(len(points))], -1))[:, 0]
    evenly = np.interp(np.linspace(width[0], width[-1], 300), width, points[:, 1])
    settled = min(float(np.quantile(evenly, 1 / 8)), float(points[-1, 1]) - curve.error)
    lowest, highest = float(points[:, 1].min()), float(points[:, 1].max()) + curve.error
    return (lowest if highest - lowest <= 2 * (highest - settled) else settled), highest


@dataclass(frozen=True)
class Answer:
    """An exact answer as a horizontal rule: its name, its value in nats and the style of its line."""

    name: str
    value: float
    look: dict[str, Any]


def _answers(elbo_star: float | None, log_evidence: float | None) -> list[Answer]:
    """Return the rules that are known, from the top down; one where both coincide."""
    dotted, dashed = ({"color": INK, "linewidth": 1.1, "linestyle": style} for style in (":", "--"))
    if elbo_star is not None and log_evidence is not None and rounded(log_evidence - elbo_star, log_evidence) == 0:
        return [Answer("ELBO* = log Z", elbo_star, dashed)]
    known = (("log Z", log_evidence, dotted), ("ELBO*", elbo_star, dashed))
    return [Answer(name, value, look) for name, value, look in known if value is not None]
