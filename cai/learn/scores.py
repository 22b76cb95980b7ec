"""The evaluation of a policy during learning: exact where the world has tables, else by episodes with own seeds."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import ImpossibleError, NotConvergedError
from cai.exact.rules import VARIATIONAL
from cai.exact.solve import solve
from cai.exact.tables.policy_evaluation import occupancy
from cai.learn.result import Score
from cai.policies.as_policy import as_policy, checked_table, weights_in_play
from cai.simulate.rollout import roll
from cai.simulate.simulator import Simulator, drawing, seeded
from cai.support.process import precision

SEED = 2**31  # evaluations draw from seeds that no training uses


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
        if self.temperature is None:
            return None
        try:
            return float(solve(self.tables, VARIATIONAL, temperature=self.temperature).elbo)
        except (ImpossibleError, NotConvergedError):
            return None

    def _accounts(self, log_pi: Tensor) -> tuple[float, float, float]:
        """Return E Σ r, reward units, and E Σ KL(π ‖ prior) and E Σ H(π), nats: ``ELBO = E Σ r/α - KL``."""
        tables, d = self.tables, occupancy(self.tables, log_pi)
        d, end = (d, d.new_zeros(())) if tables.horizon is None else (d[:-1], d[-1])
        weights = d.unsqueeze(-1) * log_pi.exp()
        value = _mean(weights, _mean(tables.log_prob.exp(), tables.reward, -1)) + _mean(end, tables.terminal)
        kl = _mean(weights, log_pi - tables.log_prior)
        return float(value), float(kl), -float(_mean(weights_in_play(tables, weights), log_pi))


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
