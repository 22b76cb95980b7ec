"""Discount as survival: after its reward each step ends the trajectory with probability 1-γ.

    c(s') = mean over {go on: v(s'), end: 0}     with weights γ, 1-γ

Under POSTERIOR that is ``α log (γ exp(v/α) + 1-γ)``; for a rule that averages outcomes it is ``γ v``.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cai.exact.rule_means import Mean


@dataclass(frozen=True)
class Survival:
    """The mean over going on and ending.

    Attributes:
        over: the rule's mean over outcomes.
        alpha: the temperature, reward units, ``[*B, 1]``.
        log_p: log of (γ, 1 - γ), nats.
    """

    over: Mean
    alpha: Tensor
    log_p: Tensor

    @cached_property
    def is_mortal(self) -> bool:
        """Whether a step may end the trajectory."""
        return bool(self.log_p[1] > -torch.inf)

    def value(self, v_next: Tensor) -> Tensor:
        """Return the continuation c(s'), reward units, ``[*B, S]``."""
        return self.over.value(_branches(v_next), self.log_p, self.alpha) if self.is_mortal else v_next

    def log_weights(self, v_next: Tensor, c: Tensor) -> Tensor:
        """Return log p(go on), log p(end) on entering s' under the rule, nats, ``[*B, S, 2]``."""
        return self.over.log_weights(_branches(v_next), self.log_p, self.alpha, c)

    def adjoint(self, v_next: Tensor, c: Tensor, c_bar: Tensor) -> tuple[Tensor, Tensor]:
        """Push ``c_bar [*B, S]`` through the mean: what goes to v_next, ``[*B, S]``, and what to α, ``[*B]``."""
        if not self.is_mortal:
            return c_bar, torch.zeros_like(self.alpha.squeeze(-1))
        weights = self.log_weights(v_next, c).exp()
        by_alpha = self.over.by_alpha(_branches(v_next), self.log_p, self.alpha, c, weights)
        return c_bar * weights[..., 0], (c_bar * by_alpha).sum(-1)


def _branches(v_next: Tensor) -> Tensor:
    """Return the values of going on and of ending, reward units, ``[*B, S, 2]``."""
    return torch.stack([v_next, torch.zeros_like(v_next)], -1)
