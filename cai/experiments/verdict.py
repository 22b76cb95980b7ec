"""Verdicts: computed from numbers, by rules that can say no."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

HOLDS, FAILS, DEPENDS = "holds", "does not hold here", "depends"


@dataclass(frozen=True)
class Check:
    """One statement of the claim, and whether the numbers agree.

    Attributes:
        words: the measurement, with its numbers.
        holds: whether it agrees with the claim.
    """

    words: str
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the checks behind it.

    Attributes:
        word: "holds", "does not hold here" or "depends".
        checks: the checks, in order.
    """

    word: str
    checks: tuple[Check, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The checks for people, a line each."""
        return tuple(f"{'yes' if check.holds else 'no '}  {check.words}" for check in self.checks)

    def sentence(self, evidence: str) -> str:
        """Return the verdict in one sentence: the word, how many checks agree, and the evidence that they rest on."""
        agreeing = sum(check.holds for check in self.checks)
        return f"{self.word}: {agreeing} of {len(self.checks)} checks agree, on {evidence}"


def judged(checks: Sequence[Check]) -> Verdict:
    """Return the verdict: the claim holds if every check does, does not if none does, and else depends on which."""
    agreeing = sum(check.holds for check in checks)
    word = HOLDS if agreeing == len(checks) else FAILS if not agreeing else DEPENDS
    return Verdict(word, tuple(checks))


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: the mean.
        error: its standard error; 0 for a single seed, or where nothing is random.
        runs: the number itself, a seed each.
    """

    value: float
    error: float
    runs: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.value:.3g}" + (f" ± {self.error:.1g}" if self.error else "")


def mean_of(runs: Float[Tensor, " N"] | Sequence[float]) -> Mean:
    """Return mean and standard error, sd/√N, over seeds."""
    numbers = torch.as_tensor(runs, dtype=torch.float64)
    error = float(numbers.std() / math.sqrt(len(numbers))) if len(numbers) > 1 else 0.0
    return Mean(float(numbers.mean()), error, tuple(numbers.tolist()))


def above(mean: Mean, other: Mean, margin: float = 0.0) -> bool:
    """Return whether one is above another by more than a margin and two standard errors, seed against equal seed."""
    gap = mean_of([a - b for a, b in zip(mean.runs, other.runs, strict=True)])
    return gap.value - 2 * gap.error > margin
