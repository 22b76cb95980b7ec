"""One backup, and its adjoint: the equation of every rule, and the analytic derivative that is also the forward step.

    c(s')  = mean over {survive: v(s'), end: 0}     with weights γ, 1-γ
    q(s,a) = mean over outcomes of r + c(s')        with weights p(outcome|s,a)
    v(s)   = mean over actions of q(s,a)            with weights p(a|s)

The derivative of each mean is its tilted weights, so the derivative of the sweep is the flow of tilted probability:
gradient = marginals, ``∂ log Z/∂r_t(s,a) = p(s_t, a_t|O)/α``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.operator import Pick
from cai.exact.rules import Rule
from cai.exact.survival import Survival
from cai.support.numerics import nats

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


@dataclass(frozen=True)
class Equation:
    """A slice under a rule at a temperature: the backup as its equation stands, right at every temperature.

    Other forms of a backup are held to it.

    Attributes:
        rule: how outcomes and actions are marginalised.
        slice: the prior and the outcomes. Its successors number the entries of ``v_next``.
        alpha: temperatures, reward units, of the batch shape.
        log_survival: log of (γ, 1 - γ), nats.
    """

    rule: Rule
    slice: Slice
    alpha: Tensor
    log_survival: Tensor

    def __call__(self, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Return v ``[*B, S]``: a ``Step``."""
        v = self.back_up(v_next).v
        return v if out is None else out.copy_(v)

    @cached_property
    def survival(self) -> Survival:
        """The mean over going on and ending."""
        return Survival(self.rule.over_outcomes, self.alpha[..., None], self.log_survival)

    def back_up(self, v_next: Tensor) -> Backup:
        """Compute one backup from ``v_next [*B, S]``."""
        rule, slice_, alpha = self.rule, self.slice, self.alpha
        c = self.survival.value(v_next)
        x = slice_.reward + look_ahead(c, slice_.successor)
        q = rule.over_outcomes.value(x, slice_.log_prob, alpha[..., None, None])
        v = rule.over_actions.value(q, slice_.log_prior, alpha[..., None])
        return Backup(c, x, q, v)

    def q(self, v_next: Tensor) -> Tensor:
        """Return q ``[*B, S, A]`` alone, block by block of states, so that no outcome is kept longer than needed."""
        S, A, K = self.slice.log_prob.shape[-3:]
        size = max(1, BLOCK // (A * K))
        if size >= S:
            return self.back_up(v_next).q
        return torch.cat([self._rows(low, low + size).back_up(v_next).q for low in range(0, S, size)], -2)

    def _rows(self, low: int, high: int) -> "Equation":
        slice_ = self.slice
        fields = (field[..., low:high, :, :] for field in (slice_.log_prob, slice_.successor, slice_.reward))
        return replace(self, slice=Slice(slice_.log_prior[..., low:high, :], *fields))

    def tilt(self, v_next: Tensor, values: Backup | None = None) -> "Tilt":
        """Return the conditional distributions that the rule's messages imply for the slice.

        Args:
            v_next: the messages of the next time, reward units, ``[*B, S]``.
            values: ``back_up(v_next)``, if it is at hand.
        """
        values = self.back_up(v_next) if values is None else values
        slice_, alpha, over_outcomes = self.slice, self.alpha, self.rule.over_outcomes
        return Tilt(
            slice_,
            self.rule.over_actions.log_weights(values.q, slice_.log_prior, alpha[..., None], values.v),
            over_outcomes.log_weights(values.x, slice_.log_prob, alpha[..., None, None], values.q),
            self.survival.log_weights(v_next, values.c),
            self.survival.is_mortal,
        )

    def adjoint(self, v_next: Tensor, v_bar: Tensor, q_bar: Tensor) -> "Adjoint":
        """Push ``v_bar [*B, S]`` and ``q_bar [*B, S, A]`` through the backup by its tilted weights."""
        slice_, values = self.slice, self.back_up(v_next)
        tilted = self.tilt(v_next, values)
        a1, a2 = self.alpha[..., None], self.alpha[..., None, None]
        over_actions, over_outcomes = self.rule.over_actions, self.rule.over_outcomes

        # An impossible state has derivative 0, whatever the incoming gradient.
        v_bar = torch.where(values.v == -torch.inf, 0.0, v_bar)
        pi = tilted.log_policy.exp()
        log_prior = v_bar.unsqueeze(-1) * over_actions.by_log_w(values.q, slice_.log_prior, a1, pi)
        alpha_bar = (v_bar * over_actions.by_alpha(values.q, slice_.log_prior, a1, values.v, pi)).sum(-1)

        q_bar = torch.where(values.q == -torch.inf, 0.0, q_bar + v_bar.unsqueeze(-1) * pi)
        w = tilted.log_outcome.exp()
        log_prob = q_bar.unsqueeze(-1) * over_outcomes.by_log_w(values.x, slice_.log_prob, a2, w)
        by_alpha = over_outcomes.by_alpha(values.x, slice_.log_prob, a2, values.q, w)
        alpha_bar = alpha_bar + (q_bar * by_alpha).sum((-1, -2))

        reward = q_bar.unsqueeze(-1) * w
        c_bar = put_back(reward, slice_.successor, v_next.shape[-1])
        v_next_bar, by_alpha = self.survival.adjoint(v_next, values.c, c_bar)
        return Adjoint(v_next_bar, log_prior, log_prob, reward, alpha_bar + by_alpha)

    def forward_message(self, log_f: Tensor) -> Tensor:
        """Advance the forward message ``f_t(s) = p(s_t, alive, O_{<t})`` by the slice, in nats, shape ``[*B, S]``.

        ``f_{t+1}(s') = γ Σ f_t(s) p(a|s) p(outcome|s,a) exp(r/α)`` over all that leads to s': the forward half of the
        forward-backward recursion (Rabiner 1989, section III.A).
        """
        slice_ = self.slice
        rewards = nats(slice_.reward, self.alpha[..., None, None, None])
        entries = slice_.log_prior.unsqueeze(-1) + slice_.log_prob + rewards
        entries = (log_f[..., None, None] + entries).flatten(-3)
        number = slice_.successor.flatten(-3).expand(entries.shape)
        top = torch.full_like(log_f, -torch.inf).scatter_reduce(-1, number, entries, "amax")
        top = torch.where(top == -torch.inf, 0.0, top)
        total = torch.zeros_like(log_f).scatter_add(-1, number, (entries - top.gather(-1, number)).exp())
        return top + total.log() + self.log_survival[0]

    def differentiable(self, v_next: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(q, v)``; autograd through it costs one adjoint and keeps no [S, A, K] intermediate."""
        slice_ = self.slice
        tensors = (v_next, self.alpha, slice_.log_prior, slice_.log_prob, slice_.successor, slice_.reward)
        q, v = _Differentiable.apply(self.rule, self.log_survival, *tensors)  # type: ignore[no-untyped-call]
        return q, v


@dataclass(frozen=True)
class Tilt:
    """The tilted slice: how the rule's own chain goes on, in nats.

    Shapes: policy ``[*B, S, A]``, outcomes ``[*B, S, A, K]``, and (survive, end) on entering s' ``[*B, S, 2]``.
    """

    slice: Slice
    log_policy: Tensor
    log_outcome: Tensor
    log_survival: Tensor
    is_mortal: bool

    @property
    def log_survive(self) -> Tensor:
        """log p(survive) on entering s', ``[*B, S]``."""
        return self.log_survival[..., 0]

    def joint(self, mu: Tensor) -> Tensor:
        """Return ``p(s_t, a_t, outcome_t)`` where s_t is ``mu [*B, S]``: ``μ(s) π(a|s) p̃(outcome|s, a)``."""
        return mu[..., None, None] * (self.log_policy.unsqueeze(-1) + self.log_outcome).exp()

    def pairs(self, mu: Tensor) -> Tensor:
        """Return p(s_t, s_{t+1}), alive in both, as a sparse COO tensor ``[S, S]``."""
        successor = self.slice.successor
        joint, S = self.joint(mu) * self.log_survive.exp()[successor], mu.shape[-1]
        rows = torch.arange(S)[:, None, None].expand(joint.shape).reshape(-1)
        numbers = torch.stack([rows.to(successor.device), successor.reshape(-1)])
        return torch.sparse_coo_tensor(numbers, joint.reshape(-1), (S, S), check_invariants=False).coalesce()

    def push(self, mu: Tensor) -> Tensor:
        """Return ``p(s_{t+1}, alive) [*B, S]``: the sum over what leads to s' and survives."""
        return put_back(self.joint(mu), self.slice.successor, mu.shape[-1]) * self.log_survive.exp()

    def action(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick actions in states ``s [N]``."""
        return pick(self.log_policy[s])

    def outcome(self, s: Tensor, a: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Pick outcomes of actions ``a [N]``: the next states and the rewards, reward units."""
        k = pick(self.log_outcome[s, a])
        return self.slice.successor[s, a, k], self.slice.reward[s, a, k]

    def survives(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick whether the trajectory goes on from next states ``s [N]``."""
        return pick(self.log_survival[s]) == 0 if self.is_mortal else torch.ones_like(s, dtype=torch.bool)


@dataclass(frozen=True)
class Adjoint:
    """The derivatives of ``Σ v̄ v + Σ q̄ q`` with respect to what a backup reads."""

    v_next: Tensor
    log_prior: Tensor
    log_prob: Tensor
    reward: Tensor
    alpha: Tensor


class _Differentiable(torch.autograd.Function):
    """A backup under autograd: only its inputs are kept, and the backward pass is the analytic adjoint."""

    @staticmethod
    def forward(ctx: Any, rule: Rule, log_survival: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        v_next, alpha, log_prior, log_prob, successor, reward = tensors
        ctx.rule = rule
        ctx.save_for_backward(log_survival, *tensors)
        equation = Equation(rule, Slice(log_prior, log_prob, successor, reward), alpha, log_survival)
        values = equation.back_up(v_next)
        return values.q, values.v

    @staticmethod
    def backward(ctx: Any, q_bar: Tensor, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        log_survival, v_next, alpha, log_prior, log_prob, successor, reward = ctx.saved_tensors
        slice_ = Slice(log_prior, log_prob, successor, reward)
        bars = Equation(ctx.rule, slice_, alpha, log_survival).adjoint(v_next, v_bar, q_bar)
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
