"""Trajectories out of messages: exact posterior samples, and the most probable trajectory."""

import torch
from torch import Tensor

from cai.errors import fault
from cai.exact.backup import back_up
from cai.exact.messages import Messages
from cai.types import Trajectories


def sample(messages: Messages, n: int, steps: int | None, generator: torch.Generator | None) -> Trajectories:
    """Draw n trajectories by ancestral sampling through the tilted slices."""
    messages._single("sample")
    tables = messages.tables
    T = tables.horizon if steps is None else steps
    if T is None or T < 1 or (tables.horizon is not None and tables.horizon < T):
        seen = "no steps with an infinite horizon" if T is None else f"{T}"
        raise fault("sample, steps", seen, f"a number of steps from 1 to {tables.horizon or 'any'}")

    def draw(probs: Tensor) -> Tensor:
        return torch.multinomial(probs, 1, generator=generator).squeeze(-1)

    s = torch.multinomial(messages.initial(), n, replacement=True, generator=generator)
    alive = torch.ones_like(s, dtype=torch.bool)
    states, actions, rewards, living = [s], [], [], [alive]
    for t in range(T):
        one, tilted = tables.at(t), messages.tilt(t)
        a = draw(tilted.log_policy[s].exp())
        k = draw(tilted.log_outcome[s, a].exp())
        rewards.append(torch.where(alive, one.reward[s, a, k], 0.0))
        s = torch.where(alive, one.successor[s, a, k], s)
        if tables.discount < 1:
            chance = torch.rand(n, generator=generator, dtype=messages.v.dtype)
            alive = alive & (chance < tilted.log_survive.exp()[s])
        states.append(s)
        actions.append(a)
        living.append(alive)
    return Trajectories(
        torch.stack(states, -1), torch.stack(actions, -1), torch.stack(rewards, -1), torch.stack(living, -1)
    )


def decode(messages: Messages) -> Trajectories:
    """Follow the maximisers of the MAP messages from the best start; ties go to the lowest number."""
    tables, alpha = messages.tables, messages.temperature
    log_survival = tables.log_survival
    s = (alpha * tables.log_initial + messages.v[0]).argmax()
    alive = torch.tensor(True)
    states, actions, rewards, living = [s], [], [], [alive]
    for t in range(messages.v.shape[0] - 1):
        one, v_next = tables.at(t), messages.v[t + 1]
        values = back_up(messages.rule, one, v_next, alpha, log_survival)
        a = (alpha * one.log_prior[s] + values.q[s]).argmax()
        k = (alpha * one.log_prob[s, a] + values.x[s, a]).argmax()
        rewards.append(torch.where(alive, one.reward[s, a, k], 0.0))
        s = torch.where(alive, one.successor[s, a, k], s)
        alive = alive & (alpha * log_survival[0] + v_next[s] >= alpha * log_survival[1])
        states.append(s)
        actions.append(a)
        living.append(alive)
    parts = (torch.stack(part)[None] for part in (states, actions, rewards, living))
    return Trajectories(*parts)
