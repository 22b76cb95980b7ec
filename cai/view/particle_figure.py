"""Particles: the weighted trajectories of an approximation, over the true posterior's tube where that is known."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from cai.approximation.approximation import Approximation
from cai.approximation.trajectories import Trajectories
from cai.errors import fault
from cai.exact.messages import Messages
from cai.support.numbers import brief, show
from cai.view.canvas import Array, Room, open_axes, panel
from cai.view.real_readings import moments_at, system_of
from cai.view.style import GREY, INK, LINES
from cai.view.vector import tell
from cai.world.coordinates import Coordinates

MOST = 120
"""So many draws by weight are drawn, and as many of all trajectories alike."""
WIDE = 2.0
"""The true posterior's band reaches so many standard deviations."""
TRUE = LINES[1]
INKED = 0.2
"""The opacity of a line that was drawn once."""


def particles(
    approximation: Approximation,
    x: str | None = None,
    y: str | None = None,
    *,
    exact: Messages | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw weighted trajectories: one coordinate of the state over time, or two in the plane.

    Blue lines are drawn by weight, so that they show p(τ|O); one that was drawn again is darker. Grey lines are drawn
    without regard to weight. The dashed line is the weighted mean. Of a linear-Gaussian world the exact posterior is
    drawn beneath: its mean, and 2 standard deviations around it.

    Args:
        approximation: of a method that draws trajectories.
        x: a coordinate of the state, ``position`` or ``state[0]``; the first unless given.
        y: another one, to draw the plane of the two; over time unless given.
        exact: the messages of POSTERIOR at the same temperature.
        title: above the panel; the method's name and its effective sample size unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the method draws none, there is no such coordinate, or ``exact`` is not of such a world.
    """
    found = getattr(approximation, "trajectories", None)
    if not isinstance(found, Trajectories):
        seen = getattr(approximation, "method", f"a {type(approximation).__name__}")
        raise fault("particles", f"no trajectories: {seen}", "an approximation by a method that draws some")
    labels = labels_of(approximation)
    names = [labels[0] if x is None else x] + ([] if y is None else [y])
    places = [_place(labels, name) for name in names]
    size = found.effective_sample_size
    heading = title or f"{approximation.method}: {brief(size)} effective samples"
    ax = panel(ax, (2.6, 2.6 if y else 1.9), Room(left=0.62, right=0.25, bottom=0.45), heading)
    open_axes(ax, names[0] if y else "time t", names[1] if y else names[0])
    times = _drawn(found.log_weights.exp())
    _lines(ax, _axes(found.states[:, :, places]), times)
    mean = _axes(torch.einsum("n,ntk->tk", found.log_weights.exp(), found.states[:, :, places])[None])[0]
    ax.plot(*mean.T, color=INK, linewidth=1.3, linestyle=(0, (4, 2)), zorder=5)
    told = "" if exact is None else _posterior(ax, exact, names)
    if y is None:
        ax.set_xlim(0, len(mean) - 1)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ends = " and ".join(f"{name} {brief(float(mean[-1, i - len(names)]))}" for i, name in enumerate(names))
    words = (
        f"Particles of {approximation.method}, {' and '.join(names)}{'' if y else ' over time'}. Effective sample size "
        f"{show(size)} of {len(times):,} trajectories; {sum(times)} draws by weight are {sum(n > 0 for n in times)} of "
        f"them. "
        f"The weighted mean ends at {ends}.{told}"
    )
    return tell(ax, words, ax.get_ylim())


def labels_of(approximation: Approximation) -> tuple[str, ...]:
    """Return the names of the state's coordinates; they are numbered where the policy does not know the world."""
    space = getattr(getattr(approximation.policy, "program", None), "states", None)
    if isinstance(space, Coordinates):
        return space.labels
    n = 0 if approximation.trajectories is None else approximation.trajectories.states.shape[-1]
    return tuple(f"state[{i}]" for i in range(n))


def _place(labels: tuple[str, ...], name: str) -> int:
    if name not in labels:
        raise fault("particles, coordinate", f"'{name}'", f"one of {', '.join(labels)}")
    return labels.index(name)


def _drawn(weights: torch.Tensor) -> list[int]:
    """Return how often each trajectory is drawn by weight, systematically: the same picture each time."""
    even = (torch.arange(MOST, dtype=weights.dtype) + 0.5) / MOST
    chosen = torch.searchsorted(weights.cumsum(0) / weights.sum(), even).clamp(max=len(weights) - 1)
    times: list[int] = torch.bincount(chosen, minlength=len(weights)).tolist()
    return times


def _axes(states: torch.Tensor) -> Array:
    """Return two axes for each path: the time before one coordinate alone. ``[M, T+1, 1 or 2] -> [M, T+1, 2]``."""
    if states.shape[-1] == 1:
        time = torch.arange(states.shape[1], dtype=states.dtype).expand(len(states), -1).unsqueeze(-1)
        states = torch.cat((time, states), -1)
    return np.asarray(states)


def _lines(ax: Axes, paths: Array, times: list[int]) -> None:
    """Draw the paths: some grey beneath, and blue what is drawn by weight; the ink of several draws lies in layers."""
    beneath = paths[:: max(1, len(paths) // MOST)]
    ax.add_collection(
        LineCollection(list(beneath), colors=[to_rgba(GREY, 0.14)], linewidths=0.5, zorder=2), autolim=False
    )
    blue = [(path, to_rgba(LINES[0], 1 - (1 - INKED) ** n)) for path, n in zip(paths, times, strict=True) if n]
    lines, colours = zip(*blue, strict=True)
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=0.8, zorder=3))
    ax.autoscale_view()


def _posterior(ax: Axes, exact: Messages, names: list[str]) -> str:
    """Draw the exact posterior's mean and spread, and say where it ends."""
    space = system_of(exact, "particles, exact").states
    places = [_place(space.labels, name) for name in names]
    each = [moments_at(exact, t).of(places) for t in range((exact.model.horizon or 0) + 1)]
    mean = _axes(torch.stack([one.mean for one in each])[None])[0]
    if len(names) == 1:
        reach = WIDE * np.array([float(one.deviation[0]) for one in each])
        look: dict[str, Any] = {"color": TRUE, "linewidth": 0, "alpha": 0.22, "zorder": 1}
        ax.fill_between(mean[:, 0], mean[:, 1] - reach, mean[:, 1] + reach, **look)
    else:
        for t in sorted({round(share * (len(each) - 1)) for share in np.linspace(0, 1, 6)}):
            ax.add_patch(_ellipse(each[t].mean, each[t].covariance))
    ax.plot(*mean.T, color=TRUE, linewidth=1.6, zorder=4)
    last = each[-1]
    ends = zip(names, last.mean.tolist(), last.deviation.tolist(), strict=True)
    told = " and ".join(f"{name} {brief(m)} ± {brief(d)}" for name, m, d in ends)
    return f" The exact posterior, in orange with 2 standard deviations around its mean, ends at {told}."


def _ellipse(mean: torch.Tensor, covariance: torch.Tensor) -> Ellipse:
    sizes, turns = torch.linalg.eigh(covariance)
    wide, high = (2 * WIDE * sizes.flip(0).clamp(min=0).sqrt()).tolist()
    angle = float(torch.rad2deg(torch.atan2(turns[1, 1], turns[0, 1])))
    look: dict[str, Any] = {"facecolor": to_rgba(TRUE, 0.14), "edgecolor": TRUE, "linewidth": 1.0, "zorder": 1}
    return Ellipse((float(mean[0]), float(mean[1])), wide, high, angle=angle, **look)
