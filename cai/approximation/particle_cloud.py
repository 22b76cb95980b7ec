"""Cloud: the particles of a run of sequential Monte Carlo, with the numbers of their ancestors."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cai.approximation.trajectories import Trajectories


@dataclass(frozen=True)
class Cloud:
    """The particles at one time, with those of the times before.

    Attributes:
        state: ``[N, n]``.
        log_weights: normalised, nats, ``[N]``.
        log_alive, log_dead: whether more is paid, given the path and that it was optimal so far, nats, ``[N]``.
        states, actions, rewards, noise: of all particles, dropped ones too, each a tensor ``[N, …]`` a time.
        before: the log-weights at each time, before its step, ``[N]``.
        parents: by time, the number in ``states`` that each particle of the step from there has, ``[N]``.
    """

    state: Tensor
    log_weights: Tensor
    log_alive: Tensor
    log_dead: Tensor
    states: tuple[Tensor, ...]
    actions: tuple[Tensor, ...] = ()
    rewards: tuple[Tensor, ...] = ()
    noise: tuple[Tensor, ...] = ()
    before: tuple[Tensor, ...] = ()
    parents: tuple[Tensor, ...] = ()

    def chosen(self, i: Tensor) -> "Cloud":
        """Return particles by number, which then weigh the same."""
        even = torch.full_like(self.log_weights, -math.log(len(i)))
        alive, dead, parents = self.log_alive[i], self.log_dead[i], (*self.parents, i)
        return replace(self, state=self.state[i], log_weights=even, log_alive=alive, log_dead=dead, parents=parents)

    def unchanged(self) -> "Cloud":
        """Return the same particles, each its own parent."""
        return replace(self, parents=(*self.parents, torch.arange(len(self.state))))

    @cached_property
    def lines(self) -> tuple[Tensor, ...]:
        """The ancestors of the particles: their numbers in the states of each time, ``[N]``."""
        lines = [torch.arange(len(self.state))]
        for parents in reversed(self.parents):
            lines.append(parents[lines[-1]])
        return tuple(reversed(lines))

    def paths(self) -> Trajectories:
        """Return the trajectories that led to the particles, with their weights."""
        states = [s[i] for s, i in zip(self.states, self.lines, strict=True)]
        actions, rewards = (self.along(kind) for kind in (self.actions, self.rewards))
        return Trajectories(torch.stack(states, 1), actions, rewards, self.log_weights)

    def along(self, kind: tuple[Tensor, ...]) -> Tensor:
        """Return what the ancestors did at each step, ``[N, T, …]``."""
        return torch.stack([x[i] for x, i in zip(kind, self.lines[1:], strict=True)], 1)
