"""Statistics over few seeds: interquartile means, stratified-bootstrap intervals, performance profiles.

Scores are ``[N, M]``: N runs (seeds) of each of M tasks (worlds); ``[N]`` is one task. A run may carry a curve of its
own, ``[N, M, G]``. Infinite scores are scores like any other; what is not a number is an error.

Source: Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice* (rliable).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault

Statistic = Callable[[Tensor], Tensor]
"""From scores ``[N, M, …]`` to numbers of any shape, in torch operations that ``torch.vmap`` can batch."""
RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 500
"""Resamples held in memory at one time."""


@dataclass(frozen=True)
class Profile:
    """A performance profile: which fraction of the runs scores above each threshold.

    Attributes:
        thresholds: the scores to be beaten, ``[K]``.
        fraction: of the runs above each, ``[K]``.
        low, high: the pointwise bootstrap interval of the fraction, ``[K]``.
    """

    thresholds: Float[Tensor, " K"]
    fraction: Float[Tensor, " K"]
    low: Float[Tensor, " K"]
    high: Float[Tensor, " K"]


def interquartile_mean(x: Float[Tensor, "*N"]) -> Float[Tensor, ""]:
    """Return the mean of the middle half of all entries, in their unit: floor(N/4) are cut off at either end.

    As ``scipy.stats.trim_mean(x, 0.25, axis=None)``; the plain mean of fewer than four.

    Raises:
        WorldError: there is no entry.
    """
    if not x.numel():
        raise fault("interquartile_mean, x", f"shape {list(x.shape)}", "at least one number")
    return interquartile_means(x.reshape(-1, 1)).squeeze(0)


def interquartile_means(x: Float[Tensor, "N *rest"]) -> Float[Tensor, "*rest"]:
    """Return the mean of the middle half along the first axis, ``[*rest]``: one for every point of a curve."""
    cut = x.shape[0] // 4
    return x.sort(0).values[cut : x.shape[0] - cut].mean(0)


def stratified_bootstrap(
    statistic: Statistic,
    scores: Float[Tensor, "N *rest"],
    n: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the percentile-bootstrap interval (low, high) of a statistic, each of the statistic's shape.

    A resample draws, for every task by itself, N of its N runs with replacement: the strata keep their sizes, and the
    curve of a run stays whole. The ends are resampled values themselves, rounded outwards, so that infinities stay.
    Few seeds give too short an interval: it knows no run but those that were made.

    Args:
        statistic: from ``[N, M, …]`` (``[N]`` where the scores are that), vmapped over the resamples.
        scores: ``[N]``, ``[N, M]`` or ``[N, M, …]``.
        n: resamples.
        level: the nominal coverage probability of the interval.
        seed: of the resampling.

    Raises:
        WorldError: a score is not a number, or ``n``, ``level`` or the shape makes no sense.
    """
    _require(scores, n, level)
    strata = scores if scores.dim() > 1 else scores.unsqueeze(-1)
    N, M = strata.shape[:2]
    draws = torch.Generator().manual_seed(seed)
    index = torch.randint(N, (n, N, M), generator=draws).to(scores.device)
    columns = torch.arange(M, device=scores.device)

    def resampled(rows: Tensor) -> Tensor:
        drawn = strata[rows, columns]
        return statistic(drawn if scores.dim() > 1 else drawn.squeeze(-1))

    ordered = torch.vmap(resampled, chunk_size=CHUNK)(index).sort(0).values
    tail = (1 - level) / 2 * (n - 1)
    first = int(tail + 1e-9)
    return ordered[first], ordered[n - 1 - first]


def mean_interval(x: Float[Tensor, " N"], tail: float) -> tuple[float, float, float]:
    """Return the mean and Student's interval for it, (mean, low, high): each end is passed with probability ``tail``.

    ``mean ± t_{N-1}(1 - tail) s/√N``, exact for Gaussian numbers, also for two of them. One number has the interval
    (-inf, inf), and equal numbers have none.

    Source: Student 1908, The probable error of a mean.
    """
    mean, N = float(x.mean()), len(x)
    if N < 2:
        return mean, -torch.inf, torch.inf
    half = student(N - 1, 1 - tail) * float(x.std()) / N**0.5
    return mean, mean - half, mean + half


def student(freedom: int, p: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.special import stdtrit  # slow to import, and few calls need it

    return float(stdtrit(freedom, p))


def performance_profile(
    scores: Float[Tensor, "N *M"],
    thresholds: Float[Tensor, " K"],
    *,
    n: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Profile:
    """Return the fraction of runs above each threshold, F(τ) = mean over tasks and runs of 1[score > τ], with its band.

    Raises:
        WorldError: a score is not a number, or ``n``, ``level`` or a shape makes no sense.
    """

    def above(x: Tensor) -> Tensor:
        return (x.reshape(-1, 1) > thresholds).to(scores.dtype).mean(0)

    low, high = stratified_bootstrap(above, scores, n, level, seed)
    return Profile(thresholds, above(scores), low, high)


def _require(scores: Tensor, n: int, level: float) -> None:
    if not scores.dim() or not scores.numel():
        raise fault("bootstrap, scores", f"shape {list(scores.shape)}", "[N] or [N, M]: at least one run and one task")
    if bool(scores.isnan().any()):
        where = scores.isnan().nonzero()[0].tolist()
        raise fault("bootstrap, scores", f"NaN at {where}", "numbers, which may be -inf or inf")
    if n < 1:
        raise fault("bootstrap, n", f"{n}", "a number of resamples, at least 1")
    if not 0 < level < 1:
        raise fault("bootstrap, level", f"{level}", "a probability between 0 and 1")
