"""One backup, and its adjoint: the equation of every rule, and the analytic derivative that is also the forward step.

    c(s')  = mean over {survive: v(s'), end: 0}     with weights γ, 1-γ
    q(s,a) = mean over outcomes of r + c(s')        with weights p(outcome|s,a)
    v(s)   = mean over actions of q(s,a)            with weights p(a|s)

The derivative of each mean is its tilted weights, so the derivative of the sweep is the flow of tilted probability:
gradient = marginals, ``∂ log Z/∂r_t(s,a) = p(s_t, a_t|O)/α``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rules import Rule

BLOCK = 1 << 22
"""Outcomes to a block, where a backup is taken block by block."""


@dataclass(frozen=True)
class Backup:
    """A backup's values: continuation ``c [*B, S]``, outcomes ``x [*B, S, A, K]``, ``q [*B, S, A]``, ``v [*B, S]``."""

    c: Tensor
    x: Tensor
    q: Tensor
    v: Tensor


@runtime_checkable
class Step(Protocol):
    """One backup of one slice, made ready: from ``v_next [*B, S']`` to ``v [*B, S]``, reward units."""

    def __call__(self, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Return v, in ``out`` where it is given."""


def look_ahead(values: Tensor, successor: Tensor) -> Tensor:
    """Read ``values [*B, S]`` at each outcome's successor ``[*B, S, A, K]``."""
    if successor.dim() == 3:
        return values.index_select(-1, successor.reshape(-1)).view(*values.shape[:-1], *successor.shape)
    batch = torch.broadcast_shapes(values.shape[:-1], successor.shape[:-3])
    numbers = successor.expand(*batch, *successor.shape[-3:])
    values = values.expand(*batch, values.shape[-1])
    return values.gather(-1, numbers.flatten(-3)).reshape(numbers.shape)


def reader(successor: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``look_ahead`` for these successors ``[*L, S, A, K]``, laid out beforehand where no batch has its own."""
    if successor.dim() > 3:
        return lambda values: look_ahead(values, successor)
    flat, shape = successor.reshape(-1), successor.shape
    return lambda values: values.index_select(-1, flat).view(*values.shape[:-1], *shape)


def put_back(amounts: Tensor, successor: Tensor, S: int) -> Tensor:
    """Add each outcome's amount ``[*B, S, A, K]`` to its successor ``[*B, S]``; the transpose of ``look_ahead``."""
    if successor.dim() == 3:
        total = amounts.new_zeros(*amounts.shape[:-3], S)
        return total.index_add(-1, successor.reshape(-1), amounts.flatten(-3))
    numbers = successor.expand(amounts.shape).flatten(-3)
    return amounts.new_zeros(*amounts.shape[:-3], S).scatter_add(-1, numbers, amounts.flatten(-3))


def survive(rule: Rule, v_next: Tensor, alpha: Tensor, log_survival: Tensor) -> Tensor:
    """Return the continuation c(s'), ``[*B, S]``: the mean over going on with v(s') and ending with 0."""
    if not log_survival[1] > -torch.inf:
        return v_next
    branches = torch.stack([v_next, torch.zeros_like(v_next)], -1)
    return rule.over_outcomes.value(branches, log_survival, alpha[..., None])


def back_up(rule: Rule, one: Slice, v_next: Tensor, alpha: Tensor, log_survival: Tensor) -> Backup:
    """Compute one backup from ``v_next [*B, S]``; ``alpha`` has the batch shape, reward units."""
    c = survive(rule, v_next, alpha, log_survival)
    x = one.reward + look_ahead(c, one.successor)
    q = rule.over_outcomes.value(x, one.log_prob, alpha[..., None, None])
    v = rule.over_actions.value(q, one.log_prior, alpha[..., None])
    return Backup(c, x, q, v)


def action_values(rule: Rule, one: Slice, v_next: Tensor, alpha: Tensor, log_survival: Tensor) -> Tensor:
    """Return q ``[*B, S, A]`` alone, block by block of states, so that no outcome is kept longer than it is needed."""
    S, A, K = one.log_prob.shape[-3:]
    size = max(1, BLOCK // (A * K))
    if size >= S:
        return back_up(rule, one, v_next, alpha, log_survival).q
    parts = []
    for low in range(0, S, size):
        fields = (one.log_prob, one.successor, one.reward)
        rows = (field[..., low : low + size, :, :] for field in fields)
        part = Slice(one.log_prior[..., low : low + size, :], *rows)
        parts.append(back_up(rule, part, v_next, alpha, log_survival).q)
    return torch.cat(parts, -2)


@dataclass(frozen=True)
class Tilt:
    """The tilted slice, in nats.

    Shapes: policy ``[*B, S, A]``, outcomes ``[*B, S, A, K]``, and (survive, end) on entering s' ``[*B, S, 2]``.
    """

    log_policy: Tensor
    log_outcome: Tensor
    log_survival: Tensor

    @property
    def log_survive(self) -> Tensor:
        """log p(survive) on entering s', ``[*B, S]``."""
        return self.log_survival[..., 0]


def tilt(rule: Rule, one: Slice, v_next: Tensor, values: Backup, alpha: Tensor, log_survival: Tensor) -> Tilt:
    """Return the conditional distributions that the rule's messages imply for one slice."""
    branches = torch.stack([v_next, torch.zeros_like(v_next)], -1)
    over_outcomes = rule.over_outcomes
    survival = over_outcomes.log_weights(branches, log_survival, alpha[..., None], values.c)
    return Tilt(
        rule.over_actions.log_weights(values.q, one.log_prior, alpha[..., None], values.v),
        over_outcomes.log_weights(values.x, one.log_prob, alpha[..., None, None], values.q),
        survival,
    )


@dataclass(frozen=True)
class Adjoint:
    """The derivatives of ``Σ v̄ v + Σ q̄ q`` with respect to what a backup reads."""

    v_next: Tensor
    log_prior: Tensor
    log_prob: Tensor
    reward: Tensor
    alpha: Tensor


def adjoint(
    rule: Rule, one: Slice, v_next: Tensor, alpha: Tensor, log_survival: Tensor, v_bar: Tensor, q_bar: Tensor
) -> Adjoint:
    """Push ``v_bar [*B, S]`` and ``q_bar [*B, S, A]`` through one backup by its tilted weights."""
    values = back_up(rule, one, v_next, alpha, log_survival)
    tilted = tilt(rule, one, v_next, values, alpha, log_survival)
    a1, a2 = alpha[..., None], alpha[..., None, None]
    act, out = rule.over_actions, rule.over_outcomes

    # What is impossible carries no derivative, whatever flows into it.
    v_bar = torch.where(values.v == -torch.inf, 0.0, v_bar)
    pi = tilted.log_policy.exp()
    log_prior = v_bar.unsqueeze(-1) * act.by_log_w(values.q, one.log_prior, a1, pi)
    alpha_bar = (v_bar * act.by_alpha(values.q, one.log_prior, a1, values.v, pi)).sum(-1)

    q_bar = torch.where(values.q == -torch.inf, 0.0, q_bar + v_bar.unsqueeze(-1) * pi)
    w = tilted.log_outcome.exp()
    log_prob = q_bar.unsqueeze(-1) * out.by_log_w(values.x, one.log_prob, a2, w)
    alpha_bar = alpha_bar + (q_bar * out.by_alpha(values.x, one.log_prob, a2, values.q, w)).sum((-1, -2))

    reward = q_bar.unsqueeze(-1) * w
    c_bar = put_back(reward, one.successor, v_next.shape[-1])
    if log_survival[1] > -torch.inf:
        branches = torch.stack([v_next, torch.zeros_like(v_next)], -1)
        weights = tilted.log_survival.exp()
        alpha_bar = alpha_bar + (c_bar * out.by_alpha(branches, log_survival, a1, values.c, weights)).sum(-1)
        c_bar = c_bar * weights[..., 0]
    return Adjoint(c_bar, log_prior, log_prob, reward, alpha_bar)


class _Differentiable(torch.autograd.Function):
    """A backup under autograd: only its inputs are kept, and the backward pass is the analytic adjoint."""

    @staticmethod
    def forward(ctx: Any, rule: Rule, log_survival: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        v_next, alpha, log_prior, log_prob, successor, reward = tensors
        ctx.rule = rule
        ctx.save_for_backward(log_survival, *tensors)
        values = back_up(rule, Slice(log_prior, log_prob, successor, reward), v_next, alpha, log_survival)
        return values.q, values.v

    @staticmethod
    def backward(ctx: Any, q_bar: Tensor, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        log_survival, v_next, alpha, log_prior, log_prob, successor, reward = ctx.saved_tensors
        one = Slice(log_prior, log_prob, successor, reward)
        bars = adjoint(ctx.rule, one, v_next, alpha, log_survival, v_bar, q_bar)
        return (
            None,
            None,
            bars.v_next.sum_to_size(v_next.shape),
            bars.alpha.sum_to_size(alpha.shape),
            bars.log_prior.sum_to_size(log_prior.shape),
            bars.log_prob.sum_to_size(log_prob.shape),
            None,
            bars.reward.sum_to_size(reward.shape),
        )


def refuse_second_derivative() -> None:
    """Raise where autograd would record the backward pass: the adjoint is analytic once, and wrong in silence twice."""
    if torch.is_grad_enabled():
        raise RuntimeError("cai: messages have first derivatives only; call backward or grad without create_graph=True")


def differentiable_backup(
    rule: Rule, one: Slice, v_next: Tensor, alpha: Tensor, log_survival: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``(q, v)`` of one backup; autograd through it costs one adjoint and keeps no [S, A, K] intermediate."""
    tensors = (v_next, alpha, one.log_prior, one.log_prob, one.successor, one.reward)
    q, v = _Differentiable.apply(rule, log_survival, *tensors)  # type: ignore[no-untyped-call]
    return q, v
