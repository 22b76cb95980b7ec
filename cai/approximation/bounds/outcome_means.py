"""The mean over the outcomes of each choice, and where the mass of the choices goes to: two means, one interface."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cai.approximation.bounds.regions import Numbers


@runtime_checkable
class OutcomeMean(Protocol):
    """A mean of values v of the outcomes, ``[S]``, for each of C choices."""

    @property
    def p(self) -> Any:
        """The probabilities, sparse, ``[C, S]``."""

    def mean(self, v: Numbers) -> Numbers:
        """Return the mean, ``[C]``."""

    def size(self, v: Numbers) -> Numbers:
        """Return how large the numbers are that the mean is made of, ``[C]``: its rounding is in proportion."""

    def moved(self, v: Numbers, mass: Numbers) -> Numbers:
        """Return the mass of each outcome, ``[S]``: that of each choice, moved by the gradient of its mean."""


@dataclass(frozen=True, eq=False)
class Average:
    """The expectation Σ p v.

    Attributes:
        p: the probabilities, sparse, ``[C, S]``.
    """

    p: Any

    @cached_property
    def _back(self) -> Any:
        return self.p.T.tocsr()

    def mean(self, v: Numbers) -> Numbers:
        """Return Σ p v."""
        return self.p @ v  # type: ignore[no-any-return]

    def size(self, v: Numbers) -> Numbers:
        """Return Σ p |v|."""
        return self.p @ np.abs(v)  # type: ignore[no-any-return]

    def moved(self, v: Numbers, mass: Numbers) -> Numbers:
        """Move the mass by p."""
        return self._back @ mass  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class LogMeanExp:
    """The log-mean-exp ``η log Σ p exp(v/η)``, whose gradient is ``p exp(v/η)``, normalised.

    Attributes:
        p: the probabilities, sparse, ``[C, S]``; no row is empty.
        eta: η > 0 of each choice, reward units, ``[C]``.
    """

    p: Any
    eta: Numbers

    @cached_property
    def _counts(self) -> Numbers:
        return np.diff(self.p.indptr)

    @cached_property
    def _each_eta(self) -> Numbers:
        return self.eta.repeat(self._counts)

    def mean(self, v: Numbers) -> Numbers:
        """Return η log Σ p exp(v/η)."""
        top, _, total = self._weights(v)
        return top + self.eta * np.log(total)  # type: ignore[no-any-return]

    def size(self, v: Numbers) -> Numbers:
        """Return max |v| + η."""
        return self._most(np.abs(v)) + self.eta

    def moved(self, v: Numbers, mass: Numbers) -> Numbers:
        """Move the mass by ``p exp(v/η)``, normalised."""
        _, weights, total = self._weights(v)
        each = weights * (mass / total).repeat(self._counts)
        return np.bincount(self.p.indices, weights=each, minlength=self.p.shape[1])

    def _weights(self, v: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return the largest v of each choice, ``p exp((v - largest)/η)``, and the sum of these."""
        top = self._most(v)
        weights = self.p.data * np.exp((v[self.p.indices] - top.repeat(self._counts)) / self._each_eta)
        return top, weights, np.add.reduceat(weights, self.p.indptr[:-1])

    def _most(self, v: Numbers) -> Numbers:
        return np.maximum.reduceat(v[self.p.indices], self.p.indptr[:-1])
