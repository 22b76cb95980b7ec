"""The steps of the copies of a world in an environment: by look-up if the world has tables, else by its program.

One copy or many: ``*B`` is no dimension, or the number of copies. All randomness is Gymnasium's generator.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyro
import torch
from torch import Tensor

from cai.bridges.encoding import Encoding, allowed_values
from cai.errors import fault, user_code
from cai.policies.action_programs import enumerated_at
from cai.simulate.outcomes import Array, Outcomes, flags, outcomes_of
from cai.simulate.simulator import where
from cai.simulate.worlds import Many
from cai.support.process import precision
from cai.world.spaces import Values


@runtime_checkable
class Dynamics(Protocol):
    """What an environment asks of a world. A state is whatever ``start`` and ``step`` give.

    Attributes:
        horizon, discount: T and γ.
    """

    horizon: int | None
    discount: float

    def start(self, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        """Draw s_0 of copies of a shape, ``()`` or ``(N,)``."""

    def step(self, state: Any, action: Array, t: Array, rng: np.random.Generator) -> tuple[Any, Array]:
        """Draw the slice of time t, of actions of the learner's space; return the next state and the reward."""

    def terminal(self, state: Any) -> Array:
        """Return r_T(s_T), reward units; 0 where the world has none."""

    def ended(self, state: Any) -> Array:
        """Return where an episode may stop before T, at no loss of reward."""

    def observe(self, state: Any) -> Array:
        """Return what a learner sees."""

    def masks(self, state: Any, t: Array) -> Array:
        """Return which values of each action variable the prior allows, one variable after the other, ``[*B, M]``."""

    def values(self, state: Any) -> Values:
        """Return a state as the world's program sees it."""

    def renewed(self, mask: Array, new: Any, old: Any) -> Any:
        """Return the states with those of a mask, ``[N]``, taken from ``new``."""


