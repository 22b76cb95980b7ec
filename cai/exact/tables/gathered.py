"""The derivatives of a slice's parameters, added up during the forward pass of the adjoint."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Gathered(Protocol):
    """The derivatives with respect to a slice's parameters; each is made when it is asked for."""

    @property
    def log_prior(self) -> Tensor:
        """Of the action prior, ``[*B, S, A]``."""

    @property
    def log_prob(self) -> Tensor:
        """Of the outcomes' probabilities, ``[*B, S, A, K]``."""

    @property
    def reward(self) -> Tensor:
        """Of the rewards, ``[*B, S, A, K]``."""

    @property
    def alpha(self) -> Tensor:
        """Of the temperature, ``[*B]``."""


@dataclass(frozen=True)
class Sums:
    """All of them, summed up."""

    log_prior: Tensor
    log_prob: Tensor
    reward: Tensor
    alpha: Tensor

    def __add__(self, other: "Sums") -> "Sums":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(a + b for a, b in pairs))


@dataclass(frozen=True)
class Shared:
    """POSTERIOR's: all but α's ``[*B]`` follows from what the rewards gathered, ``[*B, S, A, K]``."""

    temperature: Tensor
    reward: Tensor
    alpha: Tensor

    @property
    def log_prob(self) -> Tensor:
        """α times the rewards' derivative."""
        return self.temperature[..., None, None, None] * self.reward

    @property
    def log_prior(self) -> Tensor:
        """α times the rewards' derivative, over all outcomes of an action."""
        return self.temperature[..., None, None] * self.reward.sum(-1)


@runtime_checkable
class Gathering(Protocol):
    """The adjoint of a slice and what it has gathered so far."""

    def push(self, v_next: Tensor, v_bar: Tensor) -> Tensor:
        """Gather what ``v_bar [*B, S]`` sends to the parameters; return what it sends to v_next, ``[*B, S']``.

        Where nothing is possible v_bar is 0: there is no derivative, whatever flows into it.
        """

    def total(self) -> Gathered:
        """Return the sum over all that was pushed."""
