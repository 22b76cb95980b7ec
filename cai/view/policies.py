"""The policy that a solve found, as rows: what is done at t = 0, in the start states first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cai.exact.messages import Messages
from cai.policies.action_probabilities import ActionProbabilities
from cai.view.terminal import print_table

ROWS = 20
"""The most states of a table."""


@dataclass(frozen=True)
class PolicyRows:
    """What is done at t = 0: in each state p(s_0) and the chances of the actions, and how many states are left out."""

    rows: tuple[tuple[float, ActionProbabilities], ...]
    states: int

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; actions of probability 0 are left out."""
        rows = [{"state": pi.state, "start": p, "actions": pi.likeliest(len(pi))} for p, pi in self.rows]
        return {"t": 0, "rows": rows, "states": self.states}


def policy_rows(messages: Messages, most: int = ROWS) -> Iterator[PolicyRows]:
    """Yield the policy at t = 0, of each part where the world falls apart; the likeliest start states come first."""
    for part in messages.parts:
        start, probs = part.operator.initial(), part.policy.probs(0)
        states, actions = part.model.states, part.model.actions
        shown = start.argsort(descending=True, stable=True)[:most].tolist()
        rows = tuple((float(start[s]), ActionProbabilities(0, states.label(s), actions, probs[s])) for s in shown)
        yield PolicyRows(rows, states.size)


def print_policy(title: str, messages: Messages) -> None:
    """Print the policy at t = 0, a table for each part of the world."""
    for table in policy_rows(messages):
        lines = [[pi.state, p, _does(pi)] for p, pi in table.rows]
        print_table(title, ("state", "p(s_0)", "does at t = 0"), lines)
        if len(lines) < table.states:
            shown = f"{len(lines)} of {table.states:,} states, the start first"
            print(f"{shown}; any other: cai.solve(…).policy.at(t, …)\n")


def _does(pi: ActionProbabilities) -> str:
    shown = pi.likeliest(4)
    left = int((pi.probs > 0).sum()) - len(shown)
    return "; ".join(f"{name} {p:.3g}" for name, p in shown.items()) + ("; …" if left > 0 else "")
