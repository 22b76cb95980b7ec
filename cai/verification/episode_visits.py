"""How often an episode of a probe visits each state.

    d_t(s) = γ^t p(s_t = s)

As everywhere in the library a discount is survival, and nobody acts after the end.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.verification.task import Task

DOUBLINGS = 20
"""An endless episode is followed for 2 to this power steps."""


def occupancy(task: Task, log_pi: Float[Tensor, "T S A"]) -> Float[Tensor, "T S"]:
    """Return d_t(s) of a policy; where the task knows no time the sum over all times, ``[1, S]``."""
    steps = task.discount * moves(task, log_pi)  # of s at t, to s' at t + 1
    if task.horizon is None:
        total, power = task.start, steps[0]
        for _ in range(DOUBLINGS):  # Σ_{t < 2n} M^t = (Σ_{t < n} M^t) (1 + M^n)
            total, power = total + total @ power, power @ power
        return total.unsqueeze(0)
    d = [task.start]
    for step in steps[:-1]:
        d.append(d[-1] @ step)
    return torch.stack(d)


def moves(task: Task, log_pi: Float[Tensor, "*T S A"]) -> Float[Tensor, "*T S S2"]:
    """Return p(s'|s) of an episode that goes on under a policy; the rest of each row is the chance of an end."""
    going = log_pi.exp().unsqueeze(-1) * torch.where(task.over, 0.0, task.p)
    after = task.following.flatten(1).expand(going.flatten(-2).shape)
    nowhere = torch.zeros((*log_pi.shape[:-1], len(task.start)), dtype=torch.float64)
    return nowhere.scatter_add(-1, after, going.flatten(-2))


def as_run(task: Task) -> Task:
    """Return a task whose occupancy is that of the environment's episodes: nothing is discounted, a cut is the end."""
    return replace(task, discount=0.0 if task.cut else 1.0)


def unrolled(task: Task) -> Task:
    """Return a task with a horizon as one without: its states are ``(t, s)``, number ``t·S + s``; step T ends it.

    A task without a horizon is returned as it is.
    """
    if task.horizon is None:
        return task
    T, S = task.horizon, len(task.start)
    start = torch.zeros(T * S, dtype=torch.float64)
    start[:S] = task.start
    later = torch.arange(T).add(1).clamp(max=T - 1).repeat_interleave(S).reshape(-1, 1, 1) * S
    last = (torch.arange(T) == T - 1).repeat_interleave(S).reshape(-1, 1, 1)
    p, r, log_prior = task.p.repeat(T, 1, 1), task.r.repeat(T, 1, 1), task.log_prior.repeat(T, 1)
    following, over = task.following.repeat(T, 1, 1) + later, task.over.repeat(T, 1, 1) | last
    return replace(task, horizon=None, start=start, log_prior=log_prior, p=p, r=r, following=following, over=over)
