"""Upper bounds by dual decomposition: parts of a world set free of each other, at prices for disagreeing.

Each region k has its own small problem, in which it chooses the action a and the outside o as it likes:

    V_t^k(x) = max_{a, o} [r^k(x, o, a) + φ_t^k(x, o, a) + γ E[V_{t+1}^k(x')|x, o, a]],      Σ_k φ_t^k = 0

The sum of the regions' values bounds HARD for any prices φ, since one policy that all follow pays no price in sum
(Hawkins 2003; Adelman & Mersereau 2008; Sontag, Globerson & Jaakkola 2011). So it bounds VARIATIONAL; there one region,
the master, which sees the actions alone, may pay for all of the KL, too:

    V_t^0 = α log Σ_a p(a) exp((r^0(a) + φ_t^0(a))/α) + γ V_{t+1}^0

since the KL of the actions' mean law is at most the mean of their KL. Where the prior reads the state the master pays
nothing, which is a maximum.

POSTERIOR has outcomes that are chosen, too, for their KL to the true dynamics: α log Z is the largest E_q[Σ r] - α KL(q
‖ p) over laws q of trajectories, and γ = 1. A region pays a share w_k of the KL of the random variables x that move its
core, where the shares of each x add up to 1 at most. So it has the backup of POSTERIOR over outcomes, at the
temperature α w_k:

    V_t^k(x) = max_{a, o} [r^k(x, o, a) + φ_t^k(x, o, a) + α w_k log E[exp(V_{t+1}^k(x')/(α w_k))|x, o, a]]

Proof. Let q be the law that is the largest. By the chain rule its KL is a sum over times and variables of the mean of
KL(q(x|past) ‖ p(x|parents)). Each is at least the sum of the shares w_k of itself. A region sees of q a process of its
own scope. Its law of x given what it sees is a mean of q(x|past), and p(x|parents) is the same for all of them; the KL
is convex, so that the region pays no more than w_k of it. That process is one that the region could choose, and the
prices of all regions add up to 0 on q. So the sum of the regions' best values is at least that of q. ∎ (All of the KL
at every region would be no bound: two copies of one region would count their luck twice. Shares are Hölder's
inequality, as in weighted mini-buckets: Liu & Ihler 2011.)

The sum is convex in φ, and its gradient is how far the regions disagree on what happens at each time. It is followed by
L-BFGS where the maxima are smoothed; the bound itself is taken without the smoothing. An end of episodes needs no care:
an ended state stays and pays nothing.
"""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

import numpy as np
import torch

from cai.approximation.bounds.backprojection import Outcomes
from cai.approximation.bounds.consistency import differences
from cai.approximation.bounds.kl_shares import shares
from cai.approximation.bounds.outcome_means import Average, LogMeanExp, OutcomeMean
from cai.approximation.bounds.regions import Numbers, Parts, regions
from cai.approximation.bounds.stacked_regions import StackedRegions
from cai.approximation.bounds.time_left import require_time_left
from cai.compile.factor_model import Factors, added_up, primed
from cai.errors import Finding, IntractableError, fault
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule

