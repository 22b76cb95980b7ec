"""The sweep's derivative: forward through time flows what the backward sweep weighs, by one analytic adjoint a slice.

    v̄_{t+1}(s') = Σ v̄_t(s) ∂v_t(s)/∂v_{t+1}(s'),     and every parameter gathers what passes by it

For log Z that flow is the posterior itself: ``∂ log Z/∂r_t(s, a) = p(s_t, a_t|O)/α`` (gradient = marginals).
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.exact.rounding import largest
from cai.exact.rules import Rule
from cai.exact.sweep import ready, sweep
from cai.exact.tables.adjoints import gathering
from cai.exact.tables.backup import Step, refuse_second_derivative
from cai.exact.tables.gathered import Gathered, Gathering


def differentiable_sweep(rule: Rule, tables: Tables, alpha: Float[Tensor, "*M"]) -> Float[Tensor, "*B T1 S"]:
    """Return ``sweep``, differentiable once in rewards, log-probabilities, prior, terminal reward and α."""
    tensors = (tables.log_prior, tables.log_prob, tables.reward, tables.terminal, alpha)
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        return _Sweep.apply(rule, tables.detach(), *tensors)  # type: ignore[no-untyped-call,no-any-return]
    return sweep(rule, tables, alpha)


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rule: Rule, tables: Tables, *tensors: Tensor) -> Tensor:
        alpha = tensors[-1].detach()
        ctx.rule, ctx.tables, ctx.step = rule, tables, ready(rule, tables, alpha)
        v = sweep(rule, tables, alpha, ctx.step)
        ctx.save_for_backward(alpha, v)
        return v

    @staticmethod
    def backward(ctx: Any, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        alpha, v = ctx.saved_tensors
        tables: Tables = ctx.tables
        flow = _Flow(ctx.rule, tables, alpha, v, v_bar, ctx.step)
        found = list(flow)
        asked = dict(
            zip(("log_prior", "log_prob", "reward", "terminal", "alpha"), ctx.needs_input_grad[2:], strict=True)
        )

        def of(name: str) -> Tensor | None:
            parts = [getattr(one, name) for one in found] if asked[name] else None
            return None if parts is None else _like(getattr(tables, name), parts, tables)

        terminal = flow.last.sum_to_size(tables.terminal.shape)
        by_alpha = [one.alpha.sum_to_size(alpha.shape) for one in found] if asked["alpha"] else None
        alpha_bar = None if by_alpha is None else torch.stack(by_alpha).sum(0)
        return None, None, of("log_prior"), of("log_prob"), of("reward"), terminal, alpha_bar


class _Flow:
    """Yields what each slice gathered, once for all times where they share one; then ``last`` is v̄_T."""

    def __init__(self, rule: Rule, tables: Tables, alpha: Tensor, v: Tensor, v_bar: Tensor, step: Step | None) -> None:
        self.rule, self.tables, self.alpha, self.v, self.step = rule, tables, alpha, v, step
        self.v_bar = torch.where(v == -torch.inf, 0.0, v_bar)
        self.last = self.v_bar[..., 0, :]

    def __iter__(self) -> Iterator[Gathered]:
        tables, T = self.tables, self.v.shape[-2] - 1
        scale = largest(tables.terminal)
        one: Gathering | None = None
        for t in range(T):
            if one is None or tables.timed:
                uses = 1 if tables.timed else T
                given = (self.rule, tables.at(t), self.alpha, tables.log_survival)
                one = gathering(*given, uses=uses, scale=scale, step=self.step)
            flowed = one.push(self.v[..., t + 1, :], self.last)
            self.last = self.v_bar[..., t + 1, :] + flowed
            if tables.timed or t == T - 1:
                yield one.total()


def _like(field: Tensor, parts: list[Tensor], tables: Tables) -> Tensor:
    """Bring the gathered parts, one or one a time, to the shape of the field that they belong to."""
    if not tables.timed:
        return parts[0].sum_to_size(field.shape)
    axis = len(tables.batch_shape)
    shape = (*field.shape[:axis], *field.shape[axis + 1 :])
    return torch.stack([part.sum_to_size(shape) for part in parts], axis)
