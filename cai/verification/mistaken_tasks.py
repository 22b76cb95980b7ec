"""Mistakes that are the right backup of another task: another end, discount, reward, prior, temperature or rule."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from cai.exact.rule_means import Expect, Mean, Soft, is_maximum
from cai.exact.rules import HARD, MAP, PLANNING, RISK, VARIATIONAL, Rule
from cai.verification.answer import Answer, answer, right
from cai.verification.episode_visits import unrolled
from cai.verification.task import Task


def truncation_ends(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k (r_k + γ (1 - over_k) (1 - cut) v')``.

    Source: Pardo et al. 2018, Time limits in reinforcement learning; it happens where one flag ``done`` says both.
    """
    return _of(task, discount=0.0) if task.cut else _of(task)


def termination_goes_on(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k (r_k + γ v(s'_k))``, also where the outcome ends the episode."""
    return _of(task, over=torch.zeros_like(task.over))


def stale_target(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k r_k``: the target network (Mnih et al. 2015) is never refreshed and stays at 0."""
    return _of(task, discount=0.0)


def last_reward_lost(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k (1 - last_k) (r_k + γ v')``: the step that ends an episode is never stored."""
    every = unrolled(task)
    last = torch.ones_like(every.over) if task.cut else every.over
    lost = replace(every, r=torch.where(last, 0.0, every.r), over=last)
    return rolled(answer(lost, right(lost)), task)


def discount_to_the_power(power: int) -> Callable[[Task], Answer]:
    """Solve the task with the discount ``γ^power``."""
    return lambda task: _of(task, discount=task.discount**power)


def reward_discounted(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k γ (r_k + v')``: the return begins with γ, not with 1."""
    return _of(task, r=task.discount * task.r)


def reward_clipped(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k (min(max(r_k, -1), 1) + γ v')``, as Mnih et al. 2015 do for Atari games."""
    return _of(task, r=task.r.clamp(-1.0, 1.0))


def reward_averaged(task: Task) -> Answer:
    """Solve the task with ``Σ_k p_k r_k`` for every r_k: a reward of (s, a, s') made one of (s, a).

    It matters where outcomes are not averaged: POSTERIOR's exp of a mean is no mean of exps.
    """
    return _of(task, r=(task.p * task.r).sum(-1, keepdim=True).expand_as(task.r))


def masks_ignored(task: Task) -> Answer:
    """Solve the task with p(a|s) uniform over all actions in each state that forbids one.

    Source: Huang and Ontañón 2022, A closer look at invalid action masking in policy gradient algorithms.
    """
    free = torch.full_like(task.log_prior, 1 / task.log_prior.shape[-1]).log()
    forbids = (task.log_prior == -torch.inf).any(-1, keepdim=True)
    return _of(task, log_prior=torch.where(forbids, free, task.log_prior))


def prior_ignored(task: Task) -> Answer:
    """Solve the task with p(a|s) uniform over the allowed actions."""
    allowed = (task.log_prior > -torch.inf).double()
    return _of(task, log_prior=(allowed / allowed.sum(-1, keepdim=True)).log())


def plain_entropy(task: Task) -> Answer:
    """Solve ``v = α log Σ_a exp(q/α)`` over the allowed actions, ``π ∝ exp(q/α)``: reward plus α times the entropy.

    To a uniform prior over n actions it adds α log n a step, which matters where actions decide how many steps follow.

    Source: Haarnoja et al. 2018, Soft actor-critic.
    """
    return _of(task, log_prior=torch.where(task.log_prior > -torch.inf, 0.0, task.log_prior))


def optimistic(task: Task) -> Answer:
    """Solve ``q = α log Σ_k p_k exp((r_k + v')/α)``: POSTERIOR's backup, luck taken for choice.

    Source: Levine 2018, Reinforcement learning and control as probabilistic inference.
    """
    return _over_outcomes(task, Soft())


def cautious(task: Task) -> Answer:
    """Solve ``q = -α log Σ_k p_k exp(-(r_k + v')/α)``: the rule RISK(-α)."""
    return _over_outcomes(task, RISK(-task.temperature).over_outcomes)


def luck_averaged(task: Task) -> Answer:
    """Solve ``q = Σ_k p_k (r_k + γ v')``: VARIATIONAL where the task is POSTERIOR's."""
    return _over_outcomes(task, Expect())


def temperature_times(factor: float) -> Callable[[Task], Answer]:
    """Solve the task at another temperature, as with rewards on another scale."""
    return lambda task: _of(task, temperature=factor * task.temperature)


def no_entropy(task: Task) -> Answer:
    """Solve ``v = max_a q``, greedily: HARD. So do PPO and A2C in Stable-Baselines3 with their ``ent_coef = 0``."""
    return _of(task, rule=HARD)


def entropy_added(task: Task) -> Answer:
    """Solve VARIATIONAL where the task is HARD's."""
    return _of(task, rule=VARIATIONAL) if is_maximum(task.rule.over_actions) else _of(task)


def most_probable(task: Task) -> Answer:
    """Solve MAP: ``max_k (α log p_k + r_k + v')``, ``max_a (α log p(a|s) + q)``."""
    return _of(task, rule=MAP)


def planning(task: Task) -> Answer:
    """Solve PLANNING: POSTERIOR over outcomes, ``max_a (α log p(a|s) + q)`` over actions."""
    return _of(task, rule=PLANNING)


def rolled(stationary: Answer, task: Task) -> Answer:
    """Return an answer on the unrolled task as one of the task, by time."""
    shape = (task.horizon or 1, *task.log_prior.shape)
    return Answer(stationary.log_pi.reshape(shape), stationary.q.reshape(shape))


def _of(task: Task, **changes: Any) -> Answer:
    other = replace(task, **changes)
    return answer(other, right(other))


def _over_outcomes(task: Task, mean: Mean) -> Answer:
    return _of(task, rule=Rule("another", mean, task.rule.over_actions))
