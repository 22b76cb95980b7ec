"""How a policy acts in the copies of a roll-out that go on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.policies.fixed import FixedPolicy
from cai.policies.protocol import FinitePolicy
from cai.policies.tabular import TabularPolicy
from cai.simulate.outcomes import Array, shares
from cai.simulate.simulator import EnvState, Simulator, by_variable, taken
from cai.simulate.worlds import Many, WorldSimulator
from cai.world.spaces import Space, Values

Choose = Callable[[EnvState, int], Values]
"""How actions are chosen: for the copies of a state, at a time."""


def chooser_of(simulator: Simulator, actor: Any) -> Choose:
    """Return how a policy, or the action prior, acts in the copies that go on."""
    if actor is None and isinstance(simulator, WorldSimulator) and simulator.outcomes is not None:
        tables = simulator.outcomes.tables
        return ByTable(tables.states, tables.actions, tables.log_prior_at)
    if isinstance(actor, FixedPolicy | TabularPolicy):
        return ByTable(actor.states, actor.actions, actor.log_probs)

    def drawn(env_state: EnvState, t: int) -> Values:
        if actor is None or hasattr(actor, "act"):
            return batch_action(simulator if actor is None else actor, len(env_state.t), env_state.state, t)
        action: Values = actor.sample(env_state.state, t)
        return action

    return drawn if actor is None or isinstance(actor, FinitePolicy) else Everywhere(simulator, drawn)


class ByTable:
    """Draws from tables of log π_t(a|s), nats, ``[S, A]``."""

    def __init__(self, states: Space, actions: Space, log_pi: Callable[[int], Tensor]) -> None:
        self.states, self.actions, self.log_pi = states, actions, log_pi
        self.table: Tensor | None = None

    def __call__(self, env_state: EnvState, t: int) -> Values:
        """Return an action for every copy of ``env_state``."""
        s = self.states.join(self.states.unpack(env_state.state)).numpy()
        u = torch.rand(len(s), dtype=torch.float64).numpy()
        return self.actions.pack(self.actions.split(torch.from_numpy(self.numbers(s, t, u))))

    def numbers(self, state: Array, t: int, u: Array) -> Array:
        """Return the numbers of actions in states by number, each picked by its uniform number u; ``[N]`` all."""
        table = self.log_pi(t)
        if table.dim() != 2:
            expected = "the policy of one entry: messages[i].policy"
            raise fault("rollout, policy", f"a batch of shape {list(table.shape[:-2])}", expected)
        if len(state) < len(table):  # no more rows than are needed
            rows, state = shares(table[torch.from_numpy(state)]), np.arange(len(state))
        else:
            if table is not self.table:
                self.table, self.shares = table, shares(table)
            rows = self.shares
        return rows.place(state, u) & (rows.width - 1)

    def numbers_like(self, tables: Tables) -> bool:
        """Return whether states and actions have the numbers that they have in a world's tables."""
        return self.states.numbers_like(tables.states) and self.actions.numbers_like(tables.actions)


class Everywhere:
    """Lets a policy act in all B copies, since it may remember each.

    Ended copies are seen as they last acted, and those that began ended in some first state.
    """

    def __init__(self, simulator: Simulator, draw: Choose) -> None:
        self.simulator, self.draw = simulator, draw
        self.seen: EnvState | None = None

    def __call__(self, env_state: EnvState, t: int) -> Values:
        """Return the actions of the copies of ``env_state``."""
        copies, B = env_state.copies, self.simulator.batch
        if copies is None or len(copies) == B:
            self.seen = env_state
            return self.draw(env_state, t)
        before = self.seen or _unended(self.simulator.example, B)
        state = by_variable(lambda old, new: old.index_copy(0, copies, new), before.state, env_state.state)
        self.seen = replace(before, state=state)
        action: Values = taken(self.draw(self.seen, t), copies)
        return action


def _unended(state: Any, batch: int) -> EnvState:
    never = torch.zeros(batch, dtype=torch.bool)
    return EnvState(state, torch.zeros(batch, dtype=torch.long), never, never)


def prior_action(simulator: Simulator, state: Any, t: int) -> Values:
    """Draw from the action prior in every copy."""
    return batch_action(simulator, simulator.variables.batch_of(state).numel(), state, t)


def batch_action(actor: Any, batch: int, state: Any, t: int) -> Values:
    """Draw an action for every copy, also where the actor's distribution is one for all."""
    with pyro.poutine.block(), Many(batch):
        action: Values = actor.act(state, t)
    return action
