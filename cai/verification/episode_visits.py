"""How often an episode of a probe visits each state, and how far two policies are apart on it, in nats."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.verification.task import Task


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


def visits(task: Task, log_pi: Float[Tensor, "..."]) -> Tensor:
    """Return the expected number of visits of an episode, ``Σ_t p(s_t = s)`` without discount, ``[S]``.

    It counts the episodes that the environment runs: with ``cut`` an episode is one step.

    Args:
        task: the task, unrolled.
        log_pi: log π(a|s), ``[S, A]``.
    """
    if task.cut:
        return task.start
    times: Tensor = torch.linalg.solve(
        torch.eye(len(task.start), dtype=torch.float64) - moves(task, log_pi).T, task.start
    )
    return times


def moves(task: Task, log_pi: Float[Tensor, "..."]) -> Tensor:
    """Return p(s'|s) of an episode that goes on, ``[S, S']``; the rest of each row is the chance of an end."""
    going = torch.where(task.over, 0.0, task.p) * log_pi.exp().unsqueeze(-1)
    S = len(task.start)
    return torch.zeros(S, S, dtype=torch.float64).scatter_add(1, task.following.reshape(S, -1), going.reshape(S, -1))


def path_kl(task: Task, log_pi: Float[Tensor, "..."], log_rho: Float[Tensor, "..."]) -> float:
    """Return ``Σ_t E_{s_t ~ π} KL(π_t(·|s_t) ‖ ρ_t(·|s_t))`` over an episode of the environment, nats.

    Where ρ is 0 and π is not it is infinite.

    Args:
        task: the task.
        log_pi: log π, the policy that acts, ``[T or 1, S, A]``.
        log_rho: log ρ, of the same shape or with T = 1.
    """
    T = task.horizon or 1
    here = log_pi.expand(T, *task.log_prior.shape).flatten(0, 1)
    there = log_rho.expand(T, *task.log_prior.shape).flatten(0, 1)
    gap = torch.where(here > -torch.inf, here.exp() * (here - there), 0.0).sum(-1)
    times = visits(unrolled(task), here)
    return float(torch.where(times > 0, times * gap, 0.0).sum())
