"""A slice whose outcomes are averaged: its rewards and probabilities are needed once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.tables.backup import look_ahead
from cai.exact.tables.chain import Chain


@dataclass(frozen=True)
class Averaged:
    """γ p(outcome|s,a) and its successors ``[*B, S, A, K]``, and E[r|s,a] ``[*B, S, A]``, reward units."""

    onward: Tensor
    successor: Tensor
    reward: Tensor

    def q(self, v_next: Tensor) -> Tensor:
        """Return ``q = E[r] + γ Σ p(outcome|s,a) v(s')``, ``[*B, S, A]``; what has no probability does not count."""
        following = torch.where(self.onward > 0, self.onward * look_ahead(v_next, self.successor), 0.0)
        return self.reward + following.sum(-1)

    def living(self, pi: Tensor) -> Chain:
        """Return the chain of the living under the policy π ``[S, A]``."""
        return Chain(pi.unsqueeze(-1) * self.onward, self.successor)


def average(slice_: Slice, discount: float) -> Averaged:
    """Return a slice's averaged dynamics."""
    p = slice_.log_prob.exp()
    return Averaged(discount * p, slice_.successor, expected_reward(p, slice_.reward))


def expected_reward(p: Tensor, reward: Tensor) -> Tensor:
    """Return ``Σ p r`` over outcomes, reward units; what has no probability does not count, whatever it pays."""
    return torch.where(p > 0, p * reward, 0.0).sum(-1)
