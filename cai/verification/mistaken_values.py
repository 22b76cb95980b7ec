"""Mistakes in the value: what the actions of the next state are worth.

With π the policy and p the prior, the right soft value is ``v = Σ_a π (q - α log π/p) = α log Σ_a p exp(q/α)``. A hard
value knows no entropy: there most of these mistakes make no difference.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cai.exact.rule_means import Best, is_maximum
from cai.verification.answer import Answer, answer, right
from cai.verification.task import Task

Value = Callable[[Tensor], Tensor]


def later_entropy_missing(task: Task) -> Answer:
    """Solve ``v = Σ_a π q``: the policy has its entropy, the value has none.

    That is what an entropy bonus in the loss does, as in A3C (Mnih et al. 2016) and PPO.

    Source: O'Donoghue et al. 2017, Combining policy gradient and Q-learning.
    """
    return _with_value(task, _average(task, weight=0.0))


def later_entropy_negative(task: Task) -> Answer:
    """Solve ``v = Σ_a π (q + α log π/p)``: the later entropy has the wrong sign."""
    return _with_value(task, _average(task, weight=-1.0))


def later_entropy_twice(task: Task) -> Answer:
    """Solve ``v = Σ_a π (q - 2 α log π/p)``: the later entropy is in the reward and in the value."""
    return _with_value(task, _average(task, weight=2.0))


def entropy_negative(task: Task) -> Answer:
    """Solve ``v = max_π Σ_a π (q + α log π/p) = max_a (q - α log p)``: the maximum of a convex function is a corner.

    An ascent on the objective with the wrong sign ends in a deterministic policy.
    """
    if is_maximum(task.rule.over_actions):
        return answer(task, right(task))
    alpha, best = torch.tensor(task.temperature, dtype=torch.float64), Best()

    def value(q: Tensor) -> Tensor:
        return best.value(q - alpha * task.log_prior, task.log_prior, alpha)

    def policy(q: Tensor) -> Tensor:
        return best.log_weights(q - alpha * task.log_prior, task.log_prior, alpha, value(q))

    return answer(task, replace(right(task), value=value, policy=policy))


def best_action(task: Task) -> Answer:
    """Solve ``v = max_a q``, with the soft policy of q: Q-learning that acts by a softmax."""
    alpha = torch.tensor(task.temperature, dtype=torch.float64)
    return _with_value(task, lambda q: Best().value(q, task.log_prior, alpha))


def of_the_prior(task: Task) -> Answer:
    """Solve ``v = Σ_a p(a|s) q``: the policy is improved on the values of the prior.

    Returns of a behaviour that nobody corrects for lead there: off-policy learning without importance weights.
    """
    return _with_value(task, lambda q: _mean(task.log_prior, q))


def _with_value(task: Task, value: Value) -> Answer:
    return answer(task, replace(right(task), value=value))


def _average(task: Task, weight: float) -> Value:
    """Return the value ``Σ_a π (q - weight α log π/p)``; of a hard rule ``Σ_a π q``."""
    policy = right(task).policy
    scale = 0.0 if is_maximum(task.rule.over_actions) else weight * task.temperature

    def value(q: Tensor) -> Tensor:
        log_pi = policy(q)
        return _mean(log_pi, q - scale * (log_pi - task.log_prior))

    return value


def _mean(log_p: Tensor, x: Tensor) -> Tensor:
    return torch.where(log_p > -torch.inf, log_p.exp() * x, 0.0).sum(-1)
