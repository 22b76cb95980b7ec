"""Policies of independent parts, acting side by side."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.errors import Finding, IntractableError, fault
from cai.policies.action_probabilities import ActionProbabilities
from cai.policies.fixed import FixedPolicy
from cai.policies.protocol import sampled, scored
from cai.world.spaces import Space, Values

MANY = 1 << 16
"""Joint actions up to which they are listed."""


@dataclass(frozen=True)
class ProductPolicy:
    """Policies over separate variables, acting side by side."""

    actions: Space
    parts: tuple[FixedPolicy, ...]

    sample = sampled
    log_prob = scored

    def at(self, t: int, /, **state: int | str) -> ActionProbabilities:
        """Return what is done at time t in one state: the chances of the parts' actions, multiplied.

        Raises:
            WorldError: there is no such time, a variable is missing or unknown, or it has no such value.
            IntractableError: the joint actions are too many to be listed.
        """
        known = [name for part in self.parts for name in part.states.names]
        if self.actions.size > MANY:
            seen = f"{self.actions.size:,} joint actions"
            raise IntractableError([Finding("at", seen, f"at most {MANY:,}; ask the parts: policy.parts[0].at")])
        if set(state) != set(known):
            raise fault("at", f"variables {sorted(state)}", f"each of {known}")
        choices = [part.at(t, **{name: state[name] for name in part.states.names}) for part in self.parts]
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
