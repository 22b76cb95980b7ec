"""The simulator that learners sample from: many copies of a world, and one interface to step them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyro
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.support.process import alone
from cai.world.spaces import Values, Variables

NEVER = 2**62  # larger than any episode's length, and still an int64


@dataclass(frozen=True)
class EnvState:
    """The state of B copies. It never changes: a simulator can go on from any that it once gave.

    Attributes:
        state: what is observed of each copy, ``[B, …]`` by variable.
        t: steps since the start of each copy's episode, ``[B]``.
        terminated: whether the episode has ended, so that the value is 0, ``[B]``.
        truncated: whether a time limit cut the episode off, with a value to come that is not 0, ``[B]``.
        memory: what a black box needs to be brought here again, one entry for each copy.
        copies: the numbers of the copies, if these are only some of them; None: all B.
    """

    state: Any
    t: Int[Tensor, " B"]
    terminated: Bool[Tensor, " B"]
    truncated: Bool[Tensor, " B"]
    memory: Any = None
    copies: Int[Tensor, " B"] | None = None

    @property
    def ended(self) -> Bool[Tensor, " B"]:
        """Terminated or truncated, ``[B]``."""
        return self.terminated | self.truncated


@runtime_checkable
class Simulator(Protocol):
    """B copies of a world. All randomness is the ambient generator's (see ``drawing``).

    Attributes:
        name: of the world, with what tells it from others.
        variables: the variables of what is observed and of the actions.
        batch: B.
        horizon: T, or None where only the world itself ends an episode.
        endless: whether nothing but a horizon ever ends an episode.
        absorbing: tells the states in which nobody acts any more, though the copy goes on to T, where s_T is paid for;
            None where there are none.
        terminal: the reward of s_T, paid within the last step; None where there is none.
        timed: whether the slices differ over time, so that all copies are at the same time.
        dtype: of features and prior: torch's default when the simulator was made.
        example: some state of each copy, from which shapes are read.
    """

    name: str
    variables: Variables
    batch: int
    horizon: int | None
    endless: bool
    absorbing: Callable[[Any], Tensor] | None
    terminal: Callable[[Any], Tensor] | None
    timed: bool
    dtype: torch.dtype

    @property
    def example(self) -> Any: ...  # noqa: D102

    def begin(self) -> EnvState:
        """Start an episode in every copy."""

    def step(self, env_state: EnvState, action: Values) -> tuple[EnvState, Float[Tensor, " B"]]:
        """Take an action in every copy of the state, all B or some (see ``selected``).

        Return where that leads, and the rewards. An ended copy stays, reward 0.
        """

    def restart(self, env_state: EnvState) -> EnvState:
        """Start a new episode in the copies that have ended (for a timed world once all have)."""

    def features(self, state: Any) -> Float[Tensor, "*B F"]:
        """Return what a network is fed."""

    def act(self, state: Any, t: Any) -> Any:
        """Sample from the action prior, at the world's own action sites."""

    def log_prior(self, state: Any, t: Any = 0) -> Float[Tensor, "*B A"]:
        """Return log p(a|s) of the numbered actions, nats."""

    def pack(self, env_state: EnvState) -> dict[str, Any]:
        """Return a state as tensors and numbers, to be kept in a file."""

    def unpack(self, packed: dict[str, Any]) -> EnvState:
        """Return the state that was packed."""


def clock(simulator: Simulator, env_state: EnvState) -> Int[Tensor, " B"]:
    """Return the time whose slice each copy is in, ``[B]``: no action follows the last state, whose prior is T-1's."""
    return env_state.t if simulator.horizon is None else env_state.t.clamp(max=min(simulator.horizon - 1, NEVER))


def cut(env_state: EnvState, max_steps: int | None) -> EnvState:
    """Return the state with the episodes truncated that have gone on for so many steps; None cuts none."""
    if max_steps is None:
        return env_state
    return replace(env_state, truncated=env_state.truncated | (~env_state.terminated & (env_state.t >= max_steps)))


def selected(env_state: EnvState, mask: Tensor) -> EnvState:
    """Return the state of the copies of a mask, ``[B]``, alone."""
    memory = None if env_state.memory is None else tuple(compress(env_state.memory, mask.tolist()))
    index = torch.from_numpy(np.flatnonzero(mask.numpy()))  # much faster than torch's
    flags = (env_state.t[index], env_state.terminated[index], env_state.truncated[index])
    copies = index if env_state.copies is None else env_state.copies[index]
    return EnvState(taken(env_state.state, index), *flags, memory, copies)


def taken(values: Any, index: Any) -> Any:
    """Return the entries of an index or a mask of the first axis, by variable."""
    return by_variable(lambda x: x[index], values)


def by_variable(function: Callable[..., Tensor], *values: Any) -> Any:
    """Apply a function to the tensors of each variable."""
    if isinstance(values[0], dict):
        return {name: function(*(value[name] for value in values)) for name in values[0]}
    return function(*values)


def but_last(states: Any) -> Any:
    """Return states s_0 … s_{T-1} of s_0 … s_T, by variable."""
    return taken(states, slice(-1))


@contextmanager
def drawing(random: Tensor) -> Iterator[None]:
    """Draw from a given state of torch's generator; ``torch.get_rng_state()`` inside gives the state to go on from."""
    with alone(), torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
        torch.set_rng_state(random)
        yield


def seeded(seed: int) -> Tensor:
    """Return the state of torch's generator that a seed stands for."""
    return torch.Generator().manual_seed(seed).get_state()


def where(mask: Tensor, new: Any, old: Any) -> Any:
    """Return a state that is ``new`` in the copies of the mask, ``[B]``, and ``old`` in the others."""
    return by_variable(lambda x, y: torch.where(mask.reshape(-1, *[1] * (y.dim() - 1)), x, y), new, old)
