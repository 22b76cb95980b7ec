"""The derivative of the sweep: a forward pass through time with one analytic adjoint for each slice.

    v̄_{t+1}(s') = Σ v̄_t(s) ∂v_t(s)/∂v_{t+1}(s'),     and every parameter gathers what passes by it

For log Z that flow is the posterior itself: ``∂ log Z/∂r_t(s, a) = p(s_t, a_t|O)/α`` (gradient = marginals).
Tables have this adjoint; other forms use torch's autograd, Gaussian ones ``gaussian.implicit`` for the fixed point.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.gaussian import implicit
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.lifetime import visits
from cai.exact.operator import Operator, V
from cai.exact.sweep import sweep
from cai.exact.tables.backup import refuse_second_derivative
from cai.exact.tables.chain import Chain
from cai.exact.tables.gathered import Gathered, Gathering
from cai.exact.tables.table_operator import TableOperator

PARAMETERS = ("log_prior", "log_prob", "reward", "terminal")
"""What of tables v is differentiable in, beside α."""


def differentiable_sweep(op: Operator) -> V:
    """Return ``sweep``, differentiable once in rewards, log-probabilities, prior, terminal reward and α."""
    if not isinstance(op, TableOperator) or not torch.is_grad_enabled():
        return sweep(op)
    tensors = (*(getattr(op.model, name) for name in PARAMETERS), op.alpha)
    if not any(tensor.requires_grad for tensor in tensors):
        return sweep(op)
    return _Sweep.apply(TableOperator(op.model.detach(), op.rule, op.alpha.detach()), *tensors)  # type: ignore[no-untyped-call]


def differentiable_fixed_point(op: Operator, v: V) -> V:
    """Return ``v`` again, attached to autograd by the implicit function theorem: ``μ = v̄ + Jᵀ μ``, then one adjoint.

    Raises:
        WorldError: factors require gradients, and the derivative of their fixed point is not known.
    """
    if not torch.is_grad_enabled():
        return v
    if isinstance(op, GaussianOperator):
        asked = op.model.requires_grad or op.alpha.requires_grad
        return implicit.attached(op.model, op.rule, op.alpha, v, op.backup(0, v)) if asked else v
    if not isinstance(op, TableOperator):
        if op.model.requires_grad:
            seen = "numbers that ask for gradients, with an infinite horizon"
            raise fault(op.form, seen, "a finite horizon, or form='tables': this fixed point has no derivative")
        return v
    attached = op.equation(0).differentiable(v)[1]
    if not attached.requires_grad:
        return v
    with torch.no_grad():
        chain = op.derivative(v)
    return _Implicit.apply(chain, attached)  # type: ignore[no-untyped-call]


class _Implicit(torch.autograd.Function):
    """The identity, whose backward pass sums what every step of a lifetime sends back."""

    @staticmethod
    def forward(ctx: Any, chain: Chain, attached: Tensor) -> Tensor:
        ctx.chain = chain
        return attached.clone()

    @staticmethod
    def backward(ctx: Any, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        return None, visits(ctx.chain, v_bar)


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: TableOperator, *tensors: Tensor) -> Tensor:
        v: Tensor = sweep(op)
        ctx.op = op
        ctx.save_for_backward(v)
        return v

    @staticmethod
    def backward(ctx: Any, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        (v,), op = ctx.saved_tensors, ctx.op
        tables: Tables = op.model
        flow = _Flow(op, v, v_bar)
        gathered = list(flow)
        asked = dict(zip((*PARAMETERS, "alpha"), ctx.needs_input_grad[1:], strict=True))

        def of(name: str) -> Tensor | None:
            return (
                _like(getattr(tables, name), [getattr(part, name) for part in gathered], tables)
                if asked[name]
                else None
            )

        terminal = flow.last.sum_to_size(tables.terminal.shape)
        by_alpha = [part.alpha.sum_to_size(op.alpha.shape) for part in gathered] if asked["alpha"] else None
        alpha_bar = None if by_alpha is None else torch.stack(by_alpha).sum(0)
        return None, of("log_prior"), of("log_prob"), of("reward"), terminal, alpha_bar


class _Flow:
    """Yields what each slice gathered, once for all times where they share one; then ``last`` is v̄_T."""

    def __init__(self, op: TableOperator, v: Tensor, v_bar: Tensor) -> None:
        self.op, self.v = op, v
        self.v_bar = torch.where(v == -torch.inf, 0.0, v_bar)
        self.last = self.v_bar[..., 0, :]

    def __iter__(self) -> Iterator[Gathered]:
        op, T = self.op, self.v.shape[-2] - 1
        gathering: Gathering | None = None
        for t in range(T):
            if gathering is None or op.model.timed:
                gathering = op.gathering(t)
            flowed = gathering.push(self.v[..., t + 1, :], self.last)
            self.last = self.v_bar[..., t + 1, :] + flowed
            if op.model.timed or t == T - 1:
                yield gathering.total()


def _like(field: Tensor, parts: list[Tensor], tables: Tables) -> Tensor:
    """Bring the gathered parts, one or one a time, to the shape of the field that they belong to."""
    if not tables.timed:
        return parts[0].sum_to_size(field.shape)
    axis = len(tables.batch_shape)
    shape = (*field.shape[:axis], *field.shape[axis + 1 :])
    return torch.stack([part.sum_to_size(shape) for part in parts], axis)
