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
from cai.exact.rules import POSTERIOR
from cai.verification.task import Task

ITERATIONS = 100_000
"""The most backups of a fixed point."""


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
    """Return the backup of the task's own rule."""
    alpha = torch.tensor(task.temperature, dtype=torch.float64)
    over_actions, over_outcomes = task.rule.over_actions, task.rule.over_outcomes

    def target(v: Tensor) -> Tensor:
        future = torch.where(task.over, 0.0, v[task.following])
        if task.rule is POSTERIOR and task.discount < 1:  # survival: the discount ends the trajectory
            gamma = torch.where(task.over, 1.0, task.discount)
            going = torch.logaddexp(gamma.log() + future / alpha, (-gamma).log1p())
            return alpha * (task.p.log() + task.r / alpha + going).logsumexp(-1)
        return over_outcomes.value(task.r + task.discount * future, task.p.log(), alpha)

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
    for _ in range(ITERATIONS):
        q = backup.target(v)
        before, v = v, backup.value(q)
        if bool((v - before).abs().max() <= 1e-13 * v.abs().max().clamp(min=1)):
            return Answer(backup.policy(q).unsqueeze(0), q.unsqueeze(0))
    raise NotConvergedError(f"a mistake's backup has no fixed point after {ITERATIONS:,} iterations")
