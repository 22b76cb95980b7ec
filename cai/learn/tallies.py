"""Tallies: transitions counted by (s, a, s'), with what they paid; on tables the mean target needs no more of them."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cai.simulate.rollout import Rollout
from cai.simulate.simulator import Simulator


@dataclass(frozen=True)
class Tally:
    """Transitions by (s, a, s') and whether the world ended: how often, and the sum of their rewards, ``[M]`` each.

    Attributes:
        cell: the number of (s, a), or of (slice, s, a).
        following: s'.
        over: whether the world ended there.
        times: how often.
        paid: the sum of rewards, reward units.
    """

    cell: Tensor
    following: Tensor
    over: Tensor
    times: Tensor
    paid: Tensor

    def count(self, shape: torch.Size) -> Tensor:
        """Return how often each (s, a) was seen, ``[S, A]``."""
        return torch.zeros(shape.numel(), dtype=self.paid.dtype).index_add_(0, self.cell, self.times).view(shape)

    def mean(self, v: Tensor, gamma: float, shape: torch.Size) -> Tensor:
        """Return the mean of r + γ V(s') for each (s, a), ``[S, A]``, reward units; 0 where none was seen."""
        target = self.paid + gamma * self.times * torch.where(self.over, 0.0, v[self.following])
        total = torch.zeros(shape.numel(), dtype=v.dtype).index_add_(0, self.cell, target).view(shape)
        return total / self.count(shape).clamp(min=1)

    def and_also(self, other: "Tally") -> "Tally":
        """Return both together."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _counted(*(torch.cat(pair) for pair in pairs))

    def by_slice(self, slices: int, cells: int) -> list["Tally"]:
        """Return a tally of (s, a) for each slice, of one over (slice, s, a)."""
        ends = torch.searchsorted(self.cell, cells * torch.arange(slices + 1)).tolist()
        parts = (tuple(x[low:high] for x in vars(self).values()) for low, high in pairwise(ends))
        return [Tally(cell - cells * t, *others) for t, (cell, *others) in enumerate(parts)]


NOTHING = torch.zeros(0, dtype=torch.long)


def nothing_seen() -> Tally:
    """Return the tally before the first transition."""
    return Tally(NOTHING, NOTHING, NOTHING.bool(), NOTHING.double(), NOTHING.double())


def tally_of(
    simulator: Simulator, rollout: Rollout, actions: Tensor, times: Tensor, slices: Tensor | None = None
) -> Tally:
    """Return the tally of the steps at the times of a mask, ``[T]``; with the numbers of slices ``[T]``, over these."""
    states, space = simulator.variables.state_space, simulator.variables.action_space
    assert states is not None
    assert space is not None
    number, seen = states.join(states.unpack(rollout.states)), rollout.alive & times.unsqueeze(-1)
    going_on = torch.cat([rollout.alive[1:], torch.zeros_like(rollout.alive[:1])])
    over = rollout.alive & ~going_on & rollout.terminated
    cell = number[:-1] * space.size + actions
    if slices is not None:
        cell = cell + states.size * space.size * slices[: len(cell)].unsqueeze(-1)
    paid = rollout.rewards[seen].double()
    return _counted(cell[seen], number[1:][seen], over[seen], torch.ones_like(paid), paid)


def _counted(cell: Tensor, following: Tensor, over: Tensor, times: Tensor, paid: Tensor) -> Tally:
    """Return the tally with one entry for each kind of transition, sorted by cell."""
    N = int(following.max()) + 1 if len(following) else 1
    code, which = torch.unique((cell * N + following) * 2 + over, return_inverse=True)
    sums = [torch.zeros(len(code), dtype=torch.float64).index_add_(0, which, x) for x in (times, paid)]
    return Tally(code // 2 // N, code // 2 % N, code % 2 > 0, *sums)
