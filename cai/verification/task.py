"""A probe as tensors: what its exact answers, right and wrong, are computed from."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.exact.rules import Rule
from cai.verification.probe import Probe


@dataclass(frozen=True)
class Task:
    """A probe as tensors, and the rule that a learner is to follow on it.

    Attributes:
        rule: VARIATIONAL for a soft learner, HARD for one of returns, POSTERIOR for an optimistic one.
        temperature: α, reward units.
        discount: γ.
        horizon: T, or None where only an outcome ends the episode.
        cut: whether every episode is cut off after one step.
        start: p(s_0), ``[S]``.
        log_prior: log p(a|s), nats, ``[S, A]``.
        p: p(k|s,a), ``[S, A, K]``; all 0 for a forbidden action.
        r: reward of each outcome, reward units, ``[S, A, K]``.
        following: s' of each outcome, ``[S, A, K]``.
        over: whether the outcome ends the episode, ``[S, A, K]``.
    """

    rule: Rule
    temperature: float
    discount: float
    horizon: int | None
    cut: bool
    start: Float[Tensor, " S"]
    log_prior: Float[Tensor, "S A"]
    p: Float[Tensor, "S A K"]
    r: Float[Tensor, "S A K"]
    following: Int[Tensor, "S A K"]
    over: Bool[Tensor, "S A K"]


def task_of(probe: Probe, rule: Rule) -> Task:
    """Return a probe as tensors, float64."""
    states, actions = probe.states, probe.actions
    shape = (len(states), len(actions), max(len(ks) for row in probe.rows.values() for ks in row.values()))
    p, r = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    following, over = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    prior = torch.zeros(shape[:2], dtype=torch.float64)
    for s, row in enumerate(probe.rows.values()):
        for name, outcomes in row.items():
            a = actions.index(name)
            prior[s, a] = probe.prior_of(states[s]).get(name, 0.0)
            for k, (weight, after, paid, ended) in enumerate(outcomes):
                p[s, a, k], r[s, a, k], over[s, a, k] = weight, paid, ended
                following[s, a, k] = states.index(after)
    start = torch.tensor([probe.start.get(state, 0.0) for state in states], dtype=torch.float64)
    numbers = (probe.temperature, probe.discount, probe.horizon, probe.cut == 1)
    return Task(rule, *numbers, start, prior.log(), p, r, following, over)
