"""One step of independent parts, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.exact.operator import Conditionals, Pick

Parts = tuple[Tensor, ...]
"""A tensor for each part."""


@dataclass(frozen=True)
class ProductConditionals:
    """The parts' own chains side by side; states and actions are numbered jointly.

    Attributes:
        model: the whole world.
        models: the world of each part.
        parts: the chain of each part.
    """

    model: Factors
    models: tuple[Factors, ...]
    parts: tuple[Conditionals, ...]

    @property
    def log_policy(self) -> Parts:
        """log π_t(a|s) of each part, nats."""
        return tuple(part.log_policy for part in self.parts)

    def push(self, mu: Parts) -> Parts:
        """Return p(s_{t+1}, alive) of each part."""
        return tuple(part.push(own) for part, own in zip(self.parts, mu, strict=True))

    def action(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick actions in states ``s [N]``, part by part."""
        values: dict[str, Tensor] = {}
        for model, part, own in zip(self.models, self.parts, self._split(s), strict=True):
            values |= model.actions.split(part.action(own, pick))
        return self.model.actions.join(values)

    def outcome(self, s: Tensor, a: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Pick what follows, part by part: the next states, and the sum of the rewards, reward units."""
        actions = self.model.actions.split(a)
        ahead, rewards = [], []
        for model, part, own in zip(self.models, self.parts, self._split(s), strict=True):
            chosen = model.actions.join(actions).expand(own.shape)  # a part may have no action
            following, reward = part.outcome(own, chosen, pick)
            ahead.append(following)
            rewards.append(reward)
        return joined(self.model, self.models, ahead), torch.stack(rewards).sum(0)

    def survives(self, s: Tensor, pick: Pick) -> Tensor:
        """Sample whether all parts go on: with a discount they end together, whatever the state."""
        if self.model.discount == 1:
            return torch.ones_like(s, dtype=torch.bool)
        return pick(self.model.log_survival.expand(len(s), 2)) == 0

    def _split(self, s: Tensor) -> list[Tensor]:
        values = self.model.states.split(s)
        return [model.states.join(values) for model in self.models]


def joined(model: Factors, models: Sequence[Factors], numbers: Sequence[Tensor]) -> Tensor:
    """Return the numbers of joint states from those of the parts."""
    values: dict[str, Tensor] = {}
    for part, number in zip(models, numbers, strict=True):
        values |= part.states.split(number)
    return model.states.join(values)
