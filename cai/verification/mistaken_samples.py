"""Mistakes whose answer depends on how often states are visited: the learner's samples are part of its fixed point."""

from dataclasses import replace

import torch
from torch import Tensor

from cai.exact.rule_means import is_maximum
from cai.verification.answer import Answer, answer, fixed_point, right
from cai.verification.episode_visits import as_run, moves, occupancy, unrolled
from cai.verification.mistaken_tasks import rolled
from cai.verification.task import Task

DAMPING = 0.5
"""How far a step goes towards the new policy or its visits, where these determine each other."""
SIGMA = 1e-8
"""What libraries add to the standard deviation of advantages."""


def next_state(task: Task) -> Answer | None:
    """Solve ``Q(s', a) = r(s, a) + γ v(s')``: what a did in s is learned for the state that it led to.

    A buffer that stores the observation after the step makes it. It is determined where each state has one predecessor
    all of whose actions lead to it; else the visits decide, and the answer is None. A state that nothing leads to
    keeps Q = 0.
    """
    every = unrolled(task)
    before = _predecessors(every)
    if before is None:
        return None
    none, itself = before < 0, torch.arange(len(before))
    source, itself = torch.where(none, itself, before), itself.reshape(-1, 1, 1).expand_as(every.p)
    none = (none.unsqueeze(-1) | (every.log_prior[source] == -torch.inf)).unsqueeze(-1)
    first = torch.arange(every.p.shape[-1]) == 0
    p, r = torch.where(none, first.double(), every.p[source]), torch.where(none, 0.0, every.r[source])
    moved = replace(every, p=p, r=r, following=itself, over=none.expand_as(p))
    return rolled(answer(moved, right(moved)), task)


def advantages_normalised(task: Task) -> Answer:
    """Solve ``π ∝ p exp(Q^R/(α σ))``: an entropy bonus α beside advantages that are divided by their deviation.

    ``Q^R`` are the returns of π without entropy, and σ² is the variance of ``G - V^R(s)`` over the visits of π, G the
    return that follows a step. A cut episode is one step with V^R after it. Where no spread of outcomes holds σ up the
    policy sharpens until it is deterministic.

    Source: PPO in Stable-Baselines3 has ``normalize_advantage=True``; Andrychowicz et al. 2021, What matters in
    on-policy reinforcement learning.
    """
    if is_maximum(task.rule.over_actions):
        return answer(task, right(task))
    every = unrolled(task)

    def policy(scores: Tensor) -> Tensor:
        return (every.log_prior + scores).log_softmax(-1)

    def improved(scores: Tensor) -> Tensor:
        q, sigma = _returns(every, policy(scores))
        return (q - q.mean(-1, keepdim=True)) / (every.temperature * (sigma + SIGMA))

    scores = fixed_point(improved, torch.zeros_like(every.log_prior))
    q, _ = _returns(every, policy(scores))
    return rolled(Answer(policy(scores).unsqueeze(0), q.unsqueeze(0)), task)


def values_without_time(task: Task) -> Answer:
    """Solve ``Q(s,a) = Σ_k p_k (r_k + γ (1 - w_{T-1}(s)) v(s'_k))``: one Q for all times.

    ``w_t(s)`` is the share of time t in the visits of s, of the policy that is learned: so often is a step from s the
    last. It matters where there is a horizon.

    Source: Pardo et al. 2018, Time limits in reinforcement learning.
    """
    if task.horizon is None:
        return answer(task, right(task))

    S = len(task.start)

    def blind(last: Tensor) -> Task:
        chance, ended = last.reshape(-1, 1, 1), torch.ones_like(task.over)
        p, over = torch.cat([task.p * (1 - chance), task.p * chance], -1), torch.cat([task.over, ended], -1)
        r, following = task.r.repeat(1, 1, 2), task.following.repeat(1, 1, 2)
        return replace(task, horizon=None, p=p, over=over, r=r, following=following)

    def step(both: Tensor) -> Tensor:
        v, last = both[:S], both[S:]
        exact = right(blind(last))
        q = exact.target(v)
        share = _shares(task, exact.policy(q))[-1]
        return torch.cat([exact.value(q), last + DAMPING * (share - last)])

    both = fixed_point(
        step, torch.cat([torch.zeros(S, dtype=torch.float64), torch.full_like(task.start, 1 / task.horizon)])
    )
    exact = right(blind(both[S:]))
    q = exact.target(both[:S])
    return Answer(*(one.expand(task.horizon, -1, -1) for one in (exact.policy(q), q)))


