"""The figures of the experiments on soft optimality: one each, a verdict in its heading."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cai.experiments.deep_sea import DeepSea
from cai.experiments.exploration import FAR, NEAR, Curves, Exploration
from cai.experiments.fine_tuning import ENOUGH, FineTuning
from cai.experiments.reward_scale import RewardScale
from cai.experiments.robustness import NOMINAL, Robustness
from cai.experiments.ties import Ties
from cai.experiments.verdict import Mean
from cai.support.files import write_whole
from cai.support.numbers import finite, show
from cai.view.style import FAINT, GREY, INK, LINES, MARKERS, Margins, foot_key, panels, plain, png

ROOM = Margins(left=0.8, right=0.4, top=1.0, bottom=0.85, across=0.85)


def figure_of(result: Any) -> Figure:
    """Draw the figure of an experiment's result."""
    return DRAWN[type(result)](result)


def save_claim(name: str, result: Any, folder: Path) -> tuple[Path, Path]:
    """Write the figure and the numbers of an experiment, both or none, and return the two files."""
    numbers = {
        "claim": result.claim,
        "verdict": result.verdict.word,
        "evidence": result.evidence,
        "checks": result.verdict.lines,
        **asdict(result),
    }
    text = json.dumps(finite(numbers), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(folder, {f"{name}.png": png(figure_of(result)), f"{name}.json": text.encode()})
    return folder / f"{name}.png", folder / f"{name}.json"


def exploration_figure(result: Exploration) -> Figure:
    """Draw entropy, cells visited and return against episodes, a line and a band of ± 2 standard errors a learner."""
    how = f"Mean of {result.seeds} seeds and ± 2 standard errors; exact at each evaluation, before a prize is taken."
    figure, axes = panels(3, (2.85, 2.7), _title(result), how, ROOM)
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
    axes[2].set_ylim(0, 1.12)
    axes[0].set_ylim(bottom=0)
    _key(figure, result.curves)
    return figure


def fine_tuning_figure(result: FineTuning) -> Figure:
    """Draw the chance of the one prize against gradient steps, and the steps needed, a dot a seed."""
    how = (
        "Left: the chance of the one prize left, the mean over four prizes and all seeds. "
        f"Right: steps until it is {ENOUGH:g}, slowest of the four prizes; a dot a seed, a bar their mean."
    )
    figure, axes = panels(2, (4.2, 2.9), _title(result), how, ROOM)
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
    _key(figure, result.curves)
    return figure


def ties_figure(result: Ties) -> Figure:
    """Draw how far a small change of all rewards moves each policy, and the entropy of each."""
    how = (
        "Left: total variation of what a policy does, before and after every reward changes by at most ε; mean of "
        f"{result.seeds} changes. Right: entropy of the trajectory; dashed: even over the {result.paths} best paths."
    )
    figure, axes = panels(2, (4.2, 2.9), _title(result), how, ROOM)
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
    axes[1].axhline(even, color="black", linestyle="--", linewidth=1, zorder=3)
    axes[1].set_ylim(0, 1.25 * max(*result.entropy.values(), even))
    axes[1].set_xticks([])
    _key(figure, result.moved)
    return figure


def robustness_figure(result: Robustness) -> Figure:
    """Draw the return against the chance to slip, and with each wall, from the best to the worst."""
    how = (
        f"Solved for slip = {NOMINAL:g} and no wall, acting unchanged elsewhere; exact returns. "
        "Right: each of the cells in turn becomes a wall; sorted for every policy by itself."
    )
    figure, axes = panels(2, (4.2, 2.9), _title(result), how, ROOM)
    _frame(axes[0], "return, more slipping", "chance to slip")
    _frame(axes[1], "return, a new wall", "walls, from the most harmless on")
    for n, (name, row) in enumerate(result.slipping.items()):
        returns = [result.nominal[name], *row]
        axes[0].plot([NOMINAL, *result.slips], returns, **_look(n), linewidth=_width(n), markersize=4)
        walled = sorted(result.walled[name], reverse=True)
        axes[1].plot(range(1, len(walled) + 1), walled, **_look(n), linewidth=_width(n), markersize=4)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _key(figure, result.nominal)
    return figure


def reward_scale_figure(result: RewardScale) -> Figure:
    """Draw the gaps of value and return, and odd actions, against α, a line a world; the bounds dotted."""
    how = "Distances to hard optimality, exact, the same as against 1/reward scale. Dotted: the bound α T log|A|."
    figure, axes = panels(3, (2.85, 2.7), _title(result), how, ROOM)
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
    _key(figure, result.value_gap)
    return figure


def deep_sea_figure(result: DeepSea) -> Figure:
    """Draw episodes until solved against N, a line a learner and a dot a seed, beside 2^N."""
    how = (
        f"Dives until the average regret is below half: a dot a seed (hollow: gave up), a line the geometric mean of "
        f"{result.seeds} seeds. Exact messages know the world: {min(result.known):.0%} of their first dives find it."
    )
    figure, (left, right) = panels(2, (4.2, 3.1), _title(result), how, ROOM)
    for ax, scale in ((left, "linear"), (right, "log")):
        _frame(ax, "dives until solved", "N" if scale == "linear" else "N, logarithmic: powers of N are straight")
        _draw_dives(ax, result)
        ax.set(yscale="log", xscale=scale)
        ax.set_xticks(result.sizes, [str(n) for n in result.sizes])
        ax.minorticks_off()
    dashed = Line2D([], [], color="black", linestyle="--", linewidth=1, label="2^N")
    _key(figure, result.dives, dashed)
    return figure


def _draw_dives(ax: Axes, result: DeepSea) -> None:
    ax.plot(result.sizes, [2.0**n for n in result.sizes], color="black", linestyle="--", linewidth=1, zorder=1)
    for n, (name, typical) in enumerate(result.typical.items()):
        ax.plot(result.sizes, typical, **_look(n), linewidth=1.6, markersize=5, zorder=3)
        for size, row, most in zip(result.sizes, result.dives[name], result.patience[name], strict=True):
            for dives in row:
                face = "none" if math.isinf(dives) else LINES[n]
                ax.plot(
                    size, min(dives, most), "o", markerfacecolor=face, markeredgecolor=LINES[n], markersize=3, alpha=0.5
                )


def _title(result: Any) -> str:
    return f"{result.claim[0].upper()}{result.claim[1:]}: {result.verdict.word}"


def _frame(ax: Axes, title: str, below: str) -> None:
    plain(ax, title)
    ax.grid(color=FAINT, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(below, fontsize=8, color=INK, labelpad=2)


def _band(ax: Axes, x: Sequence[int], means: Sequence[Mean], n: int) -> None:
    value, error = np.array([mean.value for mean in means]), np.array([mean.error for mean in means])
    ax.fill_between(x, value - 2 * error, value + 2 * error, color=LINES[n], alpha=0.15, linewidth=0)
    ax.plot(x, value, **_look(n), linewidth=1.5, markersize=3.5)


def _rule(ax: Axes, height: float, words: str, x: float) -> None:
    ax.axhline(height, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "color": GREY}
    ax.text(x, height, f"{words}, {show(height)}", va="top", ha="right" if x > 0.5 else "left", **place)


def _look(n: int) -> dict[str, Any]:
    return {"color": LINES[n], "marker": MARKERS[n], "markeredgecolor": "white", "markeredgewidth": 0.4}


def _width(n: int) -> float:
    """The first line is broad, since the second may lie on it."""
    return 1.5 if n else 4.0


def _key(figure: Figure, names: Mapping[str, Any], *more: Line2D) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], **_look(n), markersize=5, label=name) for n, name in enumerate(names)
    ]
    foot_key(figure, [*handles, *more])


DRAWN: Mapping[type, Callable[[Any], Figure]] = {
    Exploration: exploration_figure,
    FineTuning: fine_tuning_figure,
    Ties: ties_figure,
    Robustness: robustness_figure,
    RewardScale: reward_scale_figure,
    DeepSea: deep_sea_figure,
}
