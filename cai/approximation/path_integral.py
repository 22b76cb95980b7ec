"""Path-integral control: self-normalised importance samples of p(τ|O), from an open-loop Gaussian over action noise.

    w ~ q,   z ~ N(0, I),        log weight(τ) = Σ_t r_t/α + Σ_t log N(w_t; 0, I) - log q(w_t | w_{t-1})

The mean moves to the weighted mean of the noise (Kappen 2005; Theodorou, Buchli & Schaal 2010). With one iteration, and
the last plan as the next guess, it is MPPI (Williams et al. 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.approximation import Approximation
from cai.approximation.estimate import Estimate
from cai.approximation.noise_elbo import log_mean, scarce
from cai.approximation.open_loop_plan import Plan, open_loop_law
from cai.approximation.rollouts import (
    Rollouts,
    effective_sample_size,
    log_optimality,
    require_possible,
    rollouts,
)
from cai.approximation.trajectories import Trajectories
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.learn.loop import require_number, require_whole
from cai.policies.noise_policy import NoisePolicy
from cai.support.progress import bar
from cai.world.noise import log_normal

CERTAIN = 3.0
"""How many standard errors a sampled lower bound lies below its estimate."""


@dataclass(frozen=True)
class Weighted:
    """Roll-outs of a plan, with their weights.

    Attributes:
        plan: what they were drawn from.
        noise: w, ``[N, T, k]``.
        runs: the roll-outs.
        log_weights: of optimality until each time, nats, ``[N, T]``.
        log_elbo: an unbiased estimate of the plan's ELBO by each, nats, ``[N]``.
    """

    plan: Plan
    noise: Tensor
    runs: Rollouts
    log_weights: Tensor
    log_elbo: Tensor

    @cached_property
    def sample_sizes(self) -> Float[Tensor, " T"]:
        """The effective sample size at each time."""
        return effective_sample_size(self.log_weights)

    @property
    def log_evidence(self) -> Estimate:
        """log of the mean weight, which is unbiased; its standard error by the delta method."""
        return log_mean(self.log_weights[:, -1])

    @property
    def elbo(self) -> Estimate:
        """What the ELBO of the plan says of ELBO*: a lower bound, which holds but for three standard errors."""
        mean = float(self.log_elbo.mean())
        if not math.isfinite(mean) or len(self.log_elbo) < 2:
            return Estimate()
        error = float(self.log_elbo.std()) / len(self.log_elbo) ** 0.5
        return Estimate(lower=mean - CERTAIN * error, sampled=True)

    def moved(self, movers: float, least: float) -> Plan:
        """Return the weighted mean and deviation of the noise, the weights tempered to some effective sample size."""
        share = torch.softmax(_tempered(self.log_weights[:, -1], movers), 0)
        mean = torch.einsum("n,ntk->tk", share, self.noise)
        variance = torch.einsum("n,ntk->tk", share, (self.noise - mean).square())
        return replace(self.plan, mean=mean, deviation=variance.sqrt().clamp(min=least))


def _tempered(log_weights: Tensor, movers: float) -> Tensor:
    """Return ``κ log_weights`` with the largest κ ≤ 1 of at least so large an effective sample size, to 2 percent."""
    possible = int((log_weights > -math.inf).sum())
    if float(effective_sample_size(log_weights)) >= min(movers, possible):
        return log_weights
    enough = min(movers, 0.99 * possible)
    kappa = 0.5 ** torch.arange(44.0, dtype=log_weights.dtype)
    for finer in (torch.ones(1, dtype=log_weights.dtype), torch.linspace(1, 2, 48, dtype=log_weights.dtype).flip(0)):
        tried = (kappa * finer).clamp(max=1)
        sizes = effective_sample_size(tried * log_weights.unsqueeze(-1))
        kappa = tried[(sizes >= enough).int().argmax()]
    return kappa * log_weights


@dataclass(frozen=True)
class PathIntegral:
    """Path-integral control as importance sampling of POSTERIOR, the noise of the dynamics inferred too.

    The policy is an open-loop plan: a Gaussian over action noise at each time. ``history`` is the ELBO of the law that
    each iteration draws from; log Z is estimated from the last iteration's draws alone, without bias in Z.
    Draws that are correlated over time, and a share of fresh ones, find what white noise about the last plan does not;
    the weights are by the density of the draws as they are, so that neither adds a bias. A strong correlation is for
    control: the weights' tails get heavy, and log Z poor.

    Attributes:
        samples: N trajectories an iteration.
        iterations: how often the plan moves.
        movers: the weights that the plan moves by are tempered to at least this effective sample size; 1: never.
        adapt_deviation: whether the deviation of the draws moves too, not the mean alone.
        least_deviation: of the noise, in units of the prior's; the weights of too narrow a plan have heavy tails.
        correlation: ρ of the draws' noise at neighbouring times, see ``open_loop_plan``; 0 ≤ ρ < 1.
        fresh: the share of the samples that are drawn from the first plan, whatever was found since; all are weighed by
            the mixture (Veach & Guibas 1995, balance heuristic).
        horizon: how many steps to look ahead; the world's own horizon unless given.
    """

    name: ClassVar[str] = "path_integral"
    samples: int = 1000
    iterations: int = 1
    movers: float = 1.0
    adapt_deviation: bool = False
    least_deviation: float = 0.2
    correlation: float = 0.0
    fresh: float = 0.0
    horizon: int | None = None

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Draw, weigh and move, so many times; see ``Method.run``.

        Raises:
            WorldError: an option is not valid.
            ImpossibleError: no trajectory that was drawn is possible; it names the time.
        """
        self._check()
        program = noise_program(world, self.horizon)
        first = Plan.first(program.horizon, program.act_noise, self.correlation)
        plan, fresh = first if guess is None else guess.lasting(program.horizon), int(self.fresh * self.samples)
        parts = ((plan, self.samples - fresh), (first, fresh))
        found = weighted(program, parts, temperature, generator)
        history, sizes = [], []
        with bar(self.name, self.iterations, shown=progress) as tell:
            for i in range(self.iterations):
                if i:
                    plan = self._draws(found, plan)
                    parts = ((plan, self.samples - fresh), (first, fresh))
                    found = weighted(program, parts, temperature, generator)
                history.append(float(found.log_elbo.mean()))
                sizes.append(float(found.sample_sizes[-1]))
                tell(i + 1, f"effective sample size {sizes[-1]:.3g}")
        return self._answer(program, temperature, plan, found, history, sizes)

    def _answer(
        self,
        program: NoiseProgram,
        temperature: float,
        plan: Plan,
        found: Weighted,
        history: list[float],
        sizes: list[float],
    ) -> Approximation:
        last, runs, n = found.log_weights[:, -1], found.runs, program.states.dimension
        moved = found.moved(self.movers, self.least_deviation)
        return Approximation(
            self.name,
            temperature,
            NoisePolicy(program, partial(open_loop_law, moved, n)),
            log_evidence=found.log_evidence,
            elbo=found.elbo,
            trajectories=Trajectories(runs.states, runs.actions, runs.paid, last - last.logsumexp(0)),
            effective_sample_size=found.sample_sizes,
            history=tuple(history),
            guess=self._kept(moved, plan),
            notes=notes(self.samples, sizes),
        )

    def _draws(self, found: Weighted, plan: Plan) -> Plan:
        """Return the plan to draw from next."""
        return self._kept(found.moved(self.movers, self.least_deviation), plan)

    def _kept(self, moved: Plan, plan: Plan) -> Plan:
        return moved if self.adapt_deviation else replace(plan, mean=moved.mean)

    def _check(self) -> None:
        require_whole("path_integral, samples", self.samples, 1)
        require_whole("path_integral, iterations", self.iterations, 1)
        movers, least, rho, fresh = self.movers, self.least_deviation, self.correlation, self.fresh
        require_number("path_integral, movers", movers, lambda x: x >= 1, "an effective sample size, at least 1")
        require_number("path_integral, least_deviation", least, lambda x: 0 < x <= 1, "above 0, at most 1")
        require_number("path_integral, correlation", rho, lambda x: 0 <= x < 1, "at least 0, below 1")
        require_number("path_integral, fresh", fresh, lambda x: 0 <= x < 1, "a share of the samples, below 1")


