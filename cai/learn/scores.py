"""The evaluation of a policy during learning: exact where the world and the policy allow it, else by episodes with own
seeds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.quadratic import ConditionalGaussian
from cai.compile.real_program import is_real
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import ImpossibleError, IntractableError, NotConvergedError
from cai.evaluation.answers import answers_of
from cai.evaluation.evaluate import measure
from cai.exact.gaussian.affine_elbo import RewardAndPrior, affine_accounts, affine_elbo, reward_and_prior
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.rules import VARIATIONAL
from cai.exact.solve import solve
from cai.exact.tables.policy_evaluation import occupancy, policy_elbo
from cai.learn.result import Score
from cai.policies.affine_gaussian import Conditional
from cai.policies.as_policy import as_policy, checked_table, weights_in_play
from cai.simulate.rollout import roll
from cai.simulate.simulator import Simulator, drawing, seeded
from cai.support.process import precision
from cai.world.spec import read

SEED = 2**31  # evaluations draw from seeds that no training uses


def compiled_exactly(world: Any) -> Tables | LinearGaussian:
    """Return the world's tables; where its variables are real, its linear-Gaussian system.

    Raises:
        WorldError, IntractableError: it has neither.
    """
    if isinstance(world, Tables | LinearGaussian):
        return world
    with precision(torch.float64):
        spec = read(world)
        return linearise(spec) if is_real(spec) else tabulate(spec)


def exact_model(world: Any) -> Tables | LinearGaussian | None:
    """Return what policies are measured on exactly, cut from autograd; None where there is nothing."""
    try:
        return compiled_exactly(world).detach()
    except IntractableError:
        return None


@runtime_checkable
class Measure(Protocol):
    """Says how good a policy is."""

    @property
    def elbo_star(self) -> float | None:
        """ELBO*, nats; None where it is not known."""

    def __call__(self, policy: Any) -> Score:
        """Return the scores of a policy."""


@dataclass(frozen=True)
class ExactScore:
    """Scores on the tables."""

    tables: Tables
    temperature: float | None

    def __call__(self, policy: Any) -> Score:
        """Return the exact scores of a policy."""
        with torch.no_grad(), precision(self.tables.log_prior.dtype):
            log_pi = checked_table(self.tables, as_policy(self.tables, policy))
            value, kl, entropy = self._accounts(log_pi)
            score = (value, self._accounts(_greedy(log_pi))[0])
            if self.temperature is None:
                return Score(*score, entropy=entropy)
            elbo, best = value / self.temperature - kl, self.elbo_star
            return Score(*score, elbo, None if best is None else best - elbo, entropy, 0.0)

    @cached_property
    def elbo_star(self) -> float | None:
        """ELBO*, nats; None where there is none."""
        return None if self.temperature is None else _elbo_star(self.tables, self.temperature)

    def elbo(self, policy: Any, alpha: Tensor) -> float:
        """Return ELBO(π), nats."""
        log_pi = checked_table(self.tables, as_policy(self.tables, policy))
        return float(policy_elbo(self.tables, log_pi, alpha))

    def _accounts(self, log_pi: Tensor) -> tuple[float, float, float]:
        """Return E Σ r, reward units, and E Σ KL(π ‖ prior) and E Σ H(π), nats: ``ELBO = E Σ r/α - KL``."""
        tables, d = self.tables, occupancy(self.tables, log_pi)
        d, end = (d, d.new_zeros(())) if tables.horizon is None else (d[:-1], d[-1])
        weights = d.unsqueeze(-1) * log_pi.exp()
        value = _mean(weights, _mean(tables.log_prob.exp(), tables.reward, -1)) + _mean(end, tables.terminal)
        kl = _mean(weights, log_pi - tables.log_prior)
        return float(value), float(kl), -float(_mean(weights_in_play(tables, weights), log_pi))


@dataclass(frozen=True)
class GaussianScore:
    """Scores on a linear-Gaussian system: exact ones of an affine-Gaussian policy, else over a few trajectories.

    Attributes:
        model: the system.
        temperature: α, reward units; None: nothing is measured in nats.
        episodes: measures other policies; None where all are affine-Gaussian.
    """

    model: LinearGaussian
    temperature: float | None
    episodes: "ByEpisodes | None" = None

    def __call__(self, policy: Any) -> Score:
        """Return the scores of a policy."""
        if not isinstance(policy, Conditional) and self.episodes is not None:
            return self._sampled(policy, self.episodes)
        with torch.no_grad():
            value, kl, entropy = affine_accounts(self._operator, policy.conditional, self._known)
            score = (value, affine_accounts(self._operator, partial(_certain, policy), self._known)[0])
        if self.temperature is None:
            return Score(*score, entropy=entropy)
        elbo, best = value / self.temperature - kl, self.elbo_star
        return Score(*score, elbo, None if best is None else best - elbo, entropy, 0.0)

    def _sampled(self, policy: Any, episodes: "ByEpisodes") -> Score:
        """Return the scores of a policy over a few trajectories, the nats with their standard error."""
        returns = episodes(policy)
        if self.temperature is None:
            return returns
        with precision(self.model.dtype):
            found = measure(answers_of("learner", self.model, self.temperature, episodes.episodes, SEED), policy)
        best, error = self.elbo_star, found.standard_error
        gap = None if best is None else best - found.elbo
        score = Score(found.expected_return, returns.deterministic_return, found.elbo, gap, found.entropy, error)
        return replace(score, samples=episodes.episodes if error else 0)

    @cached_property
    def elbo_star(self) -> float | None:
        """ELBO*, nats; None where there is none."""
        return None if self.temperature is None else _elbo_star(self.model, self.temperature)

    def elbo(self, policy: Conditional, alpha: Tensor) -> float:
        """Return ELBO(π) of an affine-Gaussian policy, nats."""
        op = GaussianOperator(self.model, VARIATIONAL, alpha)
        return float(affine_elbo(op, policy.conditional, self._known))

    @cached_property
    def _operator(self) -> GaussianOperator:
        alpha = torch.tensor(self.temperature or 1.0, dtype=self.model.dtype, device=self.model.device)
        return GaussianOperator(self.model, VARIATIONAL, alpha)

    @cached_property
    def _known(self) -> RewardAndPrior:
        return reward_and_prior(self._operator)


def _certain(policy: Conditional, t: int) -> ConditionalGaussian:
    """Return the mean alone."""
    act = policy.conditional(t)
    return replace(act, scale=torch.zeros_like(act.scale))


def _elbo_star(model: Tables | LinearGaussian, alpha: float) -> float | None:
    try:
        return float(solve(model, VARIATIONAL, temperature=alpha).elbo)
    except (ImpossibleError, NotConvergedError):
        return None


@dataclass(frozen=True)
class ByEpisodes:
    """Scores by whole episodes in copies of their own, always on the same seeds.

    A world's discount γ weighs the reward of time t by γ^t, as ``ExactScore`` does; without a horizon an episode is cut
    off where that has fallen below 1/1000.
    """

    make: Callable[[int], Simulator]
    episodes: int
    dtype: torch.dtype
    discount: float = 1.0
    elbo_star: float | None = None

    def __call__(self, policy: Any) -> Score:
        """Return the mean returns of the policy and of its most probable actions."""
        with torch.no_grad(), precision(self.dtype):
            drawn = self._mean(lambda env_state, t: policy.sample(env_state.state, t))
            return Score(drawn, self._mean(lambda env_state, t: policy.mode(env_state.state, t)))

    @cached_property
    def simulator(self) -> Simulator:
        """The copies, made at the first evaluation."""
        return self.make(self.episodes)

    def _mean(self, choose: Any) -> float:
        endless = self.simulator.horizon is None and self.discount < 1
        limit = math.ceil(math.log(1e-3) / math.log(self.discount)) if endless else None
        with drawing(seeded(SEED)):
            rewards = roll(self.simulator, choose, limit).rewards
        weights = self.discount ** torch.arange(len(rewards)).unsqueeze(-1)
        return float((weights * rewards).sum(0).mean())


def _mean(weights: Tensor, x: Tensor, dim: Any = None) -> Tensor:
    """Return Σ weights x; an entry of weight 0 counts 0, even if x is infinite."""
    return torch.where(weights > 0, weights * x, 0.0).sum(dim)


def _greedy(log_pi: Tensor) -> Tensor:
    """Return the log-probabilities of the most probable actions, ties shared."""
    best = log_pi == log_pi.amax(-1, keepdim=True)
    return torch.where(best, -best.sum(-1, keepdim=True).to(log_pi.dtype).log(), -torch.inf)
