"""A sum of local functions above another one: a linear program with constraints made as they are needed.

    minimise Σ_n v(x_n)   subject to   v(x) >= q(x, a)  for all x and a,      v = Σ_i h_i  of small tables

The program holds the constraints of some states. The most violated ones of all are found by elimination, and added
(Schuurmans & Patrascu 2001). Between the best sum that
is proved and the program's own one lies the next to be tried, which is steadier (Ben-Ameur & Neto 2007). The largest
violation that is left is added to v, so that v >= q holds whatever the program gave.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cai.approximation.bounds.local_sums import LocalSum, minus, value_at
from cai.approximation.bounds.max_elimination import maximum
from cai.compile.factor_model import Factor

States = dict[str, Tensor]
"""Joint states, ``[N]`` a variable."""


CLOSE = 1e-4
"""Of its size, how near the fit is to the least mean that the program allows when it stops."""
CUTS = 20
"""Constraints of states next to the worst one that are added with it."""


class LocalFit:
    """Fits v >= max_a q(., a) from above.

    Args:
        scopes: of the tables that v is made of.
        states: the number of values of each state variable.
        actions: the same of each action variable.
        together: whether the actions stay side by side in the elimination, so that each gives a constraint.
    """

    def __init__(
        self, scopes: Sequence[tuple[str, ...]], states: Mapping[str, int], actions: Mapping[str, int], together: bool
    ) -> None:
        self.scopes, self.states, self.actions = list(scopes), dict(states), dict(actions)
        self.kept = tuple(actions) if together else ()
        self.shapes = [tuple(states[name] for name in scope) for scope in scopes]
        self.offsets = np.cumsum([0, *(math.prod(shape) for shape in self.shapes)])

    def above(
        self, q: LocalSum, relevant: States, pool: States, rounds: int, deadline: float
    ) -> tuple[LocalSum, States]:
        """Return v >= q everywhere, small at the relevant states, and the states whose constraints it took.

        Args:
            q: over states and actions.
            relevant: where v is to be small, ``[N]``.
            pool: states whose constraints are taken from the start.
            rounds, deadline: how often constraints are added at most, and when to stop, ``time.monotonic``.
        """
        best, worst, _ = self.proved(self._solved(q, relevant, pool, deadline), q)
        for _ in range(rounds):
            if time.monotonic() > deadline:
                break
            pool = joined(pool, self._near(worst, best, q))
            outer = self._solved(q, relevant, pool, deadline)
            least, reached = (float(value_at(v, relevant).mean()) for v in (outer, best))
            if reached - least <= CLOSE * max(1.0, abs(reached)):
                break
            tried = mixed(best, outer)
            proved, worst, _ = self.proved(tried, q)
            if float(value_at(proved, relevant).mean()) < reached:
                best = proved
        slack = value_at(best, pool) - self.target(q, pool)
        return best, _some(pool, -slack, 2 * int(self.offsets[-1]))

    def _near(self, worst: States, v: LocalSum, q: LocalSum) -> States:
        """Return the worst states, and the most violated of those that differ from one of them in one variable."""
        first = {name: value[:1] for name, value in _some(worst, self.target(q, worst) - value_at(v, worst), 1).items()}
        rows = [first | {name: torch.tensor([i])} for name, size in self.states.items() for i in range(size)]
        flips = {name: torch.cat([row[name] for row in rows]) for name in self.states}
        return joined(worst, _some(flips, self.target(q, flips) - value_at(v, flips), CUTS))

    def proved(self, v: LocalSum, q: LocalSum) -> tuple[LocalSum, States, float]:
        """Return v raised by its largest violation, rounding counted in; where it is violated most; and by how much."""
        found = maximum([*q, *minus(v)], {**self.states, **self.actions}, self.kept)
        violation = float(found.upper.max())
        worst = {name: value for name, value in found.where.items() if name in self.states}
        if violation == -math.inf:  # nothing is possible: any v is above q
            return v, worst, 0.0
        return raised(v, violation), worst, violation

    def _solved(self, q: LocalSum, relevant: States, pool: States, deadline: float) -> LocalSum:
        """Solve the program for the constraints of some states."""
        from scipy.optimize import linprog

        target = self.target(q, pool)
        bound = target.isfinite()
        if not bool(bound.any()):
            return self._tables(np.zeros(self.offsets[-1]))
        rows, costs = self._features(pool), self._features(relevant)
        low, high = float(target[bound].min()), float(target[bound].max())
        size = high - low + 1.0
        found = linprog(
            np.asarray(costs.mean(0)).ravel(),
            A_ub=-rows[bound.numpy()],
            b_ub=low - target[bound].numpy(),
            bounds=(-size, size),
            method="highs",
            options={} if deadline == math.inf else {"time_limit": max(0.1, deadline - time.monotonic())},
        )
        weights = np.zeros(self.offsets[-1]) if found.x is None else found.x
        return (*self._tables(weights), Factor((), target.new_tensor(low)))

    def target(self, q: LocalSum, states: States) -> Tensor:
        """Return max_a q(s, a), ``[N]``."""
        n = next(iter(states.values())).numel()
        number, actions = torch.arange(math.prod(self.actions.values())), dict[str, Tensor]()
        for name in reversed(self.actions):
            actions[name] = number % self.actions[name]
            number = number // self.actions[name]
        values = {name: value.unsqueeze(-1) for name, value in states.items()} | actions
        return value_at(q, values).expand(n, len(number)).amax(-1)

    def _features(self, states: States) -> Any:
        """Return which entries of the tables each state reads, ``[N, entries]``."""
        from scipy.sparse import csr_matrix

        n = next(iter(states.values())).numel()
        columns = []
        for scope, shape, offset in zip(self.scopes, self.shapes, self.offsets, strict=False):
            number = torch.zeros(n, dtype=torch.long)
            for name, size in zip(scope, shape, strict=True):
                number = number * size + states[name]
            columns.append(number.numpy() + offset)
        index = np.stack(columns, 1).ravel()
        every = np.arange(n).repeat(len(self.scopes))
        return csr_matrix((np.ones(len(index)), (every, index)), shape=(n, self.offsets[-1]))

    def _tables(self, weights: "np.ndarray[Any, Any]") -> LocalSum:
        pieces = np.split(weights, self.offsets[1:-1])
        return tuple(
            Factor(scope, torch.as_tensor(piece, dtype=torch.float64).reshape(shape))
            for scope, shape, piece in zip(self.scopes, self.shapes, pieces, strict=True)
        )


def raised(v: LocalSum, by: float) -> LocalSum:
    """Return v + a constant, in the table over no variable where v ends with one."""
    rest, last = (v[:-1], v[-1].table) if not v[-1].scope else (v, v[-1].table.new_zeros(()))
    return (*rest, Factor((), last + by))


def mixed(inner: LocalSum, outer: LocalSum) -> LocalSum:
    """Return the sum half-way between two of the same scopes."""
    pairs = zip(inner, outer, strict=True)
    return tuple(Factor(a.scope, (a.table + b.table) / 2) for a, b in pairs)


def _some(states: States, score: Tensor, most: int) -> States:
    """Return the states of largest score."""
    chosen = score.topk(min(most, score.numel())).indices
    return {name: value[chosen] for name, value in states.items()}


def joined(first: States, second: States) -> States:
    """Return the states of both, each once."""
    names = tuple(first)
    every = torch.cat([torch.stack([part[name] for name in names], 1) for part in (first, second)])
    every = torch.unique(every, dim=0)
    return {name: every[:, i] for i, name in enumerate(names)}
