"""A policy at t = 0 as rows, one for each group of states with equal probabilities, the start first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from cai.exact.messages import Messages
from cai.partial.belief_messages import BeliefMessages
from cai.partial.gaussian_messages import GaussianBeliefMessages
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.gaussian_action import GaussianAction
from cai.policies.policy_table import PolicyTable, in_words
from cai.policies.switching_policy import SwitchingPolicy
from cai.view.real_readings import is_real
from cai.view.terminal import print_table

AnyMessages: TypeAlias = Messages | BeliefMessages | GaussianBeliefMessages
"""What is solved, seen whole or in part."""
ROWS = 20
"""The most rows of a table."""


@dataclass(frozen=True)
class PolicyRows:
    """What is done at t = 0, a row for each kind of state.

    Attributes:
        rows: of each kind p(s_0), its values in words, and the chances of the actions.
        states: how many kinds there are; of these ``ROWS`` at most are among the rows.
        unread: state variables that the policy does not depend on.
        what: what a row is about: "state", or "first seen" of a world seen in part.
    """

    rows: tuple[tuple[float, str, ActionProbabilities], ...]
    states: int
    unread: tuple[str, ...] = ()
    what: str = "state"

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; actions of probability 0 are left out."""
        rows = [{self.what: name, "start": p, "actions": pi.likeliest(len(pi))} for p, name, pi in self.rows]
        return {"t": 0, "rows": rows, "states": self.states, **({"unread": list(self.unread)} if self.unread else {})}


@dataclass(frozen=True)
class InMode:
    """What is done at t = 0 in one mode of a mixed world: an affine-Gaussian action."""

    mode: str
    action: GaussianAction

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {"mode": self.mode, **self.action.plain()}


def policy_rows(messages: AnyMessages, most: int = ROWS) -> Iterator[PolicyRows | GaussianAction | InMode]:
    """Yield the policy at t = 0, of each part where the world falls apart; the likeliest start states come first.

    Of real states it is one affine-Gaussian policy, of a mixed world one in each mode; of real states seen in part it
    acts on the estimates.

    Raises:
        IntractableError: in a mode the policy is a mixture, as POSTERIOR's.
    """
    if isinstance(messages, BeliefMessages):
        first = messages.first()
        yield PolicyRows(tuple((p, pi.state, pi) for p, pi in first[:most]), len(first), what="first seen")
        return
    if isinstance(messages, GaussianBeliefMessages):
        messages = messages.messages
    if is_real(messages):
        yield messages.policy.at(0)
        return
    policy = messages.policy
    if isinstance(policy, SwitchingPolicy):
        modes = policy.states.modes
        for i in range(modes.size):
            mode = {name: int(value) for name, value in modes.split(torch.tensor(i)).items()}
            yield InMode(modes.label(i), policy.at(0, **mode))
        return
    for part in messages.parts:
        start, table = part.operator.initial(), part.policy.at(0)
        assert isinstance(table, PolicyTable)  # nothing is given, and a state has a variable
        share = start.new_zeros(len(table)).index_add(0, table.row_of, start)
        shown = share.argsort(descending=True, stable=True)[:most].tolist()
        rows = tuple((float(share[n]), _kind(table, n), table[n]) for n in shown)
        yield PolicyRows(rows, len(table), table.unread)


def print_policy(title: str, messages: AnyMessages) -> None:
    """Print the policy at t = 0, a table for each part of the world."""
    seen = isinstance(messages, BeliefMessages)
    for table in policy_rows(messages):
        if isinstance(table, InMode):
            _print_action(f"{title}, t = 0, {table.mode}", table.action)
            continue
        if isinstance(table, GaussianAction):
            _print_action(f"{title}, t = 0", table)
            continue
        lines = [[name, p, in_words(pi)] for p, name, pi in table.rows]
        print_table(title, (table.what, "p(o_0)" if seen else "p(s_0)", "does at t = 0, with probability"), lines)
        if table.unread:
            print(f"the policy does not depend on {', '.join(table.unread)}")
        if len(lines) < table.states:
            kinds = "kinds of states" if table.unread else "states"
            shown = f"{len(lines)} of {table.states:,} {kinds}, the start first"
            print(f"{shown}; any other: cai.solve(…).policy.at(t, …)\n")


def _print_action(title: str, action: GaussianAction) -> None:
    heads, *rows = action.table
    print_table(title, heads, rows)
    for note in action.notes:
        print(note)


def _kind(table: PolicyTable, row: int) -> str:
    """Name a row: its values, or its state where the one variable says no more than that it is the state."""
    if len(table.variables) == 1 and not table.unread and not table.given:
        return str(table[row].state)
    return ", ".join(f"{name}={value}" for name, value in zip(table.variables, table.values[row], strict=True)) or "any"
