"""What a learner learns that makes a certain mistake: the fixed point of its own backup, exactly.

    q(s,a) = target(v)(s,a)      v(s) = value(q)(s)      π(a|s) = policy(q)(a|s)

The right backup is the rule's: for VARIATIONAL ``Σ_k p_k (r_k + γ v(s'_k))``, ``α log Σ_a p(a|s) exp(q/α)`` and
``p(a|s) exp((q - v)/α)``. A mistake is another target, value or policy, or the right ones of another task.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import NotConvergedError
from cai.verification.task import Task

ITERATIONS = 2_000
"""The most backups of a fixed point."""
PATIENCE = 50
"""In how many backups the change must halve."""


@dataclass(frozen=True)
class Answer:
    """What is learned: a policy and the values behind it.

    Attributes:
        log_pi: log π_t(a|s), nats, ``[T, S, A]``; T is 1 where the task knows no time.
        q: Q_t(s,a), reward units, of the same shape.
    """

    log_pi: Float[Tensor, "T S A"]
    q: Float[Tensor, "T S A"]


@dataclass(frozen=True)
class Backup:
    """A backup in three parts; see the module's words.

    Attributes:
        target: q ``[S, A]`` of the values v ``[S]`` one step later.
        value: v ``[S]`` of q.
        policy: log π ``[S, A]`` of q.
    """

    target: Callable[[Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    policy: Callable[[Tensor], Tensor]


def right(task: Task) -> Backup:
    """Return the backup of the task's own rule; the discount is survival, the rule's mean over going on and ending."""
    alpha = torch.tensor(task.temperature, dtype=torch.float64)
    log_survival = torch.tensor([task.discount, 1 - task.discount], dtype=torch.float64).log()
    over_actions, over_outcomes = task.rule.over_actions, task.rule.over_outcomes

    def target(v: Tensor) -> Tensor:
        future = v[task.following]
        if task.discount < 1:
            future = over_outcomes.value(torch.stack([future, torch.zeros_like(future)], -1), log_survival, alpha)
        return over_outcomes.value(task.r + torch.where(task.over, 0.0, future), task.p.log(), alpha)

    def value(q: Tensor) -> Tensor:
        return over_actions.value(q, task.log_prior, alpha)

    def policy(q: Tensor) -> Tensor:
        return over_actions.log_weights(q, task.log_prior, alpha, value(q))

    return Backup(target, value, policy)


def answer(task: Task, backup: Backup) -> Answer:
    """Return the fixed point of a backup; with a horizon, T backups from 0.

    Raises:
        NotConvergedError: there is none after many backups.
    """
    v = torch.zeros(len(task.start), dtype=torch.float64)
    if task.horizon is not None:
        steps = []
        for _ in range(task.horizon):
            q = backup.target(v)
            v = backup.value(q)
            steps.append((backup.policy(q), q))
        log_pi, values = zip(*reversed(steps), strict=True)
        return Answer(torch.stack(log_pi), torch.stack(values))
    v = fixed_point(lambda v: backup.value(backup.target(v)), v)
    q = backup.target(v)
    return Answer(backup.policy(q).unsqueeze(0), q.unsqueeze(0))


def fixed_point(step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return x = step(x), by iteration from x.

    Raises:
        NotConvergedError: there is none: in PATIENCE steps the change did not halve.
    """
    before = float("inf")
    for i in range(1, ITERATIONS + 1):
        old, x = x, step(x)
        change = float((x - old).abs().max())
        if change <= 1e-13 * max(1.0, float(x.abs().max())):
            return x
        if i % PATIENCE == 0:
            if not change < before / 2:
                break
            before = change
    raise NotConvergedError(f"the backup has no fixed point: after {i} iterations it changes by {change:g}")
