"""Numbers over seeds: an interquartile mean with its interval, and learning curves on a common grid of steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.evaluation.statistics import interquartile_mean, interquartile_means, stratified_bootstrap
from cai.learn.result import Learned, Progress

POINTS = 200
"""The most points of a curve's grid."""


@dataclass(frozen=True)
class Estimate:
    """One number over seeds, in the unit of its runs.

    Attributes:
        value: the interquartile mean of the runs that are known.
        low, high: its 95 % bootstrap interval.
        runs: the number itself, a run each; None where it is not known.
    """

    value: float
    low: float
    high: float
    runs: tuple[float | None, ...]

    @property
    def infinite(self) -> int:
        """How many runs are infinite: the interquartile mean cuts off a quarter of them, so they are counted here."""
        return sum(one is not None and math.isinf(one) for one in self.runs)

    @property
    def unknown(self) -> int:
        """How many runs are not known."""
        return sum(one is None for one in self.runs)


@dataclass(frozen=True)
class Curve:
    """A learning curve over seeds.

    Attributes:
        steps: environment steps, ``[G]``.
        value: the interquartile mean of the runs at each, ``[G]``.
        low, high: its pointwise 95 % bootstrap interval, whole runs resampled, ``[G]``.
        runs: how many runs it is made of.
    """

    steps: Float[Tensor, " G"]
    value: Float[Tensor, " G"]
    low: Float[Tensor, " G"]
    high: Float[Tensor, " G"]
    runs: int


def over_seeds(runs: Sequence[float | None]) -> Estimate | None:
    """Return the interquartile mean of the runs that are known, with its interval; None where none is.

    What is not a number is not known, and neither is a mean of runs of which some are inf and some -inf.
    """
    runs = [None if one is None or math.isnan(one) else one for one in runs]
    known = torch.tensor([one for one in runs if one is not None], dtype=torch.float64)
    if not len(known) or bool(known.isposinf().any() and known.isneginf().any()):
        return None
    low, high = stratified_bootstrap(interquartile_mean, known)
    return Estimate(float(interquartile_mean(known)), float(low), float(high), tuple(runs))


def worst_gap(run: Learned) -> float | None:
    """Return the largest policy nats at or after the smallest: what was learned *and held*; None where unknown.

    What stood there before the first update was not learned, and does not count where there is more.
    """
    learned = run.history[1:] or run.history
    gaps = [one.policy_nats for one in learned if one.policy_nats is not None]
    return max(gaps[gaps.index(min(gaps)) :]) if gaps else None


def learning_curve(runs: Sequence[Learned], read: Callable[[Progress], float | None]) -> Curve | None:
    """Return the curve over seeds of what ``read`` finds in every evaluation; None where no run has any.

    Between evaluations a run is interpolated linearly (infinite beside an infinite one). A run that ended by itself
    keeps its last value; where one was interrupted, the curve of all ends.
    """
    known = [(run, _points(run, read)) for run in runs]
    read_out = [(run, points) for run, points in known if len(points)]
    if not read_out:
        return None
    grid = _grid(read_out)
    if not len(grid):
        return None
    values = torch.stack([interpolated(points, grid) for _, points in read_out])
    low, high = stratified_bootstrap(interquartile_means_of_runs, values.unsqueeze(1))
    return Curve(grid, interquartile_means(values), low, high, len(read_out))


def interquartile_means_of_runs(x: Float[Tensor, "N M G"]) -> Float[Tensor, " G"]:
    """Return the interquartile mean over all runs of all tasks at every point of their curves."""
    return interquartile_means(x.flatten(0, 1))


def interpolated(points: Float[Tensor, "P 2"], grid: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
    """Interpolate points (step, value), steps ascending, linearly; constant outside, infinite beside an infinite one.

    Of several values at one step the last counts.
    """
    steps, values = points.T.contiguous()
    right = torch.searchsorted(steps, grid, right=True).clamp(max=len(steps) - 1)
    left = (torch.searchsorted(steps, grid, right=True) - 1).clamp(min=0)
    width = steps[right] - steps[left]
    share = ((grid - steps[left]) / torch.where(width > 0, width, 1.0)).clamp(0.0, 1.0)
    a, b = values[left], values[right]
    between = torch.where(a.isinf(), a, torch.where(b.isinf(), b, a + share * (b - a)))
    return torch.where(share == 0, a, between)


def _points(run: Learned, read: Callable[[Progress], float | None]) -> Tensor:
    read_out = [(float(one.steps), read(one)) for one in run.history]
    found = [(step, value) for step, value in read_out if value is not None and not math.isnan(value)]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 2)


def _grid(read_out: Sequence[tuple[Learned, Tensor]]) -> Tensor:
    """Return the steps at which some run was evaluated and every run is known, thinned to ``POINTS``."""
    steps = torch.cat([points[:, 0] for _, points in read_out]).unique()
    first = max(float(points[0, 0]) for _, points in read_out)
    cut = [float(points[-1, 0]) for run, points in read_out if run.stopped == "interrupted"]
    inside: Tensor = steps[(steps >= first) & (steps <= min(cut, default=math.inf))]
    if len(inside) > POINTS:
        inside = inside[torch.linspace(0, len(inside) - 1, POINTS).round().long()]
    return inside
