"""What a policy does in one state at one time, by name, as a small table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.policies.action_programs import finite_spaces
from cai.policies.protocol import Tabulated
from cai.support.wording import meant
from cai.world.spaces import Space

SHOWN = 12
"""The most actions that a table lists, the likeliest first."""


@dataclass(frozen=True, repr=False, eq=False)
class ActionProbabilities(Mapping[str, float]):
    """How likely each action is in one state at one time: the names of the actions and their probabilities.

    A mapping, ``chances["lift=up, push=no"]``, with the actions in the order of their numbers; as ``str`` a table, the
    likeliest action first.

    Attributes:
        t: the time.
        state: the state in words.
        actions: what the numbers of the actions mean.
        probs: π_t(a|s), ``[A]``.
    """

    t: int
    state: str
    actions: Space
    probs: Float[Tensor, " A"]

    def __getitem__(self, action: str) -> float:
        for number, name in enumerate(self):
            if name == action:
                return float(self.probs[number])
        raise KeyError(action)

    def __iter__(self) -> Iterator[str]:
        return (self.actions.label(number) for number in range(len(self.probs)))

    def __len__(self) -> int:
        return len(self.probs)

    def of(self, variable: str) -> dict[str, float]:
        """Return how likely each value of one action variable is, by its name, the others summed out.

        Raises:
            WorldError: there is no such action variable.
        """
        known = self.actions.names
        if variable not in known:
            raise fault("of, variable", f"'{variable}'", f"one of {', '.join(known)}{meant(variable, known)}")
        which = self.actions.split(torch.arange(len(self)))[variable].long()
        size = self.actions.sizes[self.actions.names.index(variable)]
        total = self.probs.new_zeros(size).index_add(0, which, self.probs)
        return {self.actions.value_label(variable, n) or str(n): float(p) for n, p in enumerate(total)}

    def likeliest(self, n: int = SHOWN) -> dict[str, float]:
        """Return the n likeliest actions and their probabilities, those of probability 0 left out."""
        first = self.probs.argsort(descending=True, stable=True)[:n].tolist()
        return {self.actions.label(a): float(self.probs[a]) for a in first if self.probs[a] > 0}

    def __str__(self) -> str:
        shown = self.likeliest()
        wide = max(map(len, shown), default=0)
        lines = [f"t = {self.t}, {self.state}", *(f"  {name.ljust(wide)}  {p:.4g}" for name, p in shown.items())]
        more = int((self.probs > 0).sum()) - len(shown)
        rest = max(0.0, 1 - sum(shown.values()))
        return "\n".join([*lines, *([f"  and {more:,} more, {rest:.2g} together"] if more else [])])

    __repr__ = __str__


@runtime_checkable
class NumberedPolicy(Tabulated, Protocol):
    """A policy with tables, and what their numbers mean."""

    @property
    def horizon(self) -> int | None:
        """The T that its times count towards, or None where it is the same at all times."""

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """The states and the actions; None where they are not finite."""


def in_state(policy: NumberedPolicy, t: int, /, **state: int | str) -> ActionProbabilities:
    """Return what is done at time t in one state, ``policy.at(0, pump="worn")``: action names and probabilities.

    Args:
        policy: the policy.
        t: the time; any for a policy that is the same at all times.
        state: every variable of the state by its name, its value by number or by name.

    Raises:
        WorldError: there is no such time, a variable is missing or unknown, or it has no such value; the message
            lists the variables and their values. Or the policy is a batch.
        IntractableError: states or actions are not finite, or too many for a table.
    """
    states, actions = finite_spaces(policy.spaces)
    horizon = policy.horizon
    if horizon is not None and not 0 <= t < horizon:
        raise fault("at, t", f"{t}", f"a time from 0 to {horizon - 1}")
    number = states.number(state, "at")
    with torch.no_grad():
        table = policy.log_probs(t)
    if table.dim() != 2:
        seen = f"a batch of shape {list(table.shape[:-2])}"
        raise fault("at", seen, "the policy of one entry: messages[i].policy")
    return ActionProbabilities(t, states.label(number), actions, table[number].exp())