SIZES = (300, 3_000, 30_000, 300_000)
"""Choices of a region at most, pass by pass."""
SMOOTHING = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Temperatures of the smoothed maxima, of the largest reward, one after the other."""
SHARES = (0.04, 0.15, 0.4)
"""Of the time that is left, what one smoothing gets: in the first pass, in those between, and in the last."""
GROWTH = 10
"""Times longer that the next pass may take to list its regions: without so much time left, the pass is the last."""
MOST_STEPS = 300
"""Of one descent."""
FLOOR = -1e3
"""Stands for -inf, in largest rewards of a whole episode: what is higher than the truth is still a bound."""
MOST_NUMBERS = 40_000_000
"""Numbers of all choices of all times."""


class DualDecomposition:
    """The regions of a world of a finite horizon, and the bound of given prices.

    Args:
        factors: a stationary world.
        most: choices of a region at most.
        rule: HARD, VARIATIONAL or POSTERIOR.
        temperature: α, reward units.
        deadline: until when regions are listed, ``time.monotonic``.

    Raises:
        IntractableError: the world is none of that, or there is no room.
        TimeoutError: the deadline is over.
    """

    def __init__(
        self, factors: Factors, most: int, rule: Rule, temperature: float = 1.0, deadline: float = math.inf
    ) -> None:
        refuse(factors, rule)
        self.factors, self.T, self.gamma = factors.detach(), factors.horizon or 0, factors.discount
        self.alpha = None if rule == HARD or _prior_reads_states(factors) else temperature
        self.eta = temperature if rule == POSTERIOR else None
        parts = Parts(self.factors, self.eta)
        found = regions(parts, most, deadline)
        self.stack = StackedRegions([parts.master(found), *found])
        self.first, self.segment, self.length = self.stack.first, self.stack.segment, self.stack.length
        if self.first[-1] * self.T > MOST_NUMBERS:
            seen = f"{self.first[-1]:,} choices at each of {self.T} times"
            raise IntractableError([Finding("dual decomposition", seen, f"at most {MOST_NUMBERS:,} in all")])
        self.outcomes, self.start = self._means(parts)
        self.prices = differences(self.stack.regions, self.factors.sizes, self.first)
        self.agreement = self.prices.T.tocsr()
        (self.reward, lost), (self.final, lost_last) = self.stack.paid(parts), self.stack.paid_last(parts)
        self.scale = max(1e-6, float(np.abs(self.reward[np.isfinite(self.reward)]).max(initial=0.0)))
        self.reward, self.final = self._floored(self.reward), self._floored(self.final)
        self.lost = lost * sum(self.gamma**t for t in range(self.T)) + lost_last * self.gamma**self.T

    def _means(self, parts: Parts) -> tuple[OutcomeMean, OutcomeMean]:
        """Return the means over what follows each choice, and over the start of each region."""
        outcomes, start = self.stack.outcomes(), self.stack.start()
        if self.eta is None:
            return Average(outcomes), Average(start)
        read = {name for piece in self.factors.at(0).reward for name in parts.drawn(piece.scope)}
        cores = [region.core for region in self.stack.regions]
        later = np.array(shares(parts.outcomes, [tuple(map(primed, core)) for core in cores], read))
        first = np.array(shares(Outcomes(self.factors.initial, self.factors.sizes), cores))
        return LogMeanExp(outcomes, self.eta * later[self.stack.of_choice]), LogMeanExp(start, self.eta * first)

    def _floored(self, rewards: Numbers) -> Numbers:
        """Return rewards with a finite number for -inf."""
        largest = np.abs(rewards[np.isfinite(rewards)]).max(initial=1.0)
        return np.where(np.isfinite(rewards), rewards, FLOOR * largest * (self.T + 1))

    @cached_property
    def log_prior(self) -> Numbers:
        """Log p of the master's classes of actions, nats."""
        actions, slice_ = self.factors.actions, self.factors.at(0)
        table = added_up(tuple(slice_.prior.values()), actions.names, torch.float64).expand(actions.sizes)
        mass = np.bincount(self.stack.regions[0].kinds, weights=table.reshape(-1).exp().numpy())
        return np.log(np.maximum(mass, 1e-300))

    def no_prices(self) -> Numbers:
        """Return prices of 0, ``[T, P]``."""
        return np.zeros((self.T, self.prices.shape[1]))

    def bound(self, prices: Numbers) -> float:
        """Return the sum of the regions' values at the start, reward units, rounding counted in."""
        v, off, weights = self.final, 0.0, abs(self.prices)
        for t in reversed(range(self.T)):
            sizes = np.abs(self.reward) + weights @ np.abs(prices[t]) + self.gamma * self.outcomes.size(v)
            off += float(np.maximum.reduceat(sizes, self.first[:-1]).sum())
            q = self._q(t, v, prices)
            v = np.maximum.reduceat(q, self.segment)
            v[0] = self._master(q, v[0])
        off += float(self.start.size(v).sum()) + abs(self.lost)
        return float(self.start.mean(v).sum()) + self.lost + self._terms * float(np.finfo(float).eps) * off

    @cached_property
    def _terms(self) -> int:
        """How many numbers are added up to one value at most."""
        each = (np.diff(self.prices.indptr), np.diff(self.outcomes.p.indptr), np.diff(self.start.p.indptr))
        return 8 + sum(int(counts.max(initial=0)) for counts in each)

    def _q(self, t: int, v_next: Numbers, prices: Numbers) -> Numbers:
        return self.reward + self.prices @ prices[t] + self.gamma * self.outcomes.mean(v_next)  # type: ignore[no-any-return]

    def _master(self, q: Numbers, top: float) -> float:
        """Return the master's ``α log Σ_a p(a) exp(q/α)``, or the maximum where there is no temperature."""
        if self.alpha is None:
            return top
        inner = q[: self.first[1]] + self.alpha * self.log_prior
        best = inner.max()
        return float(best + self.alpha * math.log(np.exp((inner - best) / self.alpha).sum()))

    def smoothed(self, prices: Numbers, tau: float) -> tuple[float, Numbers]:
        """Return the sum with log-sum-exp of temperature τ for max, and its gradient: how far the regions disagree."""
        values, policy = self._swept(prices, tau)
        visits, gradient = self.start.moved(values[0], np.ones(len(self.stack.regions))), np.zeros_like(prices)
        for t, pi in enumerate(policy):
            taken = visits.repeat(self.length) * pi
            gradient[t] = self.agreement @ taken
            visits = self.gamma * self.outcomes.moved(values[t + 1], taken)
        return float(self.start.mean(values[0]).sum()), gradient

    def _swept(self, prices: Numbers, tau: float) -> tuple[list[Numbers], list[Numbers]]:
        """Return the smoothed values v_0 … v_T, and the probabilities of the choices, time by time."""
        heat, bonus = np.full(self.first[-1], tau), np.zeros(self.first[-1])
        if self.alpha is not None:
            heat[: self.first[1]], bonus[: self.first[1]] = self.alpha, self.alpha * self.log_prior
        values, policy = [self.final], list[Numbers]()
        for t in reversed(range(self.T)):
            q = self._q(t, values[0], prices) + bonus
            top = np.maximum.reduceat(q, self.segment)
            weights = np.exp((q - top.repeat(self.length)) / heat)
            total = np.add.reduceat(weights, self.segment)
            policy.insert(0, weights / total.repeat(self.length))
            values.insert(0, top + heat[self.segment] * np.log(total))
        return values, policy

    def tightened(self, prices: Numbers, tau: float, deadline: float) -> Numbers:
        """Return prices after a descent of the smoothed sum, until it gains little or the time is over."""
        from scipy.optimize import minimize

        latest = prices.ravel()

        def value(x: Numbers) -> tuple[float, Numbers]:
            require_time_left(deadline)
            found, gradient = self.smoothed(x.reshape(prices.shape), tau)
            return found, gradient.ravel()

        def watch(x: Numbers) -> None:
            nonlocal latest
            latest = x.copy()

        options = {"maxiter": MOST_STEPS, "maxfun": 10 * MOST_STEPS, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-7}
        with suppress(TimeoutError):
            minimize(value, latest, jac=True, method="L-BFGS-B", callback=watch, options=options)
        return latest.reshape(prices.shape)


