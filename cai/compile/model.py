"""A compiled world: the members that every compiled form has, and those of worlds with numbered states and actions."""

from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.world.spaces import Layout, Space


@runtime_checkable
class Model(Protocol):
    """A compiled world, whatever its form."""

    @property
    def states(self) -> Any:
        """The states: a ``Space`` where they are numbered, ``Coordinates`` where they are real."""

    @property
    def actions(self) -> Any:
        """The actions, as the states."""

    @property
    def horizon(self) -> int | None:
        """T, or None for the infinite horizon."""

    @property
    def discount(self) -> float:
        """The probability γ of surviving a step."""

    @property
    def timed(self) -> bool:
        """Whether the slices differ over time."""

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of its numbers."""

    @property
    def device(self) -> torch.device:
        """Where its numbers lie."""

    @property
    def requires_grad(self) -> bool:
        """Whether any number requires a gradient."""

    @property
    def proper_prior(self) -> bool:
        """Whether the action prior is a distribution; a flat one is not."""

    @property
    def layout(self) -> Layout | None:
        """Where states lie in space, if the world says so."""

    def at(self, t: int) -> Any:
        """Return the slice of time ``t``."""


@runtime_checkable
class FiniteModel(Model, Protocol):
    """A compiled world of finitely many states and actions, which are numbered; ``at(t).log_prior`` is ``[S, A]``."""

    @property
    def states(self) -> Space:
        """The states."""

    @property
    def actions(self) -> Space:
        """The actions."""

    @property
    def log_survival(self) -> Float[Tensor, "2"]:
        """log of (γ, 1 - γ): the probabilities of going on and of ending after a step, nats."""

    @property
    def ended(self) -> Tensor | None:
        """The states in which an episode has ended, ``[S]``; None where no episode ends."""

    @property
    def log_initial(self) -> Float[Tensor, "*B S"]:
        """log p(s_0), nats."""

    def log_prior_at(self, t: int) -> Float[Tensor, "*B S A"]:
        """Return log p(a|s) of time t, nats."""


def is_finite(model: Model) -> TypeGuard[FiniteModel]:
    """Return whether states and actions are numbered."""
    return isinstance(model.states, Space)
