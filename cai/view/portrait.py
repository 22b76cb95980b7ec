"""The phase portrait: two coordinates of the state, with level lines of the value, the mean path and its spread."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cai.compile.quadratic import Gaussian
from cai.errors import fault, require_time
from cai.evaluation.evaluation import Evaluation
from cai.exact.messages import Messages
from cai.support.numbers import brief, show
from cai.view.canvas import Array, Room, colour_key, linear, open_axes, panel
from cai.view.map_figures import Scale
from cai.view.readings import alpha_of, name_of
from cai.view.real_readings import closed_loop, lattice, moments_at, place_of, require_affine, system_of, value_at
from cai.view.style import GREY, INK, LINES, pale
from cai.view.vector import tell

SIDE = 2.6
"""The side of the picture, inches."""
LEVELS, FINE, ARROWS, ELLIPSES = 9, 61, 9, 6
"""How many level lines, points of the value a side, arrows a side, and ellipses."""
WITHIN = 5.991464547107979  # the 95 % quantile of χ² with 2 degrees of freedom


def phase_portrait(
    result: Messages | Evaluation,
    x: str | None = None,
    y: str | None = None,
    t: int = 0,
    *,
    scale: Scale = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw two coordinates of the state of a linear-Gaussian world: value, mean trajectory, marginals and drift.

    Level lines: v_t of messages, the return to come of an evaluated policy, reward units. Line and dots: the mean of
    s_0 … s_T; ellipses: 95 % of p(s_t). Arrows: the mean step of the closed loop from time t to t + 1, for
    messages under the rule's own dynamics. Other coordinates are at their mean of time t.

    Args:
        result: what ``cai.solve`` or ``cai.evaluate`` returns.
        x, y: coordinates of the state; the first two unless given.
        t: the time of value and arrows.
        scale: the ends of the colours, reward units; those of this picture unless given.
        title: above the panel; the rule's name and the time unless given.
        ax: where to draw; a new figure unless given.

    Raises:
        WorldError: the states are not real, or have one coordinate alone; there is no such coordinate or time; the
            horizon is infinite; the policy is known by samples alone; or the result is a batch.
    """
    plane = _plane(result, x, y, t)
    lines, ranges = _path(plane)
    title = title or f"{name_of(result)}, t = {t}"
    ax = panel(ax, (SIDE, SIDE), Room(left=0.62, right=0.45, bottom=0.95), title)
    open_axes(ax, plane.labels[0], plane.labels[1])
    ax.set(xlim=ranges[0], ylim=ranges[1])
    norm = _levels(ax, plane, ranges, scale)
    _arrows(ax, plane, ranges)
    ax.plot(*lines.T, color=INK, linewidth=1.4, zorder=4)
    shown = _ellipses(ax, plane)
    ax.plot(*lines[shown].T, "o", color=LINES[1], markersize=3.2, zorder=5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    what = "value v" if isinstance(result, Messages) else "return to come"
    colour_key(ax, pale("viridis", 0.85), norm, f"{what}, reward units", below=0.52)
    words = f"Phase portrait, {plane.labels[1]} over {plane.labels[0]}, {name_of(result)}, α = {alpha_of(result)}. "
    return tell(ax, words + _told(plane, what, lines), (float(norm.vmin or 0.0), float(norm.vmax or 0.0)))


@dataclass(frozen=True)
class Plane:
    """Two coordinates of the state, and the time at which value and drift are shown."""

    result: Any
    places: tuple[int, int]
    labels: tuple[str, str]
    t: int

    @property
    def horizon(self) -> int:
        """T."""
        return int(self.result.model.horizon)

    def points(self, grid: Tensor) -> Tensor:
        """Return states, ``[N, n]``, from their two coordinates, ``[N, 2]``; the others at their mean of time t."""
        states = moments_at(self.result, self.t).mean.expand(len(grid), -1).clone()
        states[:, list(self.places)] = grid
        return states

    def at(self, t: int) -> Gaussian:
        """Return the marginal of the two coordinates."""
        return moments_at(self.result, t).of(list(self.places))


def _plane(result: Any, x: str | None, y: str | None, t: int) -> Plane:
    where = "phase_portrait"
    space = system_of(result, where).states
    if space.dimension < 2:
        raise fault(where, f"a state of one coordinate, {space.labels[0]}", "two or more; cai.view.tubes shows one")
    require_time(f"{where}, t", t, result.model.horizon)
    first = place_of(space, space.labels[0] if x is None else x, f"{where}, x")
    other = next(label for i, label in enumerate(space.labels) if i != first)
    second = place_of(space, other if y is None else y, f"{where}, y")
    if first == second:
        raise fault(where, f"{space.labels[first]} twice", "two different coordinates")
    require_affine(result, where)
    return Plane(result, (first, second), (space.labels[first], space.labels[second]), t)


def _path(plane: Plane) -> tuple[Array, tuple[tuple[float, float], tuple[float, float]]]:
    """Return the means of all times, ``[T+1, 2]``, and the ranges that hold them and their ellipses."""
    each = [plane.at(t) for t in range(plane.horizon + 1)]
    means = torch.stack([one.mean for one in each])
    reach = torch.stack([one.deviation for one in each]) * WITHIN**0.5
    low, high = (means - reach).amin(0), (means + reach).amax(0)
    air = 0.06 * (high - low).clamp(min=1e-9)
    ends = [(float(a), float(b)) for a, b in zip(low - air, high + air, strict=True)]
    return means.numpy(), (ends[0], ends[1])


def _grid(ranges: Any, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return n by n points inside the ranges, as axes and as pairs ``[n², 2]``."""
    across, up = (lattice(low, high, n) for low, high in ranges)
    x, y = torch.meshgrid(across, up, indexing="xy")
    return across, up, torch.stack((x.reshape(-1), y.reshape(-1)), -1)


def _levels(ax: Axes, plane: Plane, ranges: Any, scale: Scale) -> Any:
    across, up, grid = _grid(ranges, FINE)
    v = value_at(plane.result, plane.t)
    height = v(plane.points(grid)).reshape(FINE, FINE).numpy()
    norm = linear([height], scale)
    cuts = np.linspace(float(norm.vmin or 0.0), float(norm.vmax or 1.0), LEVELS + 2)
    look: dict[str, Any] = {"cmap": pale("viridis", 0.85), "norm": norm}
    ax.contourf(across, up, height, levels=cuts, alpha=0.55, extend="both", **look)
    ax.contour(across, up, height, levels=cuts[1:-1], colors=GREY, linewidths=0.5, linestyles="solid")
    return norm


def _arrows(ax: Axes, plane: Plane, ranges: Any) -> None:
    """Draw where the mean goes in a step; the longest arrow is as long as the arrows are apart."""
    inner = [(a + 0.06 * (b - a), b - 0.06 * (b - a)) for a, b in ranges]
    _, _, grid = _grid(inner, ARROWS)
    states, loop = plane.points(grid), closed_loop(plane.result, plane.t)
    moved = (states @ loop.gain.mT + loop.offset - states)[:, list(plane.places)].numpy()
    wide = np.array([b - a for a, b in ranges])
    longest = float(np.hypot(*(moved / wide).T).max())
    if longest > 0:
        look: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "width": 0.0045, "color": GREY, "zorder": 2}
        ax.quiver(*grid.T.numpy(), *moved.T, scale=longest * (ARROWS - 1) / 0.88, pivot="tail", **look)


def _ellipses(ax: Axes, plane: Plane) -> list[int]:
    """Draw where 95 % of the probability lies at a few times; return the times."""
    times = sorted({round(share * plane.horizon) for share in np.linspace(0, 1, ELLIPSES)})
    for t in times:
        one = plane.at(t)
        sizes, turns = torch.linalg.eigh(one.covariance)
        wide, high = (2 * (WITHIN * sizes.flip(0).clamp(min=0)).sqrt()).tolist()
        angle = float(torch.rad2deg(torch.atan2(turns[1, 1], turns[0, 1])))
        look: dict[str, Any] = {"edgecolor": LINES[1], "linewidth": 1.0, "zorder": 3}
        ax.add_patch(Ellipse(tuple(one.mean.tolist()), wide, high, angle=angle, facecolor="none", **look))
    return times


def _told(plane: Plane, what: str, means: Array) -> str:
    """Say where the mean begins and ends, how wide it is there, and the value at the mean of time t."""
    ends = []
    for t in (0, plane.horizon):
        one = plane.at(t)
        each = zip(plane.labels, one.mean.tolist(), one.deviation.tolist(), strict=True)
        ends.append(f"{', '.join(f'{name} {brief(mean)} ± {brief(wide)}' for name, mean, wide in each)} at t = {t}")
    middle = moments_at(plane.result, plane.t).mean
    worth = show(float(value_at(plane.result, plane.t)(middle)))
    drift = middle @ closed_loop(plane.result, plane.t).gain.mT + closed_loop(plane.result, plane.t).offset - middle
    moves = zip(plane.labels, plane.places, strict=True)
    goes = " and ".join(f"{name} by {brief(float(drift[i]))}" for name, i in moves)
    return (
        f"The mean path goes from {' to '.join(ends)}. At the mean state of t = {plane.t} the {what} is {worth} reward "
        f"units, and a step changes {goes}."
    )
