"""A policy in readable form: in one state, or in all states with the given values."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault, require_time
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.action_programs import finite_spaces
from cai.policies.policy_table import PolicyTable, table_of
from cai.policies.protocol import Tabulated
from cai.support.wording import listed
from cai.world.spaces import Space


@runtime_checkable
class NumberedPolicy(Tabulated, Protocol):
    """A policy with tables, and what their numbers mean."""

    @property
    def horizon(self) -> int | None:
        """The T that its times count towards, or None where it is the same at all times."""

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """The states and the actions; None where they are not finite."""


def in_state(policy: NumberedPolicy, t: int, /, **state: int | str) -> ActionProbabilities | PolicyTable:
    """Return the action probabilities at time t by name, ``policy.at(0, pump="worn", motor="ok")``.

    If some variables are left out, ``policy.at(0, pump="worn")``, it is a table of the states with these values; states
    with equal probabilities share a row. ``policy.at(0)`` is the whole policy of that time.

    Args:
        policy: the policy.
        t: the time; any for a policy that is the same at all times.
        state: variables of the state by name, their values by number or by name.

    Raises:
        WorldError: there is no such time or variable, or it has no such value; the message lists the variables and
            their values. Or the policy is a batch.
        IntractableError: states or actions are not finite, or too many for a table.
    """
    states, actions = finite_spaces(policy.spaces)
    if len(state) < len(states.names):
        return rows_in(policy, t, state)
    number = states.number(state, "at")
    return ActionProbabilities(t, states.label(number), actions, _probs(policy, t)[number])


def rows_in(policy: NumberedPolicy, t: int, state: Mapping[str, int | str]) -> PolicyTable:
    """Return what is done in all states that agree with what is given, as a table; of one row where all is given.

    Raises:
        WorldError, IntractableError: as ``in_state``.
    """
    states, actions = finite_spaces(policy.spaces)
    states.require_known(state, "at")
    return table_of(t, states, actions, _probs(policy, t), state)


def _probs(policy: NumberedPolicy, t: int) -> Float[Tensor, "S A"]:
    require_time("at, t", t, policy.horizon)
    with torch.no_grad():
        table = policy.log_probs(t)
    if table.dim() != 2:
        seen = f"a batch of shape {list(table.shape[:-2])}"
        raise fault("at", seen, "the policy of one entry: messages[i].policy")
    return table.exp()


def described(policy: NumberedPolicy) -> str:
    """Say what a policy is over and how to read it, for its ``repr``."""
    kind, spaces = type(policy).__name__, policy.spaces
    if spaces is None:
        return f"{kind} over states or actions that are not finite"
    states, actions = spaces
    when = "the same at all times" if policy.horizon is None else f"T = {policy.horizon}"
    over = f"{states.size:,} states of {listed(states.names)}, {actions.size:,} actions of {listed(actions.names)}"
    return f"{kind}({over}, {when}; read it with .at(t, {states.names[0]}=…))"
