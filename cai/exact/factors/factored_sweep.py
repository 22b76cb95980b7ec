"""The backward sweep on factors: the same equations as on tables, each mean taken by variable elimination."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, Factors
from cai.errors import NotConvergedError
from cai.exact.anderson import Anderson
from cai.exact.factors.algebra import aligned
from cai.exact.factors.cases import Cost
from cai.exact.factors.prepared_slice import PreparedSlice
from cai.exact.longest_path import is_path, longest_path
from cai.exact.rounding import WARM, Rounding, largest
from cai.exact.rules import Rule, is_maximum
from cai.exact.tables.backup import survive
from cai.support.progress import bar
from cai.world.spaces import Space

PATIENCE = 300
"""Steps without any gain after which a fixed point is given up."""
LONG = 2e9
"""Multiplications of a sweep from which on a bar shows how far it is."""


@dataclass(frozen=True)
class Prepared:
    """Factors with the plan of each distinct slice, made when it is first asked for."""

    factors: Factors

    def __reduce__(self) -> Any:
        return Prepared, (self.factors,)  # plans are found by the identity of what they are for: made anew elsewhere

    @cached_property
    def _plans(self) -> dict[int, PreparedSlice]:
        return {}

    def at(self, t: int) -> PreparedSlice:
        """Return the plan for the slice of time t; equal slices share one."""
        one = self.factors.at(t)
        if id(one) not in self._plans:
            self._plans[id(one)] = PreparedSlice(self.factors, one)
        return self._plans[id(one)]

    @property
    def states(self) -> Space:
        """The states, numbered jointly."""
        return self.factors.states

    @property
    def actions(self) -> Space:
        """The actions, numbered jointly."""
        return self.factors.actions

    @property
    def horizon(self) -> int | None:
        """T, or None for the infinite horizon."""
        return self.factors.horizon

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of all numbers."""
        return self.factors.dtype

    @cached_property
    def terminal(self) -> Tensor:
        """r_T(s_T), reward units, ``[S]``."""
        return joint(self.factors.terminal, self.factors)

    @cached_property
    def log_initial(self) -> Tensor:
        """log p(s_0), nats, ``[S]``."""
        return joint(tuple(self.factors.initial.values()), self.factors)

    @cached_property
    def ended(self) -> Tensor | None:
        """In which states an episode has ended, ``[S]``; None where nothing ends."""
        return self.factors.ended

    def cost(self, rule: Rule) -> Cost:
        """Predict what the costliest backup takes."""
        times = range(self.horizon or 1) if self.factors.timed else (0,)
        costs = [self.at(t).cost(rule.over_outcomes) for t in times]
        return Cost(max(one.work for one in costs), max(one.peak for one in costs))


def prepare(factors: Factors) -> Prepared:
    """Return factors with their plans; the last worlds keep theirs, so that several solves plan once.

    Tables that are differentiated hold a graph of their own for each solve.
    """
    return Prepared(factors) if factors.requires_grad else _kept(factors)


@lru_cache(maxsize=4)
def _kept(factors: Factors) -> Prepared:
    return Prepared(factors)


def joint(pieces: tuple[Factor, ...], factors: Factors) -> Tensor:
    """Add pieces over the state variables up, ``[S]``."""
    names, sizes = factors.states.names, factors.states.sizes
    total = torch.zeros((1,) * len(sizes), dtype=factors.dtype)
    for piece in sorted(pieces, key=lambda one: one.table.numel()):
        total = total + aligned(piece, names)
    return total.expand(sizes).reshape(-1)


def factored_sweep(rule: Rule, prepared: Prepared, alpha: Tensor) -> Tensor:
    """Return v of every time, reward units, ``[T+1, S]``, by one backward pass over the slices."""
    factors = prepared.factors
    assert factors.horizon is not None
    T, v = factors.horizon, [prepared.terminal]
    with bar(f"{rule}, backups", T, shown=T * prepared.cost(rule).work > LONG) as show:
        for t in reversed(range(T)):
            v.append(factored_backup(rule, prepared, t, v[-1], alpha)[1])
            show(T - t, "")
    return torch.stack(v[::-1])


def factored_backup(rule: Rule, prepared: Prepared, t: int, v_next: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``q [S, A]`` and ``v [S]`` of time t from ``v_next [S]``, reward units."""
    one = prepared.at(t)
    c = survive(rule, v_next, alpha, prepared.factors.log_survival)
    q = one.mean(rule.over_outcomes, c, alpha)
    return q, rule.over_actions.value(q, one.log_prior, alpha.unsqueeze(-1))


def factored_fixed_point(
    rule: Rule, prepared: Prepared, alpha: Tensor, most: int = 20_000
) -> tuple[Tensor, int, float]:
    """Return the fixed point ``v [S]`` of the backup, how many backups it took, and a proved bound on its error.

    The backup is monotone: if ``F(v + e) <= v + e`` and ``F(v - e) >= v - e`` for a number e, the fixed point lies
    between; both are checked. With outcomes averaged ``e = |F(v) - v|/(1-γ)`` always serves.

    Raises:
        NotConvergedError: the backups do not settle, or no bound can be proved.
    """
    backups = 0

    def step(v: Tensor) -> Tensor:
        nonlocal backups
        backups += 1
        return factored_backup(rule, prepared, 0, v, alpha)[1]

    nothing = -torch.inf if is_maximum(rule.over_outcomes) else 0.0  # as on tables
    start = torch.full((prepared.factors.states.size,), nothing, dtype=prepared.factors.dtype)
    reward = sum(largest(piece.table) for piece in prepared.factors.at(0).reward)
    warm = WARM if rule.averages else float("inf")  # elimination takes plain logarithms
    rounding, what = Rounding(reward, float(alpha), 64, warm), f"{rule} with γ = {prepared.factors.discount:g}"
    if is_path(rule):
        v, e = longest_path(step, start, rounding, what)
        return v, backups, e
    search = Anderson(step, start)
    earlier, steps = float("inf"), 0
    while search.best.size > rounding(search.best.fx) and backups < most:
        search.advance()
        steps += 1
        if steps % PATIENCE == 0:
            if search.best.size > 0.999 * earlier:  # it never will
                break
            earlier = search.best.size
    v, slack = search.best.fx, rounding(search.best.fx)
    e = 2 * max(search.best.size, slack) / (1 - prepared.factors.discount)
    for _ in range(20):
        if e > rounding.size(v):
            break
        if bool((step(v + e) + slack <= v + e).all()) and bool((step(v - e) - slack >= v - e).all()):
            return v, backups, e
        e *= 2
    seen = f"a change of {search.best.size:.3g} at best in {backups:,} backups"
    raise NotConvergedError(f"{what}: {seen}, and no bound up to {e:.3g} could be proved")
