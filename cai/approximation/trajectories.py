"""Trajectories: weighted samples of whole trajectories."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Trajectories:
    """N weighted trajectories of T steps: an approximation of p(τ|O) by points.

    Attributes:
        states: s_0 … s_T, ``[N, T+1, n]``.
        actions: a_0 … a_{T-1}, ``[N, T, m]``.
        rewards: r_0 … r_{T-1}, the terminal reward within the last, reward units, ``[N, T]``.
        log_weights: normalised, nats, ``[N]``.
    """

    states: Float[Tensor, "N T1 n"]
    actions: Float[Tensor, "N T m"]
    rewards: Float[Tensor, "N T"]
    log_weights: Float[Tensor, " N"]

    @property
    def effective_sample_size(self) -> float:
        """1 / Σ w², between 1 and N (Kong 1992)."""
        return float(torch.exp(-torch.logsumexp(2 * self.log_weights, 0)))

    def moments(self, t: int) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return mean and covariance of s_t."""
        w, s = self.log_weights.exp(), self.states[:, t]
        mean = w @ s
        return mean, (s - mean).mT @ (w.unsqueeze(-1) * (s - mean))

    def sample(self, n: int, generator: torch.Generator | None = None) -> "Trajectories":
        """Draw n trajectories with replacement by their weights; the draws weigh the same."""
        chosen = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        even = self.log_weights.new_full((n,), 1 / n).log()
        return Trajectories(self.states[chosen], self.actions[chosen], self.rewards[chosen], even)


def together(parts: Sequence[Trajectories], log_shares: Float[Tensor, " R"]) -> Trajectories:
    """Return the trajectories of R runs as one, each run with a share of the weight, nats."""
    return Trajectories(
        torch.cat([one.states for one in parts]),
        torch.cat([one.actions for one in parts]),
        torch.cat([one.rewards for one in parts]),
        torch.cat([one.log_weights + share for one, share in zip(parts, log_shares, strict=True)]),
    )
