"""Proved upper bounds on the value of a world of factors, better with time: no joint state is ever listed.

A value function v_t, a sum of local functions, with ``v_t(s) >= q_t(s, a)`` for all s and a, where q_t is made of
v_{t+1}, is above the true one at all times (de Farias & Van Roy 2003, lemma 1, at each time):

    HARD         q(s, a) = E[r + γ v_{t+1}|s, a]                     bounds ELBO* too, since α KL >= 0
    POSTERIOR    q(s, a) = α log E[exp((r + v_{t+1})/α)|s, a]        bounds α log Z: a log-mean-exp over actions is at
                                                                    most their maximum
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from cai.approximation.bounds.backprojection import Outcomes
from cai.approximation.bounds.local_fit import LocalFit, States, joined
from cai.approximation.bounds.local_sums import LocalSum, largest, merged, rounding, scaled
from cai.approximation.bounds.max_elimination import maximum
from cai.approximation.bounds.relevance import visited
from cai.compile.factor_model import Factor, Factors, primed
from cai.errors import Finding, IntractableError, fault

SIDE_BY_SIDE = 256
"""Joint actions up to which each gives a constraint of its own."""
PASSES = ((1, 10), (1, 40), (2, 40), (1, 100), (2, 200))
"""For each pass: how many variables a table of v reads at most, and how often constraints are added at a time."""
PLANNED = 0.6
"""Of the time that is left, the share that a pass plans with: what it began is done when the time is over."""
SAMPLES = 100
"""States of each time where the bound is to be small."""
MOST_ACTIONS = 1 << 14
"""Joint actions that are listed at a state."""


@dataclass(frozen=True)
class UpperBound:
    """An upper bound on the start value of a rule.

    Attributes:
        value: the bound, reward units; nats are this over α.
        what: how it was had: "largest rewards" or "approximate linear programming".
        bounds: the rule: "HARD", which bounds VARIATIONAL too, or "POSTERIOR".
        values: v_0 … v_T as sums of tables over a few state variables, reward units; empty where there are none.
        seconds: since the start.
    """

    value: float
    what: str
    bounds: str
    values: tuple[LocalSum, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.bounds} at most {self.value:.6g} by {self.what}, {self.seconds:.1f} s"


def upper_bounds(
    factors: Factors, temperature: float | None = None, *, seconds: float = 60.0, seed: int = 0
) -> Iterator[UpperBound]:
    """Yield the least upper bound on the start value so far after every pass, until the time is over.

    Args:
        factors: a world of factors of finite horizon.
        temperature: α > 0 for a bound on α log Z (POSTERIOR); None for one on HARD, and so on α ELBO* at any α.
        seconds: when to stop.
        seed: of the states that are drawn where the bound is to be small; the bound holds whatever they are.

    Raises:
        WorldError: the horizon is infinite, or the temperature is not positive.
        IntractableError: there are too many joint actions, or POSTERIOR is asked for where γ < 1.
    """
    began = time.monotonic()
    backup = Backup(factors, temperature)
    generator = torch.Generator().manual_seed(seed)
    best = UpperBound(backup.largest_return(), "largest rewards", backup.bounds)
    yield best
    q: list[LocalSum] | None = None
    pools: dict[int, States] = {}
    for width, rounds in PASSES:
        relevant = visited(factors, generator, SAMPLES, q)
        found = backup.swept(local_scopes(factors, width), relevant, pools, rounds, began + seconds)
        if found is None:
            return
        values, q = found
        value = backup.start(values[0])
        if value < best.value:
            best = UpperBound(value, "approximate linear programming", backup.bounds, values, time.monotonic() - began)
        yield best
        if time.monotonic() > began + seconds:
            return


def local_scopes(factors: Factors, width: int) -> list[tuple[str, ...]]:
    """Return the scopes of the tables of v: each variable; at width 2 also the pairs that one factor ties."""
    names = factors.states.names
    scopes: dict[tuple[str, ...], None] = {(name,): None for name in names}
    if width > 1:
        slice_ = factors.slices[0]
        own = {primed(name): name for name in names}
        read = [[own.get(x, x) for x in f.scope] for f in (*slice_.chance.values(), *slice_.reward)]
        read += [list(piece.scope) for piece in factors.terminal]
        for scope in read:
            inner = [name for name in names if name in scope]
            scopes |= dict.fromkeys(combinations(inner, 2))
    return list(scopes)


class Backup:
    """One rule's backward sweep on sums of local functions."""

    def __init__(self, factors: Factors, temperature: float | None) -> None:
        if factors.horizon is None:
            raise fault("upper_bounds", "an infinite horizon", "a finite one")
        if temperature is not None and not 0 < temperature < math.inf:
            raise fault("upper_bounds, temperature", f"{temperature}", "a positive number, or None")
        if factors.actions.size > MOST_ACTIONS or factors.actions.kept is not None:
            seen = f"{factors.actions.size:,} joint actions"
            raise IntractableError([Finding("upper_bounds", seen, f"at most {MOST_ACTIONS:,}")])
        if temperature is not None and factors.discount < 1:
            raise IntractableError([Finding("upper_bounds, POSTERIOR", f"γ = {factors.discount:g}", "γ = 1")])
        self.factors, self.alpha = factors.detach(), temperature
        self.bounds = "HARD" if temperature is None else "POSTERIOR"

    def largest_return(self) -> float:
        """Return Σ_t γ^t max r_t + γ^T max r_T."""
        factors, total, weight = self.factors, 0.0, 1.0
        for t in range(factors.horizon or 0):
            pieces = factors.at(t).reward
            total += weight * float(maximum(pieces, _sizes(pieces)).upper) if pieces else 0.0
            weight *= factors.discount
        last = factors.terminal
        return total + (weight * float(maximum(last, _sizes(last)).upper) if last else 0.0)

    def swept(
        self,
        scopes: Sequence[tuple[str, ...]],
        relevant: Sequence[States],
        pools: dict[int, States],
        rounds: int,
        deadline: float,
    ) -> tuple[tuple[LocalSum, ...], list[LocalSum]] | None:
        """Return v_0 … v_T and q_0 … q_{T-1}; None where the time was over before."""
        factors, T = self.factors, self.factors.horizon or 0
        actions = factors.actions.named_sizes
        fit = LocalFit(scopes, factors.states.named_sizes, actions, factors.actions.size <= SIDE_BY_SIDE)
        v: LocalSum = merged(factors.terminal)
        values, scores = [v], list[LocalSum]()
        worst: States | None = None
        planned = time.monotonic() + PLANNED * (deadline - time.monotonic())
        for t in reversed(range(T)):
            if time.monotonic() > deadline:
                return None
            q = self.q(t, v)
            pool = pools.get(t, relevant[t])
            pool = joined(pool, relevant[t] if worst is None else joined(relevant[t], worst))
            share = time.monotonic() + max(planned - time.monotonic(), 0.0) / (t + 1)
            v, taken = fit.above(q, relevant[t], pool, rounds, share)
            pools[t] = worst = taken
            values.insert(0, v)
            scores.insert(0, q)
        return tuple(values), scores

    def q(self, t: int, v_next: LocalSum) -> LocalSum:
        """Return q_t >= the mean of r + v_{t+1} over outcomes, -inf where the prior forbids an action."""
        slice_, sizes = self.factors.at(t), self.factors.sizes
        ahead = [Factor(tuple(primed(x) for x in piece.scope), piece.table) for piece in v_next]
        paid = [*slice_.reward, *scaled(ahead, self.factors.discount)]
        barred = [
            Factor(prior.scope, torch.where(prior.table > -torch.inf, 0.0, -torch.inf))
            for prior in slice_.prior.values()
            if bool((prior.table == -torch.inf).any())
        ]
        return merged([*self._mean(Outcomes(slice_.chance, sizes), paid), *barred])

    def start(self, v_0: LocalSum) -> float:
        """Return the mean of v_0 over the start, reward units, rounding counted in."""
        mean = self._mean(Outcomes(self.factors.initial, self.factors.sizes), v_0)
        return largest(mean) + rounding(v_0)

    def _mean(self, outcomes: Outcomes, pieces: Sequence[Factor]) -> LocalSum:
        if self.alpha is None:
            return tuple(outcomes.expectation(piece) for piece in pieces)
        return outcomes.log_mean(pieces, self.alpha)


def _sizes(pieces: Sequence[Factor]) -> dict[str, int]:
    return {name: size for one in pieces for name, size in zip(one.scope, one.table.shape, strict=True)}