def decomposed(factors: Factors, rule: Rule, temperature: float = 1.0, *, seconds: float = 60.0) -> Iterator[float]:
    """Yield bounds on the start value of HARD, VARIATIONAL or POSTERIOR, reward units, until the time is over.

    Raises:
        IntractableError: the slices differ, the horizon is infinite, or γ < 1 under POSTERIOR.
    """
    deadline, before = time.monotonic() + seconds, None
    for most in SIZES:
        began = time.monotonic()
        if before and began > deadline:
            return
        try:
            dual = DualDecomposition(factors, most, rule, temperature, deadline if before else math.inf)
        except (IntractableError, TimeoutError):
            if before is None:
                raise
            return
        shapes = [region.shape for region in dual.stack.regions]
        if shapes == before:  # no more room for any region
            continue
        now = time.monotonic()
        last = GROWTH * (now - began) > deadline - now
        yield from _priced(dual, SHARES[-1 if last else int(before is not None)], deadline)
        if last:
            return
        before = shapes


def _priced(dual: DualDecomposition, share: float, deadline: float) -> Iterator[float]:
    """Yield the bound at no prices, and after each descent."""
    prices = dual.no_prices()
    yield dual.bound(prices)
    for tau in SMOOTHING if prices.size else ():
        left = deadline - time.monotonic()
        if left <= 0:
            return
        prices = dual.tightened(prices, tau * dual.scale, time.monotonic() + share * left)
        yield dual.bound(prices)


def refuse(factors: Factors, rule: Rule) -> None:
    """Refuse what cannot be decomposed.

    Raises:
        WorldError: there is no decomposition of the rule.
        IntractableError: see ``decomposed``.
    """
    if rule not in (HARD, VARIATIONAL, POSTERIOR):
        raise fault("dual decomposition, rule", f"{rule}", "HARD, VARIATIONAL or POSTERIOR")
    seen = "slices that differ over time" if factors.timed else ""
    if rule == POSTERIOR and factors.discount < 1:
        seen = f"POSTERIOR with γ = {factors.discount:g}"
    if seen or factors.horizon is None:
        raise IntractableError([Finding("dual decomposition", seen or "an infinite horizon", "none")])


def _prior_reads_states(factors: Factors) -> bool:
    states = set(factors.states.names)
    return any(states & set(prior.scope) for prior in factors.at(0).prior.values())