class LookedUp:
    """Dynamics by the outcomes of tables; a state is its number."""

    def __init__(self, encoding: Encoding, outcomes: Outcomes) -> None:
        self.outcomes, tables = outcomes, outcomes.tables
        self.horizon, self.discount = tables.horizon, tables.discount
        self.states, actions = tables.states, tables.actions
        self.strides = np.array([int(np.prod(actions.sizes[i + 1 :])) for i in range(len(actions.sizes))])
        self.several = len(actions.sizes) > 1
        self.allowed = allowed_values(tables.log_prior > -torch.inf, actions).reshape(-1, sum(actions.sizes)).numpy()
        with precision(torch.float64):
            self.seen = encoding.observe(self.states.pack(self.states.split(torch.arange(self.states.size)))).numpy()

    def start(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw numbers of states."""
        return self.outcomes.start(rng.random(shape))

    def step(self, state: Array, action: Array, t: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Look the outcome up."""
        number = action @ self.strides if self.several else action
        return self.outcomes.step(state, number, t, rng.random(np.shape(t)))

    def terminal(self, state: Array) -> Array:
        """Look the terminal reward up."""
        return self.outcomes.last[state]

    def ended(self, state: Array) -> Array:
        """Look up where an episode may stop."""
        return self.outcomes.over[state]

    def observe(self, state: Array) -> Array:
        """Look up what is seen."""
        return self.seen[state]

    def masks(self, state: Array, t: Array) -> Array:
        """Look up what is allowed."""
        return self.allowed[self.outcomes.row(state, t)]

    def values(self, state: Array) -> Values:
        """Return the variables of a number."""
        return self.states.pack(self.states.split(torch.as_tensor(state)))

    def renewed(self, mask: Array, new: Array, old: Array) -> Array:
        """Choose by the mask."""
        return np.where(mask, new, old)


class Programmed:
    """Dynamics by the world's own program, every site drawn once for each copy; a state is what the program sees."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding, self.spec, self.world = encoding, encoding.spec, encoding.spec.world
        self.horizon, self.discount, self.timed = self.spec.horizon, self.spec.discount, self.spec.timed

    def start(self, shape: tuple[int, ...], rng: np.random.Generator) -> Values:
        """Run ``initial``."""
        state: Values = _run("initial", shape, rng, self.world.initial)
        return state

    def step(self, state: Values, action: Array, t: Array, rng: np.random.Generator) -> tuple[Values, Array]:
        """Run ``step``; where slices differ over time, once for each time at which some copy is."""
        taken, shape = self.encoding.decode(action), np.shape(t)
        if not shape or not self.timed:
            return self._slice(state, taken, int(t) if not shape else 0, shape, rng)
        after, paid = state, np.zeros(shape)
        for time in np.unique(t):
            following, reward = self._slice(state, taken, int(time), shape, rng)
            after, paid = self.renewed(t == time, following, after), np.where(t == time, reward, paid)
        return after, paid

    def terminal(self, state: Values) -> Array:
        """Run ``terminal``, if the world has one."""
        if self.spec.terminal is None:
            return np.zeros(())
        with precision(torch.float64), torch.no_grad(), user_code("terminal", "code that runs"):
            return torch.as_tensor(self.spec.terminal(state)).numpy()

    def ended(self, state: Values) -> Array:
        """Run ``terminated``, if the world has one that may stop an episode."""
        seen = self.observe(state)
        space = self.encoding.observation_space
        with precision(torch.float64), torch.no_grad():
            return flags(self.spec, state, np.shape(seen)[: np.ndim(seen) - len(space.shape)])

    def observe(self, state: Values) -> Array:
        """Encode the state."""
        with precision(torch.float64), torch.no_grad():
            return self.encoding.observe(state).numpy().copy()

    def masks(self, state: Values, t: Array) -> Array:
        """Read the support of the prior off the program; every copy's own time where slices differ."""
        actions = self.spec.variables.action_space
        assert actions is not None
        shape = np.shape(t)
        n = shape[0] if shape else 1
        batch = state if shape else _map(lambda value: value.unsqueeze(0), state)
        times = np.unique(t) if self.timed else np.zeros(1, int)
        mask = np.zeros((n, sum(actions.sizes)), bool)
        for time in times:
            log_prior = enumerated_at(self.world.act, batch, n, actions, int(time), torch.float64)
            allowed = allowed_values(log_prior > -torch.inf, actions).numpy()
            mask = np.where(np.reshape(t == time, (-1, 1)) | (not self.timed), allowed, mask)
        return mask if shape else mask[0]

    def values(self, state: Values) -> Values:
        """Return it as it is."""
        return state

    def renewed(self, mask: Array, new: Values, old: Values) -> Values:
        """Choose by the mask."""
        chosen: Values = where(torch.as_tensor(mask), new, old)
        return chosen

    def _slice(
        self, state: Values, action: Values, t: int, shape: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Values, Array]:
        after, reward = _run(f"step, t = {t}", shape, rng, self.world.step, state, action, t)
        return after, torch.as_tensor(reward, dtype=torch.float64).expand(shape).numpy()


def dynamics_of(encoding: Encoding) -> Dynamics:
    """Return the look-up in tables where they are of modest size, else the program."""
    outcomes = outcomes_of(encoding.spec)
    return Programmed(encoding) if outcomes is None else LookedUp(encoding, outcomes)


def advance(
    dynamics: Dynamics, state: Any, action: Array, t: Array, rng: np.random.Generator, going: Array = True
) -> tuple[Any, Array, Array, Array]:
    """Take one step; return the next state, the reward, and whether the episode terminated or was truncated.

    The reward of s_T comes with step T, times γ. Only the copies of ``going`` are looked at.

    Raises:
        WorldError: a reward is not finite, so that no learner could average it.
    """
    after, reward = dynamics.step(state, action, t, rng)
    last = np.equal(t + 1, dynamics.horizon or 0)
    if last.any():
        reward = reward + np.where(last, dynamics.discount * dynamics.terminal(after), 0.0)
    wrong = ~np.isfinite(reward) & going
    if wrong.any():
        _refuse(wrong, reward, action, t)
    terminated = dynamics.ended(after)
    return after, reward, terminated, last & ~terminated


def _refuse(wrong: Array, reward: Array, action: Array, t: Array) -> None:
    """Raise for the first reward that is not finite."""
    n = int(np.argmax(wrong))
    taken = np.reshape(action, (np.size(reward), -1))[n].tolist()
    place = f"step, t = {np.reshape(t, -1)[n]}, action {taken[0] if len(taken) == 1 else taken}"
    expected = "a finite reward, which a learner can average: write what is forbidden as a large loss"
    raise fault(place, f"reward {np.reshape(reward, -1)[n]:g}", expected)


def _run(place: str, shape: tuple[int, ...], rng: np.random.Generator, piece: Callable[..., Any], *args: Any) -> Any:
    """Run a piece of the world, its random numbers drawn from Gymnasium's generator alone."""
    seed = int(rng.integers(2**63))
    with precision(torch.float64), torch.random.fork_rng(devices=[]), torch.no_grad(), pyro.poutine.block():
        torch.default_generator.manual_seed(seed)
        with user_code(place, "code that runs"):
            if not shape:
                return piece(*args)
            with Many(*shape):
                return piece(*args)


def _map(function: Callable[[Tensor], Tensor], values: Values) -> Values:
    return {name: function(value) for name, value in values.items()} if isinstance(values, dict) else function(values)
