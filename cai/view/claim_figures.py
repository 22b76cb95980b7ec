"""The figures of the experiments on soft optimality: a panel for each thing that was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cai.experiments.deep_sea import DeepSea
from cai.experiments.exploration import FAR, NEAR, Curves, Exploration
from cai.experiments.fine_tuning import ENOUGH, FineTuning
from cai.experiments.reward_scale import RewardScale
from cai.experiments.robustness import NOMINAL, Robustness
from cai.experiments.ties import Ties
from cai.experiments.verdict import Mean
from cai.support.numbers import show
from cai.view.canvas import Room, open_axes, panel
from cai.view.panel_rows import Panels
from cai.view.style import GREY, INK, LINES, MARKERS
from cai.view.vector import tell

WIDE, HIGH = 2.7, 2.3
"""What is drawn on a panel, inches."""


def figures_of(result: Any) -> Panels:
    """Draw the figures of an experiment's result, a panel a measure, by title."""
    return DRAWN[type(result)](result)


def exploration_figure(result: Exploration) -> Panels:
    """Draw entropy, cells visited and return against episodes, a line and a band of ± 2 standard errors a learner."""
    axes = _panels(3, result.curves)
    measures: tuple[tuple[str, Callable[[Curves], Sequence[Mean]]], ...] = (
        ("entropy, nats", lambda curves: curves.entropy),
        ("cells visited, in effect", lambda curves: curves.coverage),
        ("return, reward units", lambda curves: curves.returned),
    )
    for ax, (title, measure) in zip(axes, measures, strict=True):
        _frame(ax, title, "episodes")
        for n, curves in enumerate(result.curves.values()):
            _band(ax, result.episodes, measure(curves), n)
    for height, words in ((NEAR, "near prize"), (FAR, "far prize")):
        _rule(axes[2], height, words, 0.99)
    axes[2].set_ylim(0, 1.2)
    axes[0].set_ylim(bottom=0)
    return _told(axes, result.curves)


def fine_tuning_figure(result: FineTuning) -> Panels:
    """Draw the chance of the one prize against gradient steps, and the steps needed, a dot a seed."""
    axes = _panels(2, result.curves)
    _frame(axes[0], "chance of the prize", "gradient steps")
    for n, curve in enumerate(result.curves.values()):
        axes[0].plot(curve, color=LINES[n], linewidth=1.5)
    _rule(axes[0], ENOUGH, "specialised", 0.01)
    axes[0].set_xscale("symlog", linthresh=10, linscale=0.5)
    axes[0].set_xlim(0, result.patience)
    axes[0].set_ylim(0, 1.02)
    _frame(axes[1], "steps to the slowest prize", "")
    for n, mean in enumerate(result.slowest.values()):
        offsets = np.linspace(-0.16, 0.16, len(mean.runs))
        axes[1].plot(n + offsets, mean.runs, "o", color=LINES[n], markersize=4, alpha=0.7)
        axes[1].plot([n - 0.28, n + 0.28], [mean.value] * 2, color=LINES[n], linewidth=2)
    axes[1].set_yscale("log")
    axes[1].set_xticks(range(len(result.slowest)), list(result.slowest))
    return _told(axes, result.curves)


def ties_figure(result: Ties) -> Panels:
    """Draw how far a small change of all rewards moves each policy, and the entropy of each."""
    axes = _panels(2, result.moved)
    _frame(axes[0], "moved by a change of ε", "ε, reward units")
    for n, means in enumerate(result.moved.values()):
        axes[0].plot(result.epsilons, [mean.value for mean in means], **_look(n), linewidth=_width(n), markersize=4)
    axes[0].set(xscale="log", yscale="log")
    _frame(axes[1], "entropy of the trajectory, nats", "")
    even = math.log(result.paths)
    for n, (name, nats) in enumerate(result.entropy.items()):
        axes[1].bar(n, nats, color=LINES[n], width=0.62, zorder=2)
        words = f"{result.best[name]:.0%}\non best"
        axes[1].text(n, max(nats, even), words, ha="center", va="bottom", fontsize=7, color=INK)
    axes[1].axhline(even, color=INK, linestyle="--", linewidth=1, zorder=3)
    axes[1].set_ylim(0, 1.25 * max(*result.entropy.values(), even))
    axes[1].set_xticks([])
    return _told(axes, result.moved)


def robustness_figure(result: Robustness) -> Panels:
    """Draw the return against the chance to slip, and with each wall, from the best to the worst."""
    axes = _panels(2, result.nominal)
    _frame(axes[0], "return, more slipping", "chance to slip")
    _frame(axes[1], "return, a new wall", "walls, from the most harmless on")
    for n, (name, row) in enumerate(result.slipping.items()):
        returns = [result.nominal[name], *row]
        axes[0].plot([NOMINAL, *result.slips], returns, **_look(n), linewidth=_width(n), markersize=4)
        walled = sorted(result.walled[name], reverse=True)
        axes[1].plot(range(1, len(walled) + 1), walled, **_look(n), linewidth=_width(n), markersize=4)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return _told(axes, result.nominal)


