"""The figures of the experiments on soft optimality: a few panels each, with names at the ends of the curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from cai.experiments.deep_sea import DeepSea
from cai.experiments.exploration import FAR, NEAR, Curves, Exploration
from cai.experiments.fine_tuning import ENOUGH, FineTuning
from cai.experiments.reward_scale import RewardScale
from cai.experiments.robustness import NOMINAL, Robustness
from cai.experiments.ties import Ties
from cai.experiments.verdict import Mean
from cai.support.numbers import brief, show
from cai.view.canvas import Room, open_axes, panel
from cai.view.curve_names import Label, name_ends, width_of
from cai.view.panel_rows import Panels
from cai.view.style import GREY, INK, LINES, MARKERS
from cai.view.vector import tell

SIZE = (2.4, 2.1)
"""The size of a panel, inches."""


def figures_of(result: Any) -> Panels:
    """Draw the figures of an experiment's result, a panel a measure.

    Raises:
        KeyError: it is no result of ``cai claims``.
    """
    return Panels(DRAWN[type(result)](result))


def exploration_figures(result: Exploration) -> dict[str, Figure]:
    """Draw entropy, cells visited and return against episodes, a line and a band of ± 2 standard errors a learner."""
    measures: dict[str, tuple[str, Callable[[Curves], Sequence[Mean]]]] = {
        "entropy": ("entropy, nats", lambda curves: curves.entropy),
        "coverage": ("cells visited, in effect", lambda curves: curves.coverage),
        "return": ("return, reward units", lambda curves: curves.returned),
    }
    return {what: _over_episodes(result, title, read) for what, (title, read) in measures.items()}


def _over_episodes(result: Exploration, title: str, read: Callable[[Curves], Sequence[Mean]]) -> Figure:
    means = {name: read(curves) for name, curves in result.curves.items()}
    rules = {"near prize": NEAR, "far prize": FAR} if title.startswith("return") else {}
    ends = {name: each[-1].value for name, each in means.items()} | rules
    ax = _panel(title, "episodes", ends)
    for n, each in enumerate(means.values()):
        value, error = np.array([mean.value for mean in each]), np.array([mean.error for mean in each])
        ax.fill_between(result.episodes, value - 2 * error, value + 2 * error, color=LINES[n], alpha=0.18, linewidth=0)
        ax.plot(result.episodes, value, **_look(n), linewidth=1.5)
    for height in rules.values():
        ax.axhline(height, color=GREY, linestyle=":", linewidth=1, zorder=1)
    ax.set_xlim(result.episodes[0], result.episodes[-1])
    ax.set_ylim(0, 1.12 * FAR if rules else None)
    return _named(ax, f"{title} against episodes, mean of {result.seeds} seeds", ends, {"near prize", "far prize"})


def fine_tuning_figures(result: FineTuning) -> dict[str, Figure]:
    """Draw the chance of the one prize against gradient steps, and the steps needed, a dot a seed."""
    ends = {name: float(curve[-1]) for name, curve in result.curves.items()}
    ax = _panel("chance of the prize", "gradient steps", ends)
    for n, curve in enumerate(result.curves.values()):
        ax.plot(curve, color=LINES[n], linewidth=1.5)
    ax.axhline(ENOUGH, color=GREY, linestyle=":", linewidth=1, zorder=1)
    ax.set_xscale("symlog", linthresh=10, linscale=0.5)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(0, max(len(curve) - 1 for curve in result.curves.values()))
    ax.set_ylim(0, 1.02)
    means = {name: mean.value for name, mean in result.slowest.items()}
    dots = _panel("steps to the slowest prize", "", {}, left=1.2)
    for n, mean in enumerate(result.slowest.values()):
        dots.plot(mean.runs, n + np.linspace(-0.16, 0.16, len(mean.runs)), "o", color=LINES[n], markersize=4, alpha=0.7)
        dots.plot([mean.value] * 2, [n - 0.3, n + 0.3], color=LINES[n], linewidth=2)
    dots.set_xscale("log")
    dots.set_yticks(range(len(means)), list(means))
    dots.set_ylim(len(means) - 0.5, -0.5)
    about = f"Chance of the one prize left against gradient steps; dotted: {ENOUGH:g}, specialised"
    told = f"Steps until the slowest of four prizes is had with chance {ENOUGH:g}, a dot a seed, a bar the mean. "
    return {"chance": _named(ax, about, ends), "steps": tell(dots, told + _listed(means))}


def ties_figures(result: Ties) -> dict[str, Figure]:
    """Draw how far a small change of all rewards moves each policy, and the entropy of each."""
    moved = {name: [mean.value for mean in means] for name, means in result.moved.items()}
    ends = {name: values[-1] for name, values in moved.items()}
    ax = _panel("moved by a change of ε", "ε, reward units", ends)
    for n, values in enumerate(moved.values()):
        ax.plot(result.epsilons, values, **_look(n), linewidth=_width(n))
    ax.set(xscale="log", yscale="log", xlim=(min(result.epsilons), max(result.epsilons)))
    even = math.log(result.paths)
    bars = _panel("entropy of the trajectory, nats", "", {}, left=1.2, right=1.0)
    bars.barh(range(len(result.entropy)), list(result.entropy.values()), color=LINES[: len(result.entropy)], height=0.6)
    bars.axvline(even, color=INK, linestyle="--", linewidth=1)
    bars.set_yticks(range(len(result.entropy)), list(result.entropy))
    bars.set_ylim(len(result.entropy) - 0.5, -0.5)
    for n, name in enumerate(result.entropy):
        words = f"{result.best[name]:.0%} on best"
        bars.text(1.03, n, words, transform=bars.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    told = f"Entropy of the trajectory, nats; dashed: even over the {result.paths} best paths, {show(even)}. "
    about = f"Total variation by which a change of all rewards by ε moves a policy, mean of {result.seeds} changes"
    return {"moved": _named(ax, about, ends), "entropy": tell(bars, told + _listed(result.entropy))}


def robustness_figures(result: Robustness) -> dict[str, Figure]:
    """Draw the return against the chance to slip, and with each wall, from the best to the worst."""
    slipping = {name: [result.nominal[name], *row] for name, row in result.slipping.items()}
    walled = {name: sorted(row, reverse=True) for name, row in result.walled.items()}
    ends = {name: row[-1] for name, row in slipping.items()}
    left = _panel("return, more slipping", "chance to slip", ends)
    for n, row in enumerate(slipping.values()):
        left.plot([NOMINAL, *result.slips], row, **_look(n), linewidth=_width(n))
    left.set_xlim(NOMINAL, result.slips[-1])
    worst = {name: row[-1] for name, row in walled.items()}
    right = _panel("return, a new wall", "walls, from the most harmless on", worst)
    for n, row in enumerate(walled.values()):
        right.plot(range(1, len(row) + 1), row, **_look(n), linewidth=_width(n))
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    right.set_xlim(1, max(len(row) for row in walled.values()))
    about = f"Exact return of policies solved for slip = {NOMINAL:g} and no wall"
    return {
        "slipping": _named(left, f"{about}, where it slips more", ends),
        "walls": _named(right, f"{about}, where one cell becomes a wall, sorted for each policy", worst),
    }


def reward_scale_figures(result: RewardScale) -> dict[str, Figure]:
    """Draw the gaps of value and return, and odd actions, against α, a line a world; the bounds dotted."""
    gaps = {
        "value": ("v_HARD − v_soft, reward units", result.value_gap),
        "return": ("return lost, reward units", result.return_gap),
        "policy": ("actions HARD never takes, share", result.policy_gap),
    }
    drawn = {}
    for what, (title, rows) in gaps.items():
        ends = {name: row[-1] for name, row in rows.items()}
        ax = _panel(title, "α, reward units; colder to the right", ends)
        for n, row in enumerate(rows.values()):
            ax.plot(result.temperatures, [gap if gap > 1e-13 else math.nan for gap in row], **_look(n), linewidth=1.3)
        for n, row in enumerate(result.bound.values() if what == "value" else ()):
            ax.plot(result.temperatures, row, color=LINES[n], linestyle=":", linewidth=1)
        ax.set(xscale="log", yscale="log", xlim=(max(result.temperatures), min(result.temperatures)))
        about = f"{title}, against α; distances to hard optimality"
        drawn[what] = _named(ax, about + ("; dotted: the bound α T log|A|" if what == "value" else ""), ends)
    return drawn


def deep_sea_figures(result: DeepSea) -> dict[str, Figure]:
    """Draw episodes until solved against N, a line a learner and a dot a seed, beside 2^N."""
    ends = {name: float(typical[-1]) for name, typical in result.typical.items()} | {"2^N": 2.0 ** result.sizes[-1]}
    ax = _panel("dives until solved", "N", ends)
    ax.plot(result.sizes, [2.0**n for n in result.sizes], color=INK, linestyle="--", linewidth=1, zorder=1)
    for n, (name, typical) in enumerate(result.typical.items()):
        ax.plot(result.sizes, typical, **_look(n), linewidth=1.6, zorder=3)
        for size, row, most in zip(result.sizes, result.dives[name], result.patience[name], strict=True):
            for dives in row:
                face = "none" if math.isinf(dives) else LINES[n]
                dot: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": LINES[n], "markersize": 3}
                ax.plot(size, min(dives, most), "o", **dot, alpha=0.5)
    ax.set_yscale("log")
    ax.set_xticks(result.sizes, [str(n) for n in result.sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    about = (
        "Dives until the average regret is below half, against N, a dot a seed (hollow: gave up), a line the "
        f"geometric mean of {result.seeds} seeds; exact messages know the world, and {min(result.known):.0%} of their "
        "first dives find the prize"
    )
    return {"dives": _named(ax, about, ends, {"2^N"})}


def _panel(title: str, below: str, ends: Mapping[str, float], *, left: float = 0.6, right: float = 0.15) -> Axes:
    room = Room(left=left, right=width_of([(name, brief(end)) for name, end in ends.items()]) if ends else right)
    ax = panel(None, SIZE, room, title)
    open_axes(ax, below)
    return ax


def _named(ax: Axes, about: str, ends: Mapping[str, float], grey: set[str] | frozenset[str] = frozenset()) -> Figure:
    """Write the names at the ends of the curves, and keep what is seen in words."""
    known = {name: end for name, end in ends.items() if np.isfinite(end)}
    colours = {name: INK if name in grey else LINES[n] for n, name in enumerate(ends)}
    name_ends(ax, [Label(end, name, brief(end), colours[name]) for name, end in known.items()])
    return tell(ax, f"{about}. At the end: {_listed(ends)}")


def _listed(values: Mapping[str, float]) -> str:
    return "; ".join(f"{name}: {show(value)}" for name, value in values.items()) + "."


def _look(n: int) -> dict[str, Any]:
    return {"color": LINES[n], "marker": MARKERS[n], "markersize": 3.5}


def _width(n: int) -> float:
    """The first line is broad, since the second may lie on it."""
    return 1.5 if n else 4.0


DRAWN: Mapping[type, Callable[[Any], dict[str, Figure]]] = {
    Exploration: exploration_figures,
    FineTuning: fine_tuning_figures,
    Ties: ties_figures,
    Robustness: robustness_figures,
    RewardScale: reward_scale_figures,
    DeepSea: deep_sea_figures,
}
