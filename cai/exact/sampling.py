"""Trajectories out of messages: samples of the rule's own chain, and the most probable trajectory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.table_model import Trajectories
from cai.exact.operator import Conditionals, Pick

MANY = 1 << 24
"""Categories from which torch draws at most."""


def follow(conditionals: Callable[[int], Conditionals], s: Tensor, T: int, pick: Pick) -> Trajectories:
    """Follow a chain for T steps, ancestor by ancestor, from the states ``s [N]``."""
    alive = torch.ones(len(s), dtype=torch.bool, device=s.device)
    states, actions, rewards, living = [s], [], [], [alive]
    for t in range(T):
        chain = conditionals(t)
        a = chain.action(s, pick)
        following, reward = chain.outcome(s, a, pick)
        rewards.append(torch.where(alive, reward, 0.0))
        s = torch.where(alive.reshape(-1, *(1,) * (s.dim() - 1)), following, s)
        alive = alive & chain.survives(s, pick)
        states.append(s)
        actions.append(a)
        living.append(alive)
    return Trajectories(*(torch.stack(part, 1) for part in (states, actions, rewards, living)))


class Likeliest:
    """Picks what is likeliest; of numbers that tie the lowest, and no noise."""

    def __call__(self, log_weights: Tensor) -> Tensor:
        """Return the first entry of positive weight in each row."""
        return (log_weights > -torch.inf).byte().argmax(-1)

    def several(self, log_weights: Tensor, n: int) -> Tensor:
        """Return the same entry n times."""
        return self(log_weights).expand(n)

    def normal(self, like: Tensor, k: int) -> Tensor:
        """Return zeros."""
        return like.new_zeros(len(like), k)


@dataclass(frozen=True)
class Drawing:
    """Draws, from a generator; torch's global one unless given."""

    generator: torch.Generator | None = None

    def __call__(self, log_weights: Tensor) -> Tensor:
        """Return a draw from each row."""
        return draws(log_weights, 1, self.generator)

    def several(self, log_weights: Tensor, n: int) -> Tensor:
        """Return n draws."""
        return draws(log_weights.unsqueeze(0), n, self.generator)

    def normal(self, like: Tensor, k: int) -> Tensor:
        """Return standard normal noise."""
        return torch.randn(len(like), k, dtype=like.dtype, device=like.device, generator=self.generator)


def draws(log_weights: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n numbers from each row of log-weights ``[R, N]``, ``[R n]``."""
    top = log_weights.amax(-1, keepdim=True)  # -inf only after death, where any value may be drawn
    weights = torch.where(top == -torch.inf, 1.0, (log_weights - top).exp())
    if weights.shape[-1] < MANY:
        return torch.multinomial(weights, n, replacement=True, generator=generator).reshape(-1)
    below = weights.cumsum(-1)
    u = torch.rand(len(below), n, generator=generator, dtype=below.dtype) * below[:, -1:]
    return torch.searchsorted(below, u, right=True).clamp(max=below.shape[-1] - 1).reshape(-1)
