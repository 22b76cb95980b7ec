"""Performance profiles: the share of a learner's runs above each score."""

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from torch import Tensor

from cai.errors import fault
from cai.evaluation.comparison import Comparison
from cai.support.numbers import MINUS, brief, show
from cai.view.canvas import Room, inches, open_axes, panel
from cai.view.curve_names import LINE, width_of
from cai.view.policy_looks import looks_of
from cai.view.readings import comparison_of
from cai.view.style import GREY, INK
from cai.view.vector import tell

SHARES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""What a run may miss of the way from the prior to the best: the ticks of the axis."""


def performance_profiles(comparison: Comparison, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the fraction of each learner's runs above every normalised score, with its 95 % bootstrap band.

    A score of 0 is the prior's ELBO, 1 is ELBO*; the axis is stretched towards 1. A curve farther right is better, a
    steeper one more reliable. At the right stand the learners with their median scores, the best first.

    Args:
        comparison: with learners, on a world with tables.
        title: above the panel.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: there are no normalised scores.
    """
    if not comparison_of(comparison, "performance_profiles").profiles:
        raise fault("performance_profiles", "no normalised scores", "a world with tables whose prior is not the best")
    middle = {name: float(each.sort().values[(len(each) - 1) // 2]) for name, each in comparison.scores.items()}
    wide = max(1.2, 0.2 + width_of([(name, brief(score)) for name, score in middle.items()]))
    ax = panel(ax, (2.8, 2.2), Room(left=0.6, right=wide, bottom=0.45), title or "share of runs above the score")
    open_axes(ax, "normalised score")
    looks = looks_of(comparison)
    look = {name: (looks[name].colour, looks[name].dash) for name in comparison.profiles}
    for name, profile in comparison.profiles.items():
        missing, (colour, dash) = (1 - profile.thresholds).numpy(), look[name]
        low, high, fraction = (field.numpy() for field in (profile.low, profile.high, profile.fraction))
        ax.fill_between(missing, low, high, step="post", color=colour, alpha=0.16, linewidth=0)
        ax.step(missing, fraction, where="post", color=colour, linestyle=dash, linewidth=1.7)
    _score_axis(ax, torch.cat(list(comparison.scores.values())))
    ordered = sorted(middle, key=lambda name: -middle[name])
    _medians(ax, [(name, middle[name], *look[name]) for name in ordered])
    words = "; ".join(f"{name}: median {show(middle[name])}" for name in ordered)
    return tell(ax, f"Performance profiles, the share of runs above each normalised score. {words}.")


def _score_axis(axes: Axes, scores: Tensor) -> None:
    missing = (1 - scores[scores.isfinite()]).clamp(SHARES[-1], SHARES[0])
    left = min(SHARES[0], 1.5 * float(missing.max())) if bool((scores < 0).any()) else 1.0
    right = max(SHARES[-1], 0.5 * float(missing.min())) if len(missing) else SHARES[-1]
    axes.set_xscale("log")
    axes.set_xlim(left, min(right, 0.1))
    axes.xaxis.set_major_locator(FixedLocator(SHARES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{1 - share:.6g}".replace("-", MINUS)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(-0.02, 1.03)


def _medians(axes: Axes, rows: list[tuple[str, float, str, str]]) -> None:
    """List the learners at the right, the best first: every curve ends at the foot, so that none can be led to."""
    width, height = inches(axes)
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "fontsize": 8}
    axes.text(1 + 0.15 / width, 1.0, "median score", **place, color=GREY)
    for n, (name, score, colour, dash) in enumerate(rows, 1):
        y, key = 1 - n * LINE / height, [1 + 0.15 / width, 1 + 0.36 / width]
        axes.plot(key, [y, y], transform=axes.transAxes, color=colour, linestyle=dash, linewidth=2.2, clip_on=False)
        axes.text(1 + 0.43 / width, y, f"{name}: {brief(score)}", **place, color=INK)
