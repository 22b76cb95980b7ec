"""Regions in one array each: their states one after the other, and the choices of each state one after the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cai.approximation.bounds.regions import ACTION, Numbers, Parts, Region
from cai.compile.factor_model import Factor


@dataclass(frozen=True, eq=False)
class StackedRegions:
    """K regions, S states and C choices in all.

    Attributes:
        regions: the master first.
    """

    regions: Sequence[Region]

    @cached_property
    def first(self) -> Numbers:
        """Where the choices of each region begin, and C at the end, ``[K + 1]``."""
        return np.cumsum([0, *(len(region.choices[ACTION]) for region in self.regions)])

    @cached_property
    def begins(self) -> Numbers:
        """Where the states of each region begin, and S at the end, ``[K + 1]``."""
        return np.cumsum([0, *self.states])

    @property
    def states(self) -> list[int]:
        """The number of states of each region."""
        return [region.shape[0] for region in self.regions]

    @cached_property
    def length(self) -> Numbers:
        """The number of choices of each state, ``[S]``."""
        each = [np.full(region.shape[0], math.prod(region.shape[1:])) for region in self.regions]
        return np.concatenate(each)

    @cached_property
    def segment(self) -> Numbers:
        """Where the choices of each state begin, ``[S]``."""
        return np.cumsum([0, *self.length[:-1]])

    @property
    def of_choice(self) -> Numbers:
        """The region of each choice, ``[C]``."""
        return np.arange(len(self.regions)).repeat(np.diff(self.first))

    def outcomes(self) -> Any:
        """Return p(next state|choice), sparse, ``[C, S]``."""
        from scipy.sparse import csr_matrix

        each = zip(self.regions, self.first, self.begins, strict=False)
        parts = [(region.outcomes, f, s) for region, f, s in each]
        row = np.concatenate([row + f for (row, _, _), f, _ in parts])
        column = np.concatenate([column + s for (_, column, _), _, s in parts])
        p = np.concatenate([p for (_, _, p), _, _ in parts])
        return csr_matrix((p, (row, column)), shape=(self.first[-1], self.begins[-1]))

    def start(self) -> Any:
        """Return p(state at time 0) of each region, sparse, ``[K, S]``."""
        from scipy.sparse import csr_matrix

        p = np.concatenate([region.start for region in self.regions])
        row, column = np.arange(len(self.regions)).repeat(self.states), np.arange(len(p))
        return csr_matrix((p[p > 0], (row[p > 0], column[p > 0])), shape=(len(self.regions), len(p)))

    def paid(self, parts: Parts) -> tuple[Numbers, float]:
        """Return the rewards of each choice, ``[C]``, and at most what the rewards pay that no region reads."""
        return self._shared(parts.rewards, parts, [region.choices for region in self.regions])

    def paid_last(self, parts: Parts) -> tuple[Numbers, float]:
        """Return the terminal rewards of each state, ``[S]``, and at most what those pay that no region reads."""
        return self._shared(parts.factors.terminal, parts, [region.states for region in self.regions])

    def _shared(self, pieces: Sequence[Factor], parts: Parts, values: Sequence[Any]) -> tuple[Numbers, float]:
        """Give each term to one region that reads it."""
        sums = [np.zeros(len(next(iter(value.values()), np.zeros(1)))) for value in values]
        lost = 0.0
        for piece in pieces:
            read = set(parts.states_of(piece.scope))
            home = next((k for k, region in enumerate(self.regions) if read <= set(region.core)), None)
            table = piece.table.double().numpy()
            if home is None:
                lost += float(table.max())
            else:
                sums[home] = sums[home] + table[tuple(values[home][name] for name in piece.scope)]
        return np.concatenate(sums), lost
