"""Trajectories out of messages: samples of the tilted chain, and the most probable trajectory."""

from collections.abc import Callable

import torch
from torch import Tensor

from cai.compile.table_model import Tables, Trajectories
from cai.exact.rules import MAP
from cai.exact.tables.backup import Tilt, back_up


def sample(
    tables: Tables, start: Tensor, tilt_at: Callable[[int], Tilt], n: int, T: int, generator: torch.Generator | None
) -> Trajectories:
    """Draw n trajectories of T steps, ancestor by ancestor: s_0 from ``start [S]``, then each slice's tilt."""

    def draw(log_probs: Tensor) -> Tensor:
        return torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(-1)

    s = torch.multinomial(start, n, replacement=True, generator=generator)
    alive = torch.ones_like(s, dtype=torch.bool)
    states, actions, rewards, living = [s], [], [], [alive]
    for t in range(T):
        one, tilted = tables.at(t), tilt_at(t)
        a = draw(tilted.log_policy[s])
        k = draw(tilted.log_outcome[s, a])
        rewards.append(torch.where(alive, one.reward[s, a, k], 0.0))
        s = torch.where(alive, one.successor[s, a, k], s)
        if tables.discount < 1:
            alive = alive & (draw(tilted.log_survival[s]) == 0)
        states.append(s)
        actions.append(a)
        living.append(alive)
    return Trajectories(*(torch.stack(part, -1) for part in (states, actions, rewards, living)))


def decode(tables: Tables, alpha: Tensor, v: Tensor) -> Trajectories:
    """Follow the maximisers of the MAP messages ``v [T+1, S]`` from the best start; ties go to the lowest number."""
    log_survival = tables.log_survival
    s = (alpha * tables.log_initial + v[0]).argmax()
    alive = torch.ones_like(s, dtype=torch.bool)
    states, actions, rewards, living = [s], [], [], [alive]
    for t in range(len(v) - 1):
        one, v_next = tables.at(t), v[t + 1]
        values = back_up(MAP, one, v_next, alpha, log_survival)
        a = (alpha * one.log_prior[s] + values.q[s]).argmax()
        k = (alpha * one.log_prob[s, a] + values.x[s, a]).argmax()
        rewards.append(torch.where(alive, one.reward[s, a, k], 0.0))
        s = torch.where(alive, one.successor[s, a, k], s)
        alive = alive & (alpha * log_survival[0] + v_next[s] >= alpha * log_survival[1])
        states.append(s)
        actions.append(a)
        living.append(alive)
    return Trajectories(*(torch.stack(part)[None] for part in (states, actions, rewards, living)))
