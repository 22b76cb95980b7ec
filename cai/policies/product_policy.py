"""Policies of independent parts, acting side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product

import torch
from torch import Tensor

from cai.errors import Finding, IntractableError, fault
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.fixed import FixedPolicy
from cai.policies.policy_table import PolicyTable
from cai.policies.protocol import sampled, scored
from cai.policies.readable import rows_in
from cai.support.wording import meant
from cai.world.spaces import Space, Values

MANY = 1 << 16
"""Joint actions up to which they are listed."""


@dataclass(frozen=True, repr=False)
class ProductPolicy:
    """Policies over separate variables, acting side by side."""

    actions: Space
    parts: tuple[FixedPolicy, ...]

    sample = sampled
    log_prob = scored

    def __repr__(self) -> str:
        sizes = " + ".join(f"{part.states.size:,}" for part in self.parts)
        return (
            f"ProductPolicy({len(self.parts)} parts of {sizes} states side by side; read it with .at(t, …), or .parts)"
        )

    def at(self, t: int, /, **state: int | str) -> ActionProbabilities | PolicyTable:
        """Return the action probabilities at time t, the product over the parts; see ``FixedPolicy.at``.

        Raises:
            WorldError: there is no such time or variable, or it has no such value.
            IntractableError: the joint actions, or the rows of a table, are too many to be listed.
        """
        known = [name for part in self.parts for name in part.states.names]
        unknown = [name for name in state if name not in known]
        if unknown:
            expected = f"some of {', '.join(part.states.in_words for part in self.parts)}{meant(unknown[0], known)}"
            raise fault("at", f"no variable '{unknown[0]}'", expected)
        if self.actions.size > MANY:
            seen = f"{self.actions.size:,} joint actions"
            raise IntractableError([Finding("at", seen, f"at most {MANY:,}; ask the parts: policy.parts[0].at")])
        given = [{name: state[name] for name in part.states.names if name in state} for part in self.parts]
        tables = [rows_in(part, t, own) for part, own in zip(self.parts, given, strict=True)]
        if len(state) == len(known):
            return self._joint(t, [table[0] for table in tables])
        if math.prod(map(len, tables)) * self.actions.size > MANY:
            seen = f"{math.prod(map(len, tables)):,} rows of {self.actions.size:,} joint actions"
            raise IntractableError([Finding("at", seen, "fewer: give more variables, or ask policy.parts[0].at")])
        values = tuple(sum(row, ()) for row in product(*(table.values for table in tables)))
        rows = tuple(self._joint(t, row) for row in product(*(table.rows for table in tables)))
        words = {name: value for table in tables for name, value in table.given.items()}
        columns, unread = (
            tuple(chain(*(getattr(table, what) for table in tables))) for what in ("variables", "unread")
        )
        return PolicyTable(t, words, columns, values, rows, unread)

    def _joint(self, t: int, choices: Sequence[ActionProbabilities]) -> ActionProbabilities:
        values = self.actions.split(torch.arange(self.actions.size))
        each = [choice.probs[choice.actions.join(values)].expand(self.actions.size) for choice in choices]
        probs = torch.stack(each).prod(0)
        return ActionProbabilities(t, ", ".join(choice.state for choice in choices), self.actions, probs)

    def act(self, state: Values, t: int) -> Values:
        """Sample the action variables, part by part."""
        chosen: dict[str, Tensor] = {}
        first = {part: self.actions.names.index(part.actions.names[0]) for part in self.parts if part.actions.names}
        for part in sorted(first, key=lambda part: first[part]):  # in the world's own order, as far as parts allow
            own = {name: value for name, value in state.items() if name in part.states.names}  # type: ignore[union-attr]
            chosen |= part.act(own, t)
        return self.actions.pack({name: chosen[name] for name in self.actions.names})
