"""How good a policy is while it is learned: exactly where the world has tables, else by episodes on their own seeds."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.compile.enumerate import precision
from cai.errors import ImpossibleError, NotConvergedError
from cai.exact.acting import occupancy, policy_elbo
from cai.exact.rules import VARIATIONAL
from cai.exact.solve import solve
from cai.policies.gate import as_policy, checked_table
from cai.simulate.rollout import roll
from cai.simulate.simulator import Simulator, drawing, seeded
from cai.types import Tables

SEED = 2**31  # evaluations draw from seeds that no training uses


@dataclass(frozen=True)
class Score:
    """The scores of one policy; see ``Progress``."""

    stochastic_return: float
    deterministic_return: float
    elbo: float | None = None
    policy_nats: float | None = None
    entropy: float | None = None


@dataclass(frozen=True)
class Exactly:
    """Scores on the tables."""

    tables: Tables
    temperature: float | None

    def __call__(self, policy: Any) -> Score:
        """Return the exact scores of a policy."""
        with torch.no_grad(), precision(self.tables.log_prior.dtype):
            log_pi = checked_table(self.tables, as_policy(self.tables, policy))
            elbo, kl, entropy = self._accounts(log_pi)
            alpha = self.temperature or 1.0
            value, best = alpha * (elbo + kl), self.best
            score = (value, self._return(_greedy(log_pi)))
            if self.temperature is None:
                return Score(*score, entropy=entropy)
            return Score(*score, elbo, None if best is None else best - elbo, entropy)

    @cached_property
    def best(self) -> float | None:
        """ELBO*, nats; None where there is none."""
        if self.temperature is None:
            return None
        try:
            return float(solve(self.tables, VARIATIONAL, temperature=self.temperature).elbo)
        except (ImpossibleError, NotConvergedError):
            return None

    def _return(self, log_pi: Tensor) -> float:
        elbo, kl, _ = self._accounts(log_pi)
        return (self.temperature or 1.0) * (elbo + kl)

    def _accounts(self, log_pi: Tensor) -> tuple[float, float, float]:
        """Return ELBO(π), E Σ KL(π ‖ prior) and E Σ H(π), nats: ``E Σ r = α (ELBO + KL)``."""
        alpha = self.tables.log_prior.new_tensor(self.temperature or 1.0)
        d = occupancy(self.tables, log_pi)
        d = d if self.tables.horizon is None else d[:-1]
        weights = d.unsqueeze(-1) * log_pi.exp()
        surprise = torch.where(weights > 0, weights * log_pi, 0.0).sum()
        kl = torch.where(weights > 0, weights * (log_pi - self.tables.log_prior), 0.0).sum()
        return float(policy_elbo(self.tables, log_pi, alpha)), float(kl), -float(surprise)


@dataclass(frozen=True)
class ByEpisodes:
    """Scores by whole episodes in copies of their own, always on the same seeds.

    A world's discount γ weighs the reward of time t by γ^t, as ``Exactly`` does; without a horizon an episode is cut off
    where that has fallen below 1/1000.
    """

    make: Callable[[int], Simulator]
    episodes: int
    dtype: torch.dtype
    discount: float = 1.0

    def __call__(self, policy: Any) -> Score:
        """Return the mean returns of the policy and of its most probable actions."""
        with torch.no_grad(), precision(self.dtype):
            drawn = self._mean(lambda scene, t: policy.sample(scene.state, t))
            return Score(drawn, self._mean(lambda scene, t: policy.mode(scene.state, t)))

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


def _greedy(log_pi: Tensor) -> Tensor:
    """Return the log-probabilities of the most probable actions, ties shared."""
    best = log_pi == log_pi.amax(-1, keepdim=True)
    return torch.where(best, -best.sum(-1, keepdim=True).to(log_pi.dtype).log(), -torch.inf)