def policy_without_time(task: Task) -> Answer | None:
    """Solve ``Σ_t w_t(s) (q_t(s,a) - α log π(a|s)/p(a|s))`` equal for all a: one policy for all times, right values.

    There the gradient of the ELBO in a policy that does not see the time is 0. ``q_t`` are the values of that policy
    itself, and ``w_t(s)`` is the share of time t in its visits of s. It matters where there is a horizon. Where the
    rule does not average outcomes there is no such gradient, and the answer is None.

    Source: Pardo et al. 2018, Time limits in reinforcement learning.
    """
    if task.horizon is None:
        return answer(task, right(task))
    if not task.rule.averages:
        return None
    exact = right(task)
    alpha = 0.0 if is_maximum(task.rule.over_actions) else task.temperature

    def damped(scores: Tensor) -> Tensor:
        log_pi = exact.policy(scores)
        return scores + DAMPING * (_score(task, log_pi, alpha) - scores)

    scores = fixed_point(damped, exact.target(torch.zeros_like(task.start)))
    return Answer(*(one.expand(task.horizon, -1, -1) for one in (exact.policy(scores), scores)))


def _predecessors(task: Task) -> Tensor | None:
    """Return for each state the one that all actions lead from, -1 for none; None where there are several."""
    S = len(task.start)
    possible = (task.p > 0) & (task.log_prior > -torch.inf).unsqueeze(-1)
    reached, before = set(task.start.nonzero().flatten().tolist()), torch.full((S,), -1)
    todo = list(reached)
    while todo:
        s = todo.pop()
        if bool(task.over[s][possible[s]].all()):  # it leads to the end alone: nobody acts there
            continue
        after = task.following[s][possible[s]].unique()
        if len(after) > 1 or bool(task.over[s][possible[s]].any()) or before[after[0]] not in (-1, s):
            return None
        before[after[0]] = s
        if int(after[0]) not in reached:
            reached.add(int(after[0]))
            todo.append(int(after[0]))
    return before


def _returns(task: Task, log_pi: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``Q^R`` of a policy, ``[S, A]``, and the deviation σ of ``G - V^R`` over its visits."""
    pi, move = log_pi.exp(), moves(task, log_pi)
    one = torch.eye(len(task.start), dtype=torch.float64)
    paid = (pi * (task.p * task.r).sum(-1)).sum(-1)
    v = torch.linalg.solve(one - task.discount * move, paid)
    future = torch.where(task.over, 0.0, task.discount * v[task.following])
    q = (task.p * (task.r + future)).sum(-1)
    step = (pi * (task.p * (task.r + future - v.reshape(-1, 1, 1)) ** 2).sum(-1)).sum(-1)
    spread = step if task.cut else torch.linalg.solve(one - task.discount**2 * move, step)
    times = occupancy(as_run(task), log_pi.unsqueeze(0))[0]
    return q, (times @ spread / times.sum()).sqrt()


def _shares(task: Task, log_pi: Tensor) -> Tensor:
    """Return w_t(s), the share of each time in the visits of a state, ``[T, S]``; 1/T where it is never visited."""
    assert task.horizon is not None
    by_time = occupancy(as_run(task), log_pi.expand(task.horizon, -1, -1))
    total = by_time.sum(0)
    return torch.where(total > 0, by_time / total, 1 / task.horizon)


def _score(task: Task, log_pi: Tensor, alpha: float) -> Tensor:
    """Return ``Σ_t w_t(s) q_t(s,a)`` of the values of a policy that does not see the time, ``[S, A]``."""
    target, shares = right(task).target, _shares(task, log_pi)
    v, total = torch.zeros_like(task.start), torch.zeros_like(task.log_prior)
    for weight in reversed(shares.unbind()):
        q = target(v)
        cost = torch.where(log_pi > -torch.inf, log_pi - task.log_prior, 0.0)
        v = torch.where(log_pi > -torch.inf, log_pi.exp() * (q - alpha * cost), 0.0).sum(-1)
        total = total + weight.unsqueeze(-1) * q
    return total
