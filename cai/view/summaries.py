"""Figures of the numbers themselves: where every nat goes, and the ladder over temperatures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import Row
from cai.support.numbers import rounded, show
from cai.view.style import FAINT, INK, LINES, MARKERS, Margins, drawn, foot_key, log_gaps, panels, plain

PARTS = {"start": "#9aa3ad", "action": "#E69F00", "luck": "#7b5aa6"}
POLICY = "#D55E00"


def accounts(comparison: Comparison) -> Figure:
    """Draw where every nat goes: log Z - ELBO(π) as start, action and luck nats, and ELBO* - ELBO(π), bar by bar."""
    names = [row.name for row in comparison.rows]
    title = f"Where every nat goes, α = {show(comparison.temperature)}"
    how = "Left: from log Z down to each policy's ELBO. Right: from ELBO* down to it. Shorter is better; nats."
    size = (4.2, 0.34 * len(names) + 0.25)
    figure, (left, right) = panels(2, size, title, how, Margins(left=1.6, right=0.8, top=1.0, bottom=0.85, across=1.1))
    totals = [row.evidence_gap for row in comparison.rows]
    start = np.zeros(len(names))
    for part, colour in PARTS.items():
        width = np.array([_bar(getattr(row, f"{part}_nats")) for row in comparison.rows])
        left.barh(names, width, left=start, color=colour, height=0.62)
        start = start + width
    right.barh(names, [_bar(row.optimality_gap) for row in comparison.rows], color=POLICY, height=0.62)
    for ax, amount, what in (
        (left, totals, "log Z − ELBO(π)"),
        (right, [row.optimality_gap for row in comparison.rows], "ELBO* − ELBO(π)"),
    ):
        plain(ax, f"{what}, nats")
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlim(0, 1.18 * max([_bar(gap) for gap in amount] + [1e-9]))
        for n, gap in enumerate(amount):
            known = rounded(gap, comparison.log_evidence)
            ax.text(_bar(gap), n, f" {show(known)}", va="center", fontsize=7.5, color=INK)
    right.set_yticklabels([])
    marks = [Patch(facecolor=colour, label=f"{part} nats") for part, colour in PARTS.items()]
    foot_key(figure, [*marks, Patch(facecolor=POLICY, label="policy nats")])
    return figure


def _bar(value: float | None) -> float:
    return max(0.0, value) if value is not None and np.isfinite(value) else 0.0


def ladder(comparisons: Sequence[Comparison]) -> Figure:
    """Draw return, free energy α·ELBO(π) and the gap to ELBO* against the temperature, a line a policy.

    The black lines are the exact answers, α ELBO* and α log Z; works with a single temperature too.
    """
    ordered = sorted(comparisons, key=lambda comparison: comparison.temperature)
    title = "The ladder of temperatures"
    how = (
        "Left to right: colder to warmer. Return and α·ELBO in reward units, to compare temperatures; gaps in nats. "
        "On the right the dotted line is log Z − ELBO*, what no policy can have."
    )
    figure, axes = panels(3, (3.1, 3.0), title, how, Margins(left=0.75, right=0.25, across=0.75, bottom=1.0))
    names = list(dict.fromkeys(row.name for comparison in ordered for row in comparison.rows))
    _lines(axes[0], "expected return, reward units", ordered, names, lambda comparison, row: row.expected_return)
    _lines(axes[1], "α·ELBO(π), reward units", ordered, names, _free_energy)
    for field, dash in (("elbo_star", "--"), ("log_evidence", ":")):
        values = [_times(comparison.temperature, getattr(comparison, field)) for comparison in ordered]
        _line(axes[1], ordered, values, color="black", linestyle=dash)
    _lines(axes[2], "ELBO* − ELBO(π), nats", ordered, names, _gap)
    _line(axes[2], ordered, [_promise(comparison) for comparison in ordered], color="black", linestyle=":")
    _spread(axes[0])
    _spread(axes[1])
    log_gaps(axes[2])
    handles = [
        Line2D([], [], color=LINES[n % 8], marker=MARKERS[n % 8], markersize=6, label=name)
        for n, name in enumerate(names)
    ]
    exact = [
        Line2D([], [], color="black", linestyle="--", label="ELBO*"),
        Line2D([], [], color="black", linestyle=":", label="log Z"),
    ]
    foot_key(figure, [*handles, *exact])
    return figure


def _free_energy(comparison: Comparison, row: Row) -> float | None:
    return _times(comparison.temperature, row.elbo)


def _gap(comparison: Comparison, row: Row) -> float | None:
    return rounded(row.optimality_gap, comparison.elbo_star)


def _promise(comparison: Comparison) -> float | None:
    if comparison.log_evidence is None or comparison.elbo_star is None:
        return None
    return rounded(comparison.log_evidence - comparison.elbo_star, comparison.log_evidence)


def _times(temperature: float, nats: float | None) -> float | None:
    return None if nats is None else temperature * nats


def _lines(
    axes: Axes,
    title: str,
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    read: Callable[[Comparison, Row], float | None],
) -> None:
    plain(axes, title)
    for n, name in enumerate(names):
        values = [
            next((read(comparison, row) for row in comparison.rows if row.name == name), None)
            for comparison in comparisons
        ]
        # Where lines coincide, the earlier one shows as a rim around the later one.
        early = (len(names) - 1 - n) / max(1, len(names) - 1)
        marker = {
            "marker": MARKERS[n % 8],
            "markersize": 5 + 4 * early,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
        }
        look: dict[str, Any] = {"color": LINES[n % 8], "linewidth": 1.3 + 2.9 * early, **marker}
        aside = 1.35 ** (n - (len(names) - 1) / 2) if len(comparisons) == 1 else 1.0
        _line(axes, comparisons, values, aside, **look)
    absent = _without_point(comparisons, names, read)
    if absent:
        note = f"not finite: {', '.join(absent)}"
        axes.text(0.0, -0.2, note, transform=axes.transAxes, va="top", fontsize=7.5, color=INK)
    axes.set_xscale("log")
    temperatures = [comparison.temperature for comparison in comparisons]
    axes.set_xticks(temperatures, [show(alpha) for alpha in temperatures])
    axes.xaxis.set_minor_locator(NullLocator())
    margin = 1.6 if len(temperatures) > 1 else 1.35 ** (0.5 * len(names) + 1)
    axes.set_xlim(min(temperatures) / margin, max(temperatures) * margin)
    axes.set_xlabel("temperature α, reward units", fontsize=8, color=INK)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _without_point(
    comparisons: Sequence[Comparison], names: Sequence[str], read: Callable[[Comparison, Row], float | None]
) -> list[str]:
    """Name the policies with a row whose value cannot be drawn, because it is not finite."""
    values = [(row.name, read(comparison, row)) for comparison in comparisons for row in comparison.rows]
    lost = {name for name, value in values if value is None or not np.isfinite(value)}
    return [name for name in names if name in lost]


def _line(
    axes: Axes, comparisons: Sequence[Comparison], values: Sequence[float | None], aside: float = 1.0, **look: Any
) -> None:
    finite = [np.nan if value is None or not np.isfinite(value) else value for value in values]
    if len(comparisons) == 1 and "marker" not in look:  # one point makes no line: let the exact answer be a rule
        if np.isfinite(finite[0]):
            axes.axhline(finite[0], linewidth=1.2, zorder=1, **look)
        return
    axes.plot([aside * comparison.temperature for comparison in comparisons], finite, clip_on=False, **look)


def _spread(axes: Axes) -> None:
    """Turn to a symmetric logarithmic axis where one large number would press all others onto a line."""
    values = np.abs(drawn(axes))
    values = values[values > 0]
    if values.size and values.max() > 30 * np.median(values):
        axes.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(np.median(values))))
        low, high = float(drawn(axes).min()), float(drawn(axes).max())
        axes.set_ylim(low * (1.8 if low < 0 else 0.5), high * (0.5 if high < 0 else 1.8))
