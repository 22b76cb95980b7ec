"""Upper bounds by dual decomposition: parts of a world set free of each other, at prices for disagreeing.

Each region k has its own small problem, in which it chooses the action a and the outside o as it likes:

    V_t^k(x) = max_{a, o} [r^k(x, o, a) + φ_t^k(x, o, a) + γ E[V_{t+1}^k(x')|x, o, a]],      Σ_k φ_t^k = 0

The sum of the regions' values bounds HARD for any prices φ, since one policy that all follow pays no price in sum
(Hawkins 2003; Adelman & Mersereau 2008; Sontag, Globerson & Jaakkola 2011). So it bounds VARIATIONAL; there one region,
the master, which sees the actions alone, may pay for all of the KL, too:

    V_t^0 = α log Σ_a p(a) exp((r^0(a) + φ_t^0(a))/α) + γ V_{t+1}^0

since the KL of the actions' mean law is at most the mean of their KL. The sum is convex in φ, and its gradient is how
far the regions disagree on what happens at each time. It is followed by L-BFGS where the maxima are smoothed; the bound
itself is taken without the smoothing.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from cai.approximation.bounds.consistency import differences
from cai.approximation.bounds.regions import ACTION, Numbers, Parts, regions
from cai.compile.factor_model import Factor, Factors, added_up
from cai.errors import Finding, IntractableError

SIZES = (300, 3_000, 30_000, 300_000)
"""Choices of a region at most, pass by pass."""
SMOOTHING = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Temperatures of the smoothed maxima, of the largest reward, one after the other."""
SHARE = (0.04, 0.15)
"""Of the time that is left, what one smoothing gets: in the first pass, and in the others."""
MOST_STEPS = 300
"""Of one descent."""
FLOOR = -1e3
"""Stands for -inf, in largest rewards of a whole episode: what is higher than the truth is still a bound."""
MOST_NUMBERS = 40_000_000
"""Numbers of all choices of all times."""


