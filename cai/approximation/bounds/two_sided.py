"""Bounds: an interval around ELBO* and log Z of worlds that elimination refuses, which shrinks with time."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.bounds.dual_decomposition import decomposed
from cai.approximation.bounds.fitted_values import basis, fitted
from cai.approximation.bounds.local_policy import LocalPolicy
from cai.approximation.bounds.look_ahead import LookAhead, States
from cai.approximation.bounds.sampled_elbo import lower_bound, sampled_elbo, visits
from cai.approximation.bounds.upper_bounds import UpperBound, upper_bounds
from cai.approximation.estimate import Estimate
from cai.compile.factor_model import Factors
from cai.compile.factorise import factorise
from cai.compile.noise_program import NoiseProgram
from cai.errors import Finding, ImpossibleError, IntractableError, fault
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.learn.loop import require_number, require_whole
from cai.support.progress import Interrupt, bar

KEPT = 3
"""Sets of visited states that a fit looks back on: those of the action prior, and of the last policies."""
LOG_Z = 0.1
"""Of the time, what goes to the proof of the bound on log Z, before all else."""
PRIOR = 1e9
"""Times the temperature, at which a softmax policy is the action prior."""


@dataclass(frozen=True)
class Bounds:
    """Two-sided bounds on ELBO* and log Z of a large world of finite variables; its policy is aimed at VARIATIONAL.

    From below by the ELBO of a policy of local value functions, ``ELBO(π) <= ELBO* <= log Z``: sampled, so that the
    bound holds with high probability, ``Estimate.sampled``. The policies are compared on other trajectories than the
    bound is taken from. From above by what is proved, the least of three: the largest rewards; parts of the world set
    free of each other at prices for disagreeing (dual decomposition); and approximate linear programs, for log Z.

    Attributes:
        minutes: after so many minutes no step is begun; None where ``steps`` alone ends it.
        steps: the most steps; None where ``minutes`` alone ends it. Equal steps
            give equal answers, equal minutes do not.
        samples: trajectories of each step.
        reported: trajectories of the policy whose bound is given.
        errors: standard errors between the mean and the lower bound.
    """

    minutes: float | None = 5.0
    steps: int | None = None
    samples: int = 300
    reported: int = 1000
    errors: float = 3.0
    name: ClassVar[str] = "bounds"

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise fault("bounds", "neither minutes nor steps", "one of them, so that it ends")
        if self.minutes is not None:
            require_number("bounds, minutes", self.minutes, lambda x: 0 < x < math.inf, "a positive, finite number")
        for option, least in (("steps", 1), ("samples", 2), ("reported", 2)):
            if option != "steps" or self.steps is not None:
                require_whole(f"bounds, {option}", getattr(self, option), least)
        require_number("bounds, errors", self.errors, lambda x: 0 <= x < math.inf, "a number of standard errors")

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Bound ELBO* and log Z of a world, or of its factors; see ``Method.run``. A guess is not used.

        Ctrl-C ends it after the step that is under way, with what is known by then.

        Raises:
            IntractableError: the world is not finite, or has an infinite horizon.
            ImpossibleError: no trajectory is possible.
        """
        with bar("bounds", self.steps, shown=progress) as update, Interrupt() as interrupted:
            for step, found in enumerate(self.refined(world, temperature, generator), 1):
                update(step, f"gap {found.elbo.gap:.4g} nats")
                if interrupted:
                    break
        return found

    def refined(self, world: Any, temperature: float, generator: torch.Generator) -> Iterator[Approximation]:
        """Yield what is known after every step, until the time is over; the last is the best."""
        began = time.monotonic()
        factors = _factors(world)
        end = math.inf if self.minutes is None else began + 60 * self.minutes
        ceiling = _Ceiling(factors, temperature, max(0.0, end - time.monotonic()))
        search = _Search(self, factors, temperature, generator)
        gaps: tuple[float, ...] = ()

        def answer(lower: Estimate, elbo_at_most: float, log_z_at_most: float) -> Approximation:
            nonlocal gaps
            both = replace(lower, upper=elbo_at_most / temperature)
            gaps = (*gaps, both.upper - both.lower)
            notes = _notes(factors, both, self.errors)
            log_evidence = Estimate(lower=both.lower, upper=log_z_at_most / temperature, sampled=both.sampled)
            return Approximation(self.name, temperature, search.best, log_evidence, both, history=gaps, notes=notes)

        took = 0.0
        for step in range(1, self.steps + 1 if self.steps is not None else 2**62):
            if step > 1:
                ceiling.step(min(took, end - time.monotonic()))  # as long as the last policy took
            start = time.monotonic()
            lower = search.step(end)
            took = 0.0 if self.minutes is None else time.monotonic() - start  # equal steps give equal answers
            yield answer(lower, ceiling.elbo, ceiling.log_z)
            now = time.monotonic()
            if now + (now - began) / step > end:  # hardly time for one more policy: all of it for the proof
                yield answer(lower, *ceiling.step(end - now))
            if time.monotonic() >= end:
                return


