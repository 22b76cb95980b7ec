"""How the variables of a factored world fare under each policy, time by time."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cai.evaluation.comparison import Comparison
from cai.view.style import FAINT, INK, LINES, Margins, foot_key, panels, plain

MOST = 24
"""Variables that are drawn, each on a panel of its own."""


def variable_curves(comparison: Comparison, names: Sequence[str] | None = None) -> Figure:
    """Draw the mean of each state variable over time, given that the trajectory lives, a line a policy."""
    assert comparison.model is not None
    states = comparison.model.states
    chosen = list(names or states.names)[:MOST]
    more = len(states.names) - len(chosen)
    title = "How each variable fares"
    how = "The mean number of each variable's value over time, under the true dynamics, a line a policy." + (
        f" The first {len(chosen)} of {len(states.names)} variables." if more > 0 else ""
    )
    figure, axes = panels(len(chosen), (2.1, 1.15), title, how, Margins(bottom=0.95, across=0.45, down=0.68, right=0.3))
    for ax, name in zip(axes, chosen, strict=True):
        plain(ax, name)
        size = states.sizes[states.names.index(name)]
        for n, visits in enumerate(comparison.evaluations[policy].visits for policy in comparison.evaluations):
            # Where lines coincide, the earlier one shows as a rim around the later one.
            width = 1.2 + 0.6 * (len(comparison.evaluations) - 1 - n)
            ax.plot(_means(visits, name), color=LINES[n % len(LINES)], linewidth=width)
        ax.set_ylim(-0.04 * (size - 1), 1.04 * (size - 1) or 1)
        ax.grid(color=FAINT, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel("time t", fontsize=7.5, color=INK, labelpad=1)
    lines = [Line2D([], [], color=LINES[n % len(LINES)], label=name) for n, name in enumerate(comparison.evaluations)]
    foot_key(figure, lines)
    return figure


def _means(visits: Mapping[str, torch.Tensor], name: str) -> list[float]:
    joint = visits[name]
    values = torch.arange(joint.shape[-1], dtype=joint.dtype)
    means: list[float] = ((joint * values).sum(-1) / joint.sum(-1)).tolist()
    return means
