"""What the parameters of a slice gather while the derivative flows through it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.exact.rules import POSTERIOR


@dataclass(frozen=True)
class Gathered:
    """The derivatives with respect to a slice's parameters: ``[*B, S, A]``, twice ``[*B, S, A, K]``, and ``[*B]``."""

    log_prior: Tensor
    log_prob: Tensor
    reward: Tensor
    alpha: Tensor

    def __add__(self, other: "Gathered") -> "Gathered":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Gathered(*(a + b for a, b in pairs))


@runtime_checkable
class Gathering(Protocol):
    """The adjoint of a slice and what it has gathered so far."""

    def push(self, v_next: Tensor, v: Tensor, v_bar: Tensor) -> Tensor:
        """Gather what ``v_bar [*B, S]`` sends to the parameters; return what it sends to v_next, ``[*B, S']``.

        Where nothing is possible both v and v_bar are 0: there is no derivative, whatever flows into it.
        """

    def total(self) -> Gathered:
        """Return the sum over all that was pushed."""


def through_survival(
    v_next: Tensor, c: Tensor, c_bar: Tensor, alpha: Tensor, log_survival: Tensor, mortal: bool
) -> tuple[Tensor, Tensor]:
    """Push ``c_bar [*B, S]`` through POSTERIOR's mean over going on and ending: what goes to v_next, and to α."""
    if not mortal:
        return c_bar, torch.zeros_like(alpha)
    over, a = POSTERIOR.over_outcomes, alpha[..., None]
    branches = torch.stack([v_next, torch.zeros_like(v_next)], -1)
    weights = over.log_weights(branches, log_survival, a, c).exp()
    by_alpha = (c_bar * over.by_alpha(branches, log_survival, a, c, weights)).sum(-1)
    return c_bar * weights[..., 0], by_alpha