def reward_scale_figure(result: RewardScale) -> Panels:
    """Draw the gaps of value and return, and odd actions, against α, a line a world; the bounds dotted."""
    axes = _panels(3, result.value_gap)
    gaps = (
        ("v_HARD − v_soft, reward units", result.value_gap),
        ("return lost, reward units", result.return_gap),
        ("actions HARD never takes, share", result.policy_gap),
    )
    for ax, (title, rows) in zip(axes, gaps, strict=True):
        _frame(ax, title, "α, reward units")
        for n, row in enumerate(rows.values()):
            heights = [gap if gap > 1e-13 else math.nan for gap in row]
            ax.plot(result.temperatures, heights, **_look(n), linewidth=1.3, markersize=3)
        ax.set(xscale="log", yscale="log")
        ax.invert_xaxis()
    for n, row in enumerate(result.bound.values()):
        axes[0].plot(result.temperatures, row, color=LINES[n], linestyle=":", linewidth=1)
    return _told(axes, result.value_gap)


def deep_sea_figure(result: DeepSea) -> Panels:
    """Draw episodes until solved against N, a line a learner and a dot a seed, beside 2^N."""
    dashed = Line2D([], [], color=INK, linestyle="--", linewidth=1, label="2^N")
    axes = _panels(2, result.dives, dashed)
    for ax, scale, straight in zip(
        axes, ("linear", "log"), ("2^N is straight", "powers of N are straight"), strict=True
    ):
        _frame(ax, f"dives until solved: {straight}", "N" if scale == "linear" else "N, logarithmic")
        _draw_dives(ax, result)
        ax.set(yscale="log", xscale=scale)
        ax.set_xticks(result.sizes, [str(n) for n in result.sizes])
        ax.minorticks_off()
    return _told(axes, result.dives)


def _draw_dives(ax: Axes, result: DeepSea) -> None:
    ax.plot(result.sizes, [2.0**n for n in result.sizes], color=INK, linestyle="--", linewidth=1, zorder=1)
    for n, (name, typical) in enumerate(result.typical.items()):
        ax.plot(result.sizes, typical, **_look(n), linewidth=1.6, markersize=5, zorder=3)
        for size, row, most in zip(result.sizes, result.dives[name], result.patience[name], strict=True):
            for dives in row:
                face = "none" if math.isinf(dives) else LINES[n]
                ax.plot(
                    size, min(dives, most), "o", markerfacecolor=face, markeredgecolor=LINES[n], markersize=3, alpha=0.5
                )


def _panels(count: int, names: Mapping[str, Any], *more: Line2D) -> list[Axes]:
    """Return panels to draw on, with room below for the names, and their key."""
    lines = [Line2D([], [], **_look(n), markersize=5, label=name) for n, name in enumerate(names)]
    handles = [*lines, *more]
    columns = 2 if max(map(len, names)) < 18 else 1
    room = Room(left=0.66, right=0.12, bottom=0.5 + 0.18 * -(-len(handles) // columns))
    axes = [panel(None, (WIDE, HIGH), room, " ") for _ in range(count)]
    key: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (-0.2, -0.42 / HIGH),
        "borderpad": 0,
        "frameon": False,
    }
    for ax in axes:
        ax.legend(handles=handles, ncols=columns, fontsize=8, labelcolor=INK, handlelength=1.6, **key)
    return axes


def _frame(ax: Axes, title: str, below: str) -> None:
    panel(ax, (WIDE, HIGH), Room(), title)
    open_axes(ax, below)


def _told(axes: Sequence[Axes], names: Mapping[str, Any]) -> Panels:
    """Say in words what is seen on each panel: where each line begins and ends, how high each bar is."""
    figures = {}
    for ax in axes:
        title = ax.get_title(loc="left").replace("\n", " ")
        seen = (f"{name}: {words}" for n, name in enumerate(names) if (words := _seen(ax, n)))
        figures[title] = tell(ax, f"{title}, against {ax.get_xlabel() or 'the learner'}. {'; '.join(seen)}.")
    return Panels(figures)


def _seen(ax: Axes, n: int) -> str:
    """Say where the line of a name begins and ends, or how high its bar is; empty where there is neither."""
    lines = [line for line in ax.lines if line.get_color() == LINES[n] and len(np.asarray(line.get_ydata())) > 1]
    if lines:
        heights = np.asarray(lines[0].get_ydata(), dtype=float)
        finite = heights[np.isfinite(heights)]
        if not len(finite):
            return ""
        first, last = (show(float(f"{end:.3g}")) for end in (finite[0], finite[-1]))
        return first if first == last else f"{first} to {last}"
    bars = [bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle)]
    return show(float(f"{bars[n]:.3g}")) if n < len(bars) else ""


def _band(ax: Axes, x: Sequence[int], means: Sequence[Mean], n: int) -> None:
    value, error = np.array([mean.value for mean in means]), np.array([mean.error for mean in means])
    ax.fill_between(x, value - 2 * error, value + 2 * error, color=LINES[n], alpha=0.15, linewidth=0)
    ax.plot(x, value, **_look(n), linewidth=1.5, markersize=3.5)


def _rule(ax: Axes, height: float, words: str, x: float) -> None:
    ax.axhline(height, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "color": GREY}
    ax.text(x, height, f"{words}, {show(height)}", va="bottom", ha="right" if x > 0.5 else "left", **place)


def _look(n: int) -> dict[str, Any]:
    return {"color": LINES[n], "marker": MARKERS[n], "markeredgecolor": "white", "markeredgewidth": 0.4}


def _width(n: int) -> float:
    """The first line is broad, since the second may lie on it."""
    return 1.5 if n else 4.0


DRAWN: Mapping[type, Callable[[Any], Panels]] = {
    Exploration: exploration_figure,
    FineTuning: fine_tuning_figure,
    Ties: ties_figure,
    Robustness: robustness_figure,
    RewardScale: reward_scale_figure,
    DeepSea: deep_sea_figure,
}
