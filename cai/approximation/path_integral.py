"""Path-integral control: self-normalised importance samples of p(τ|O), from an open-loop Gaussian over action noise.

    w_t ~ q_t = N(m_t, σ_t²),   z ~ N(0, I),        log weight(τ) = Σ_t r_t/α + Σ_t log N(w_t; 0, I) - log q_t(w_t)

The mean moves to the weighted mean of the noise (Kappen 2005; Theodorou, Buchli & Schaal 2010). With one iteration, and
the last plan as the next guess, it is MPPI (Williams et al. 2017).
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.approximation import Approximation
from cai.approximation.estimate import Estimate
from cai.approximation.rollouts import (
    Rollouts,
    effective_sample_size,
    log_optimality,
    log_ratio,
    require_possible,
    rollouts,
)
from cai.approximation.trajectories import Trajectories
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.compile.quadratic import ConditionalGaussian
from cai.errors import fault
from cai.learn.loop import require_whole
from cai.policies.noise_policy import NoisePolicy
from cai.support.progress import bar

CERTAIN = 3.0
"""How many standard errors a sampled lower bound lies below its estimate."""
FEW = 2.0
"""The effective sample size below which a note says that the answer rests on one trajectory."""


@dataclass(frozen=True)
class Plan:
    """An open-loop Gaussian over action noise: w_t ~ N(mean_t, deviation_t²), independent over time."""

    mean: Float[Tensor, "T k"]
    deviation: Float[Tensor, "T k"]

    @classmethod
    def prior(cls, T: int, k: int) -> "Plan":
        """Return the action prior."""
        return cls(torch.zeros(T, k, dtype=torch.float64), torch.ones(T, k, dtype=torch.float64))

    def shifted(self) -> "Plan":
        """Return the plan one time later, the action prior at the new end."""
        return self.lasting(len(self.mean) + 1)[1:]

    def lasting(self, T: int) -> "Plan":
        """Return T steps of it, the action prior where it has no more."""
        more = Plan.prior(max(T - len(self.mean), 0), self.mean.shape[-1])
        return Plan(torch.cat((self.mean, more.mean)), torch.cat((self.deviation, more.deviation)))[:T]

    def __getitem__(self, times: slice) -> "Plan":
        return Plan(self.mean[times], self.deviation[times])


def open_loop(plan: Plan, n: int, t: int) -> ConditionalGaussian:
    """Return p(w_t|s) of a plan over states of n numbers, which it does not depend on."""
    return ConditionalGaussian(plan.mean.new_zeros(plan.mean.shape[-1], n), plan.mean[t], plan.deviation[t].diag())


@dataclass(frozen=True)
class Weighted:
    """Roll-outs of a plan, with their weights.

    Attributes:
        noise: w, ``[N, T, k]``.
        runs: the roll-outs.
        log_weights: of optimality until each time, nats, ``[N, T]``.
        log_elbo: an unbiased estimate of the plan's ELBO by each, nats, ``[N]``.
    """

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
        N, last = len(self.noise), self.log_weights[:, -1]
        spread = 1 / float(self.sample_sizes[-1]) - 1 / N
        return Estimate(float(last.logsumexp(0)) - math.log(N), math.sqrt(max(spread, 0.0) * N / max(N - 1, 1)))

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
        return Plan(mean, variance.sqrt().clamp(min=least))


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

    The policy is an open-loop plan: a Gaussian over action noise at each time. ``history`` is the ELBO of the plan that
    each iteration draws from; log Z is estimated from the last iteration's draws alone, without bias in Z.

    Attributes:
        samples: N trajectories an iteration.
        iterations: how often the plan moves.
        movers: the weights that the plan moves by are tempered to at least this effective sample size; 1: never.
        adapt_deviation: whether the deviation of the draws moves too, not the mean alone.
        least_deviation: of the noise, in units of the prior's; the weights of too narrow a plan have heavy tails.
        horizon: how many steps to look ahead, where the world has no horizon.
    """

    name: ClassVar[str] = "path_integral"
    samples: int = 1000
    iterations: int = 1
    movers: float = 1.0
    adapt_deviation: bool = False
    least_deviation: float = 0.2
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
        plan = Plan.prior(program.horizon, program.act_noise) if guess is None else guess.lasting(program.horizon)
        found = weighted(program, plan, self.samples, temperature, generator)
        history, sizes = [], []
        with bar(self.name, self.iterations, shown=progress) as tell:
            for i in range(self.iterations):
                if i:
                    plan = self._draws(found, plan)
                    found = weighted(program, plan, self.samples, temperature, generator)
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
            NoisePolicy(program, partial(open_loop, moved, n)),
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
        return moved if self.adapt_deviation else Plan(moved.mean, plan.deviation)

    def _check(self) -> None:
        require_whole("path_integral, samples", self.samples, 1)
        require_whole("path_integral, iterations", self.iterations, 1)
        if not self.movers >= 1:
            raise fault("path_integral, movers", f"{self.movers}", "an effective sample size, at least 1")
        if not 0 < self.least_deviation <= 1:
            raise fault("path_integral, least_deviation", f"{self.least_deviation}", "above 0, at most 1")


def weighted(program: NoiseProgram, plan: Plan, samples: int, alpha: float, generator: torch.Generator) -> Weighted:
    """Draw trajectories of a plan, and weigh them for POSTERIOR.

    Raises:
        ImpossibleError: none is possible.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(samples, *shape, generator=generator, dtype=torch.float64)

    T, gamma = program.horizon, program.discount
    w = plan.mean + plan.deviation * normal(T, program.act_noise)
    runs = rollouts(program, normal(program.start_noise), w, normal(T, program.step_noise))
    ratio = log_ratio(w, plan.mean, plan.deviation)
    likelihood = log_optimality(runs.rewards / alpha, runs.terminal / alpha, gamma)
    log_weights = ratio.cumsum(-1) + likelihood
    require_possible("path_integral", program, log_weights, runs.rewards.cumsum(-1))
    alive = gamma ** torch.arange(T + 1, dtype=torch.float64)
    log_elbo = (alive[:-1] * (runs.rewards / alpha + ratio)).sum(-1) + alive[-1] * runs.terminal / alpha
    return Weighted(w, runs, log_weights, log_elbo)


def notes(samples: int, sizes: list[float]) -> tuple[str, ...]:
    """Say in words what effective sample sizes were reached, and what to do where the last is about 1."""
    words = f"effective sample size of {samples} by iteration: {', '.join(f'{size:.3g}' for size in sizes)}"
    if sizes[-1] >= FEW:
        return (words,)
    advice = "the answer rests on one trajectory, and log Z is likely too low: raise the temperature or the samples"
    return words, advice