class _Ceiling:
    """Upper bounds on α ELBO* and α log Z, reward units, the least so far of each."""

    def __init__(self, factors: Factors, temperature: float, seconds: float) -> None:
        self.elbo, self.log_z = reward_bounds(factors)
        if self.elbo == -math.inf:
            raise ImpossibleError("bounds: at some time every reward is -inf; expected a trajectory that is possible")
        end, first = time.monotonic() + seconds, LOG_Z * seconds
        self.proved = [
            _by_parts(factors, POSTERIOR, temperature, first),
            upper_bounds(factors, temperature, seconds=first),
        ]
        self.step()  # a first bound takes no time
        self.step(first if first < math.inf else 0.0)
        self.proved.insert(0, _on_elbo(factors, temperature, end - time.monotonic()))
        self.step()

    @torch.no_grad()
    def step(self, seconds: float = 0.0) -> tuple[float, float]:
        """Let the bounds on ELBO* and log Z take turns for some time; one that is refused or done comes no more."""
        end = time.monotonic() + seconds
        while self.proved:
            turn = self.proved.pop(0)
            with suppress(IntractableError, StopIteration):
                found = next(turn)
                self.proved.append(turn)
                self.elbo = min(self.elbo, found.value)  # ELBO* <= log Z
                self.log_z = min(self.log_z, found.value) if found.bounds == "POSTERIOR" else self.log_z
            if time.monotonic() >= end:
                break
        return self.elbo, self.log_z


def _on_elbo(factors: Factors, temperature: float, seconds: float) -> Iterator[UpperBound]:
    """Yield bounds on α ELBO*: by dual decomposition, and where that is refused, by approximate linear programming."""
    try:
        yield from _by_parts(factors, VARIATIONAL, temperature, seconds)
    except IntractableError:
        yield from upper_bounds(factors, seconds=seconds)


def _by_parts(factors: Factors, rule: Rule, temperature: float, seconds: float) -> Iterator[UpperBound]:
    """Yield bounds by dual decomposition."""
    for value in decomposed(factors, rule, temperature, seconds=seconds):
        yield UpperBound(value, "dual decomposition", rule.name)


class _Search:
    """Policies, each fitted on the states that those before it visit, and the best of them so far."""

    @torch.no_grad()
    def __init__(self, method: Bounds, factors: Factors, temperature: float, generator: torch.Generator) -> None:
        assert factors.horizon is not None
        self.method, self.generator = method, generator
        self.scopes = basis(factors)
        empty = [()] * factors.horizon
        self.policy = self.best = LocalPolicy(LookAhead(factors), [*empty, factors.terminal], temperature)
        hot = replace(self.policy, temperature=PRIOR * temperature)
        self.seen = [visits(hot, method.samples, generator).states]
        self.score, self.bound = -math.inf, Estimate(-math.inf)

    @torch.no_grad()
    def step(self, deadline: float = math.inf) -> Estimate:
        """Try the next policy; return the lower bound of the best so far, from trajectories that did not choose it.

        A policy that is not done at the deadline, ``time.monotonic``, is dropped; the first one is always done.
        """
        if len(self.seen) == 1:
            self._try(self.policy, math.inf)
        else:
            with suppress(TimeoutError):
                self._try(fitted(self.policy, _joined(self.seen), self.scopes, deadline), deadline)
        return self.bound

    def _try(self, policy: LocalPolicy, deadline: float) -> None:
        tried = visits(policy, self.method.samples, self.generator, deadline)
        self.policy, self.seen = policy, [*self.seen[:1], *self.seen[1:][2 - KEPT :], tried.states]
        score = float(tried.elbos.mean())
        if score > self.score or self.bound.lower == -math.inf:
            elbos = sampled_elbo(policy, self.method.reported, self.generator, deadline)
            self.best, self.score, self.bound = policy, score, lower_bound(elbos, self.method.errors)


def reward_bounds(factors: Factors) -> tuple[float, float]:
    """Return bounds on α ELBO* and α log Z from the largest reward of each time, reward units.

    ``α ELBO* <= Σ_t γ^t max r_t``, since γ is survival and counts on average; α log Z may count on the luckiest number
    of steps that are survived.
    """
    assert factors.horizon is not None
    each = [sum((float(piece.table.max()) for piece in slice_.reward), 0.0) for slice_ in factors.slices]
    if factors.ends is not None:
        each = [max(reward, 0.0) for reward in each]  # after an end nothing is paid
    T, gamma = factors.horizon, factors.discount
    paid = [each[t if factors.timed else 0] for t in range(T)]
    paid.append(sum((float(piece.table.max()) for piece in factors.terminal), 0.0))
    on_average = sum((gamma**t * reward for t, reward in enumerate(paid) if gamma**t), 0.0)
    return on_average, max(itertools.accumulate(paid)) if gamma < 1 else on_average


def _factors(world: Any) -> Factors:
    """Compile a world to factors.

    Raises:
        IntractableError: it is not finite, or has an infinite horizon.
    """
    if isinstance(world, NoiseProgram):
        seen, expected = "a world from a state on, as a function of noise", "a world, or its factors"
        raise IntractableError([Finding("bounds", seen, expected)])
    factors = factorise(world).detach()
    if factors.horizon is None:
        raise IntractableError([Finding("bounds", "an infinite horizon", "a finite one")])
    return factors


def _joined(seen: Sequence[Sequence[States]]) -> list[States]:
    """Return the states of several sets of trajectories, by time."""
    return [
        {name: torch.cat([states[name] for states in each]) for name in each[0]} for each in zip(*seen, strict=True)
    ]


def _notes(factors: Factors, elbo: Estimate, errors: float) -> tuple[str, ...]:
    if elbo.lower == -math.inf:
        return ("every policy so far meets an impossible reward: no lower bound yet",)
    how = f"the lower bound is a sampled mean less {errors:g} standard errors; the upper bound is proved"
    pieces = [*factors.terminal, *(piece for slice_ in factors.slices for piece in slice_.reward)]
    risky = any(bool((piece.table == -torch.inf).any()) for piece in pieces)
    return (how, "a reward of -inf that no trajectory met is not ruled out") if risky else (how,)
