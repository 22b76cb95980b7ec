"""Numbers over seeds: an interquartile mean with its interval, and learning curves on a common grid of steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.evaluation.statistics import (
    Profile,
    interquartile_mean,
    interquartile_means,
    performance_profile,
    stratified_bootstrap,
)
from cai.evaluation.subject import Run

POINTS = 200
"""The most points of a curve's grid."""
CURVES = ("policy_nats", "stochastic_return", "deterministic_return")
"""The numbers of an evaluation that are followed over the steps."""

THRESHOLDS = 1 - torch.logspace(1, -4, 251, dtype=torch.float64)
"""Scores to be beaten, from far below the prior (-9) to the best but one part in ten thousand."""


@dataclass(frozen=True)
class Estimate:
    """One number over seeds, in the unit of its runs.

    Attributes:
        value: the interquartile mean of the runs that are known.
        low, high: its 95 % bootstrap interval.
        runs: the number itself, a run each; None where it is not known.
        error: the standard error of a single number that was sampled; 0 where it is exact.
    """

    value: float
    low: float
    high: float
    runs: tuple[float | None, ...]
    error: float = 0.0

    @property
    def infinite(self) -> int:
        """How many runs are infinite: the interquartile mean cuts off a quarter of them, so they are counted here."""
        return sum(run is not None and math.isinf(run) for run in self.runs)

    @property
    def unknown(self) -> int:
        """How many runs are not known."""
        return sum(run is None for run in self.runs)


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
    runs = [None if run is None or math.isnan(run) else float(run) for run in runs]
    numbers = [run for run in runs if run is not None]
    if not numbers or {math.inf, -math.inf} <= set(numbers):
        return None
    if len(numbers) == 1:
        return Estimate(numbers[0], numbers[0], numbers[0], tuple(runs))
    known = torch.tensor(numbers, dtype=torch.float64)
    low, high = stratified_bootstrap(interquartile_mean, known)
    return Estimate(float(interquartile_mean(known)), float(low), float(high), tuple(runs))


def worst_after_best(run: Run, field: str, best: Callable[..., float]) -> float | None:
    """Return the worst number of the evaluations at or after the best one; None where none is known.

    What stood there before the first update was not learned, and does not count where there is more.

    Args:
        run: with a history.
        field: of the evaluations.
        best: ``max`` or ``min``, whichever is better.
    """
    each = [getattr(point, field, None) for point in run.history[1:] or run.history]
    values = [value for value in each if value is not None]
    worst = min if best is max else max
    return worst(values[values.index(best(values)) :]) if values else None


def learning_curve(runs: Sequence[Run], field: str) -> Curve | None:
    """Return the curve over seeds of a field of every evaluation; None where no run knows any.

    Between evaluations a run is interpolated linearly (infinite beside an infinite one). A run that ended by itself
    keeps its last value; where one was interrupted, the curve of all ends.
    """
    points = [(run, _points(run, field)) for run in runs]
    known = [(run, each) for run, each in points if len(each)]
    grid = _grid(known) if known else torch.empty(0)
    if not len(grid):
        return None
    values = torch.stack([interpolated(each, grid) for _, each in known])
    low, high = stratified_bootstrap(interquartile_means_of_runs, values.unsqueeze(1))
    return Curve(grid, interquartile_means(values), low, high, len(known))


def learning_curves(runs: Sequence[Run]) -> dict[str, Curve]:
    """Return the curves of all ``CURVES`` that some run knows."""
    curves = {field: learning_curve(runs, field) for field in CURVES}
    return {field: curve for field, curve in curves.items() if curve is not None}


def normalised_scores(elbos: Sequence[float], prior: float, star: float) -> Float[Tensor, " N"]:
    """Return (ELBO(π) - ELBO(prior)) / (ELBO* - ELBO(prior)): 0 is the prior's, 1 the best there is."""
    return (torch.tensor(elbos, dtype=torch.float64) - prior) / (star - prior)


def profile_of(scores: Float[Tensor, " N"]) -> Profile:
    """Return the fraction of runs above every one of ``THRESHOLDS``."""
    return performance_profile(scores, THRESHOLDS)


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


def _points(run: Run, field: str) -> Tensor:
    each = [(float(point.steps), getattr(point, field, None)) for point in run.history]
    known = [(step, value) for step, value in each if value is not None and not math.isnan(value)]
    return torch.tensor(known, dtype=torch.float64).reshape(-1, 2)


def _grid(points: Sequence[tuple[Run, Tensor]]) -> Tensor:
    """Return the steps at which some run was evaluated and every run is known, thinned to ``POINTS``."""
    steps = torch.cat([each[:, 0] for _, each in points]).unique()
    first = max(float(each[0, 0]) for _, each in points)
    cut = [float(each[-1, 0]) for run, each in points if run.stopped == "interrupted"]
    inside: Tensor = steps[(steps >= first) & (steps <= min(cut, default=math.inf))]
    if len(inside) > POINTS:
        inside = inside[torch.linspace(0, len(inside) - 1, POINTS).round().long()]
    return inside