def weighted(
    program: NoiseProgram, parts: Sequence[tuple[Plan, int]], alpha: float, generator: torch.Generator
) -> Weighted:
    """Draw so many trajectories of each of some plans, and weigh them for POSTERIOR by the mixture of the plans.

    Raises:
        ImpossibleError: none is possible.
    """
    parts = [(plan, samples) for plan, samples in parts if samples]
    N, T, gamma = sum(samples for _, samples in parts), program.horizon, program.discount

    def normal(*shape: int) -> Tensor:
        return torch.randn(N, *shape, generator=generator, dtype=torch.float64)

    xi = normal(T, program.act_noise).split([samples for _, samples in parts])
    w = torch.cat([plan.drawn(part) for (plan, _), part in zip(parts, xi, strict=True)])
    runs = rollouts(program, normal(program.start_noise), w, normal(T, program.step_noise))
    log_q = torch.stack([math.log(samples / N) + plan.log_prob(w).cumsum(-1) for plan, samples in parts]).logsumexp(0)
    log_ratio = log_normal(w).cumsum(-1) - log_q
    likelihood = log_optimality(runs.rewards / alpha, runs.terminal / alpha, gamma)
    log_weights = log_ratio + likelihood
    require_possible("path_integral", program, log_weights, runs.rewards.cumsum(-1))
    alive = gamma ** torch.arange(T + 1, dtype=torch.float64)
    each = log_ratio.diff(prepend=w.new_zeros(N, 1))
    log_elbo = (alive[:-1] * (runs.rewards / alpha + each)).sum(-1) + alive[-1] * runs.terminal / alpha
    return Weighted(parts[0][0], w, runs, log_weights, log_elbo)


def notes(samples: int, sizes: list[float]) -> tuple[str, ...]:
    """Say in words what effective sample sizes were reached, and what to do where the last is too small."""
    words = f"effective sample size of {samples} by iteration: {', '.join(f'{size:.3g}' for size in sizes)}"
    return words, *scarce(sizes[-1], samples, "samples")
