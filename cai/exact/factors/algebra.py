"""The three algebras of variable elimination: each defines a product and a sum over a variable.

A table over named variables is a ``Factor``. ``combine(a, b, keep)`` multiplies two factors and sums out all variables
but ``keep``:

    SumProduct   Σ a b                  probabilities, and what is averaged under them
    LogSum       log Σ exp(a + b)       the same in log space, safe at every range, slower
    MaxSum       max (a + b)            Viterbi
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, aligned
from cai.support.numerics import logsumexp


@runtime_checkable
class Algebra(Protocol):
    """How tables are multiplied, and variables summed out; see the module's words."""

    @property
    def unit(self) -> float:
        """What multiplies without a change."""

    @property
    def merges(self) -> int:
        """How many numbers a product of small tables may hold before it is applied to the message."""

    def combine(self, a: Factor, b: Factor, keep: tuple[str, ...]) -> Factor:
        """Return the product with all variables but ``keep`` summed out, in that order where they occur."""


@dataclass(frozen=True)
class SumProduct:
    """Products and sums, as matrix products: several variables are eliminated at once."""

    unit: float = 1.0
    merges: int = 1 << 12

    def combine(self, a: Factor, b: Factor, keep: tuple[str, ...]) -> Factor:
        """Return Σ a b over what is not kept."""
        letters = {name: i for i, name in enumerate(dict.fromkeys((*a.scope, *b.scope)))}
        out = tuple(name for name in keep if name in letters)
        codes = [[letters[name] for name in scope] for scope in (a.scope, b.scope, out)]
        return Factor(out, torch.einsum(b.table, codes[1], a.table, codes[0], codes[2]))


@dataclass(frozen=True)
class LogSum:
    """Sums and log-sum-exps: nothing underflows."""

    unit: float = 0.0
    merges: int = 0

    def combine(self, a: Factor, b: Factor, keep: tuple[str, ...]) -> Factor:
        """Return log Σ exp(a + b) over what is not kept."""
        total, out, rest = _added(a, b, keep)
        return Factor(out, logsumexp(total, tuple(range(-rest, 0))) if rest else total)


@dataclass(frozen=True)
class MaxSum:
    """Sums and maxima."""

    unit: float = 0.0
    merges: int = 0

    def combine(self, a: Factor, b: Factor, keep: tuple[str, ...]) -> Factor:
        """Return max (a + b) over what is not kept."""
        total, out, rest = _added(a, b, keep)
        return Factor(out, total.amax(tuple(range(-rest, 0))) if rest else total)


def summed(algebra: Algebra, factor: Factor, keep: tuple[str, ...]) -> Factor:
    """Sum out all variables of one table but ``keep``."""
    return algebra.combine(factor, Factor((), factor.table.new_tensor(algebra.unit)), keep)


def _added(a: Factor, b: Factor, keep: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...], int]:
    """Return a + b with what is kept first, the kept scope, and how many axes are to be summed out."""
    both = dict.fromkeys((*a.scope, *b.scope))
    out = tuple(name for name in keep if name in both)
    gone = tuple(name for name in both if name not in out)
    return aligned(a, (*out, *gone)) + aligned(b, (*out, *gone)), out, len(gone)
