"""The copies of a roll-out that go on: by what is seen of them, or by the numbers of states where all is looked up."""

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cai.simulate.acting import ByTable, Choose
from cai.simulate.outcomes import Array, Outcomes
from cai.simulate.simulator import EnvState, Simulator, by_variable, selected, taken
from cai.simulate.worlds import WorldSimulator

Step = tuple[Tensor, Any, Any, Tensor]
"""A step of the copies that went on: their numbers among all B, where they were, what they did, and what it paid."""


@runtime_checkable
class Walk(Protocol):
    """The copies of a roll-out that go on; a state or an action is whatever ``step`` gives."""

    def __len__(self) -> int:
        """Return how many go on."""

    def step(self, t: int) -> Step:
        """Take step t in all that go on."""

    def ends(self) -> tuple[Any, Bool[Tensor, " B"]]:
        """Return where each of all copies came to, and whether the world ended its episode."""

    def named(self, states: Any, actions: Any) -> tuple[Any, Any]:
        """Return states and actions, of any shape, by variable."""


class Seen:
    """Copies of any simulator, whose actions are chosen by what is seen of them."""

    def __init__(self, simulator: Simulator, choose: Choose, begun: EnvState) -> None:
        self.simulator, self.choose, self.ended = simulator, choose, list[EnvState]()
        self.going = self._left(replace(begun, copies=torch.arange(len(begun.t))))

    def __len__(self) -> int:
        return len(self.going.t)

    def step(self, t: int) -> Step:
        """Choose, and let the simulator step."""
        before = self.going
        action = self.choose(before, t)
        after, reward = self.simulator.step(before, action)
        self.going = self._left(after)
        assert before.copies is not None
        return before.copies, before.state, action, reward

    def ends(self) -> tuple[Any, Tensor]:
        """Put together those that ended at one time after the other, and those that go on."""
        parts = [*self.ended, self.going]
        order = torch.cat([part.copies for part in parts if part.copies is not None]).argsort()
        state = by_variable(lambda *x: torch.cat(x), *(part.state for part in parts))
        return taken(state, order), torch.cat([part.terminated for part in parts])[order]

    def named(self, states: Any, actions: Any) -> tuple[Any, Any]:
        """Return them as they are."""
        return states, actions

    def _left(self, env_state: EnvState) -> EnvState:
        over = env_state.ended
        if not bool(over.any()):
            return env_state
        self.ended.append(selected(env_state, over))
        return selected(env_state, ~over)


class Numbered:
    """Copies of a world with look-up tables under a policy with tables: nothing but numbers until the roll-out is over.

    It draws the same random numbers as ``Seen``, and comes to the same roll-out.
    """

    def __init__(self, simulator: WorldSimulator, outcomes: Outcomes, policy: ByTable, begun: EnvState) -> None:
        self.simulator, self.outcomes, self.policy = simulator, outcomes, policy
        self.states, self.actions = outcomes.tables.states, outcomes.tables.actions
        self.last = self.states.join(self.states.unpack(begun.state)).numpy()
        self.copies = np.flatnonzero(~outcomes.over[self.last])

    def __len__(self) -> int:
        return len(self.copies)

    def step(self, t: int) -> Step:
        """Look up actions and outcomes."""
        copies, state = self.copies, self.last[self.copies]
        u = torch.rand(2, len(copies), dtype=torch.float64).numpy()
        action = self.policy.numbers(state, t, u[0])
        after, reward = self.outcomes.step(state, action, t, u[1])
        self.last[copies] = after
        over = self.outcomes.over[after]
        if over.any():
            self.copies = copies[~over]
        return torch.from_numpy(copies), torch.from_numpy(state), torch.from_numpy(action), self._paid(reward, after, t)

    def ends(self) -> tuple[Any, Tensor]:
        """Return the last number of each copy."""
        return torch.from_numpy(self.last), torch.from_numpy(self.outcomes.over[self.last])

    def named(self, states: Any, actions: Any) -> tuple[Any, Any]:
        """Return what the numbers stand for."""
        return self.states.pack(self.states.split(states)), self.actions.pack(self.actions.split(actions))

    def _paid(self, reward: Array, after: Array, t: int) -> Tensor:
        """Return the rewards of step t as the simulator pays them."""
        simulator, paid = self.simulator, torch.from_numpy(reward).to(self.simulator.dtype)
        if simulator.terminal is None:
            return paid
        state = self.states.pack(self.states.split(torch.from_numpy(after)))
        return simulator.with_terminal(paid, state, torch.tensor(t + 1))


def walk_of(simulator: Simulator, choose: Choose, begun: EnvState) -> Walk:
    """Return the copies of a state: by number where all is looked up, and all are at time 0."""
    if isinstance(simulator, WorldSimulator) and isinstance(choose, ByTable) and not bool(begun.t.any()):
        outcomes = simulator.outcomes
        if outcomes is not None and choose.numbers_like(outcomes.tables):
            return Numbered(simulator, outcomes, choose, begun)
    return Seen(simulator, choose, begun)
