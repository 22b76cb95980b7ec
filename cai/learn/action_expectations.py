"""The mean of critics over an actor's actions: V(s) = E_{a ~ π(·|s)} [min_k Q_k(s,a) - α log π(a|s)/p(a|s)].

Over finitely many actions it is a sum (Christodoulou 2019, arXiv:1910.07207), else one differentiable draw.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.learn.action_heads import Continuous
from cai.learn.functions import Network


@runtime_checkable
class Expectation(Protocol):
    """How critics ``[2, P]`` are read at actions, and averaged over an actor's."""

    def carried(self, code: Tensor) -> Tensor:
        """Return what the replay keeps of an action."""

    def taken(self, theta: Tensor, x: Tensor, action: Tensor) -> Tensor:
        """Return Q_k(s,a) of both critics, ``[2, N]``, reward units."""

    def value(self, theta: Tensor, x: Tensor, out: Tensor, prior: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """Return V(s), reward units, and the log π/p that it paid, nats, ``[N]`` both, differentiable in ``out``."""

    def taken_and_value(
        self, theta: Tensor, x: Tensor, action: Tensor, out: Tensor, prior: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``taken``, and ``value`` with the critics held fixed, at the same states."""


@dataclass(frozen=True)
class Summed:
    """Over finitely many actions, exactly: V(s) = Σ_a π(a|s) (min_k Q_k(s,a) - α log π(a|s)/p(a|s))."""

    critic: Network

    def carried(self, code: Tensor) -> Tensor:
        """Return the number."""
        return code

    def taken(self, theta: Tensor, x: Tensor, action: Tensor) -> Tensor:
        """Return the entries of the actions taken."""
        return self._entries(self.critic(theta, x), action)

    def value(self, theta: Tensor, x: Tensor, out: Tensor, prior: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """Return V(s) and KL(π(·|s) ‖ p(·|s))."""
        return self._mean(self.critic(theta, x), out, prior, alpha)

    def taken_and_value(
        self, theta: Tensor, x: Tensor, action: Tensor, out: Tensor, prior: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return both of one forward pass of the critics."""
        q = self.critic(theta, x)
        return self._entries(q, action), *self._mean(q.detach(), out, prior, alpha)

    def _entries(self, q: Tensor, action: Tensor) -> Tensor:
        return q.gather(-1, action.expand(*q.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    def _mean(self, q: Tensor, out: Tensor, prior: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        ratio = out - (prior + out).logsumexp(-1, keepdim=True)  # finite also where p = 0
        pi = (prior + out).softmax(-1)
        kl = (pi * ratio).sum(-1)
        return (pi * q.amin(0)).sum(-1) - alpha * kl, kl


@dataclass(frozen=True)
class Drawn:
    """Over real actions, by one reparameterised draw: V(s) ≈ min_k Q_k(s,a) - α log π(a|s)/p(a|s), a ~ π(·|s)."""

    actor: Continuous
    critic: Network

    def carried(self, code: Tensor) -> Tensor:
        """Return the action in the critic's units."""
        return self.actor.unit(code)

    def taken(self, theta: Tensor, x: Tensor, action: Tensor) -> Tensor:
        """Return the critics of state and action."""
        return self.critic(theta, torch.cat((x, action), -1)).squeeze(-1)

    def value(self, theta: Tensor, x: Tensor, out: Tensor, prior: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """Return V(s) and log π(a|s)/p(a|s) of the draw."""
        code = self.actor.draw(out, prior)
        ratio = self.actor.ratio(out, prior, code)
        return self.taken(theta, x, self.actor.unit(code)).amin(0) - alpha * ratio, ratio

    def taken_and_value(
        self, theta: Tensor, x: Tensor, action: Tensor, out: Tensor, prior: Tensor, alpha: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return both: of the actions taken, and of the draw."""
        return self.taken(theta, x, action), *self.value(theta.detach(), x, out, prior, alpha)