class DualDecomposition:
    """The regions of a world of a finite horizon, and the bound of given prices.

    Args:
        factors: a stationary world without ends.
        most: choices of a region at most.
        temperature: α, for a bound on VARIATIONAL; None for one on HARD.

    Raises:
        IntractableError: the world is none of that, or there is no room.
    """

    def __init__(self, factors: Factors, most: int, temperature: float | None = None) -> None:
        from scipy.sparse import csr_matrix

        refuse(factors, temperature)
        self.factors, self.T, self.gamma = factors.detach(), factors.horizon or 0, factors.discount
        parts = Parts(self.factors)
        found = regions(parts, most)
        self.regions = [parts.master(found), *found]
        self.alpha = temperature
        self.log_prior = self._log_prior()
        choices = [len(region.choices[ACTION]) for region in self.regions]
        states = [region.shape[0] for region in self.regions]
        self.first, begins = np.cumsum([0, *choices]), np.cumsum([0, *states])
        if self.first[-1] * self.T > MOST_NUMBERS:
            seen = f"{self.first[-1]:,} choices at each of {self.T} times"
            raise IntractableError([Finding("dual decomposition", seen, f"at most {MOST_NUMBERS:,} in all")])
        outcomes = [
            (row + f, column + s, p)
            for (row, column, p), f, s in zip((r.outcomes for r in self.regions), self.first, begins, strict=False)
        ]
        row, column, p = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        self.outcomes = csr_matrix((p, (row, column)), shape=(self.first[-1], begins[-1]))
        self.back = self.outcomes.T.tocsr()
        self.start = np.concatenate([region.start for region in self.regions])
        self.length = np.concatenate(
            [np.full(n, math.prod(r.shape[1:])) for n, r in zip(states, self.regions, strict=True)]
        )
        self.segment = np.cumsum([0, *self.length[:-1]])
        self.prices = differences(self.regions, self.factors.sizes, self.first)
        self.agreement = self.prices.T.tocsr()
        self.reward, lost = self._shared(parts.rewards, [region.choices for region in self.regions], parts)
        self.final, lost_last = self._shared(self.factors.terminal, [region.states for region in self.regions], parts)
        self.lost = lost * sum(self.gamma**t for t in range(self.T)) + lost_last * self.gamma**self.T
        self.scale = max(1e-6, float(np.abs(self.reward[self.reward > self.reward.min()]).max(initial=0.0)))

    def _log_prior(self) -> Numbers:
        """Return log p of the master's classes of actions."""
        actions, slice_ = self.factors.actions, self.factors.at(0)
        if self.alpha is None:
            return np.zeros(self.regions[0].shape[1])
        table = added_up(tuple(slice_.prior.values()), actions.names, torch.float64).expand(actions.sizes)
        mass = np.bincount(self.regions[0].kinds, weights=table.reshape(-1).exp().numpy())
        return np.log(np.maximum(mass, 1e-300))

    def _shared(self, pieces: Sequence[Factor], values: Sequence[Any], parts: Parts) -> tuple[Numbers, float]:
        """Give each term to one region that reads it; return also the sum of the largest of those that none reads."""
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
        every = np.concatenate(sums)
        finite = np.abs(every[np.isfinite(every)]).max(initial=1.0)
        return np.where(np.isfinite(every), every, FLOOR * finite * (self.T + 1)), lost

    def bound(self, prices: Numbers) -> float:
        """Return the sum of the regions' values at the start, reward units, rounding counted in."""
        v, sizes, off = self.final, np.abs(self.final), 0.0
        terms = 8 + np.diff(self.prices.indptr).max(initial=0) + np.diff(self.outcomes.indptr).max()
        weights = abs(self.prices)
        for t in reversed(range(self.T)):
            q = self._q(t, v, prices)
            v = np.maximum.reduceat(q, self.segment)
            v[0] = self._master(q, v[0])
            sizes = np.abs(self.reward) + weights @ np.abs(prices[t]) + self.gamma * (self.outcomes @ np.abs(v))
            off += float(np.maximum.reduceat(sizes, self.first[:-1]).sum())
        return float(self.start @ v) + self.lost + float(terms) * float(np.finfo(float).eps) * (off + abs(self.lost))

    def _q(self, t: int, v_next: Numbers, prices: Numbers) -> Numbers:
        return self.reward + self.prices @ prices[t] + self.gamma * (self.outcomes @ v_next)  # type: ignore[no-any-return]

    def _master(self, q: Numbers, top: float) -> float:
        """Return the master's ``α log Σ_a p(a) exp(q/α)``, or the maximum where there is no temperature."""
        if self.alpha is None:
            return top
        inner = q[: self.first[1]] + self.alpha * self.log_prior
        best = inner.max()
        return float(best + self.alpha * math.log(np.exp((inner - best) / self.alpha).sum()))

    def smoothed(self, prices: Numbers, tau: float) -> tuple[float, Numbers]:
        """Return the sum with log-sum-exp of temperature τ for max, and its gradient: how far the regions disagree."""
        heat = np.full(self.first[-1], tau)
        bonus = np.zeros(self.first[-1])
        if self.alpha is not None:
            heat[: self.first[1]], bonus[: self.first[1]] = self.alpha, self.alpha * self.log_prior
        v, policy = self.final, list[Numbers]()
        for t in reversed(range(self.T)):
            q = self._q(t, v, prices) + bonus
            top = np.maximum.reduceat(q, self.segment)
            weights = np.exp((q - top.repeat(self.length)) / heat)
            total = np.add.reduceat(weights, self.segment)
            policy.append(weights / total.repeat(self.length))
            v = top + heat[self.segment] * np.log(total)
        visits, gradient = self.start, np.zeros_like(prices)
        for t, pi in enumerate(reversed(policy)):
            taken = visits.repeat(self.length) * pi
            gradient[t] = self.agreement @ taken
            visits = self.gamma * (self.back @ taken)
        return float(self.start @ v), gradient

    def tightened(self, prices: Numbers, tau: float, deadline: float) -> Numbers:
        """Return prices after a descent of the smoothed sum, until it gains little or the time is over."""
        from scipy.optimize import minimize

        latest = prices.ravel()

        def value(x: Numbers) -> tuple[float, Numbers]:
            found, gradient = self.smoothed(x.reshape(prices.shape), tau)
            return found, gradient.ravel()

        def watch(x: Numbers) -> None:
            nonlocal latest
            latest = x.copy()
            if time.monotonic() > deadline:
                raise StopIteration

        options = {"maxiter": MOST_STEPS, "maxfun": 10 * MOST_STEPS, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-7}
        minimize(value, latest, jac=True, method="L-BFGS-B", callback=watch, options=options)
        return latest.reshape(prices.shape)


def decomposed(factors: Factors, temperature: float | None = None, *, seconds: float = 60.0) -> Iterator[float]:
    """Yield bounds on HARD, or on VARIATIONAL at a temperature, reward units, until the time is over.

    Raises:
        IntractableError: the world has slices that differ, ends, or a prior over actions that reads states.
    """
    deadline, before = time.monotonic() + seconds, None
    for most in SIZES:
        if time.monotonic() > deadline:
            return
        try:
            dual = DualDecomposition(factors, most, temperature)
        except IntractableError:
            if before is None:
                raise
            return
        shapes = [region.shape for region in dual.regions]
        if shapes == before:
            return
        share, before = SHARE[before is not None], shapes
        prices = np.zeros((dual.T, dual.prices.shape[1]))
        yield dual.bound(prices)
        for tau in SMOOTHING if prices.size else ():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            prices = dual.tightened(prices, tau * dual.scale, time.monotonic() + share * left)
            yield dual.bound(prices)


def refuse(factors: Factors, temperature: float | None) -> None:
    """Refuse what cannot be decomposed.

    Raises:
        IntractableError: see ``decomposed``.
    """
    seen = "slices that differ over time" if factors.timed else "ends" if factors.ends is not None else ""
    states = set(factors.states.names)
    if temperature is not None and any(states & set(prior.scope) for prior in factors.at(0).prior.values()):
        seen = "a prior over actions that reads the state"
    if seen or factors.horizon is None:
        raise IntractableError([Finding("dual decomposition", seen or "an infinite horizon", "none")])
