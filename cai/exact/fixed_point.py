"""The infinite horizon: the backup's fixed point, with an error bound that is proved for the numbers at hand."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.errors import NotConvergedError, fault
from cai.exact.backup import adjoint, back_up, differentiable_backup, look_ahead, refuse_second_derivative, tilt
from cai.exact.rules import Rule
from cai.types import Slice, Tables


@dataclass(frozen=True)
class FixedPoint:
    """``v [*B, S]`` with ``|v - v*| <= error_bound`` in every state, reward units, after ``iterations`` backups."""

    v: Tensor
    iterations: int
    error_bound: float


def fixed_point(
    rule: Rule, tables: Tables, alpha: Tensor, *, tolerance: float = 0.0, max_iterations: int = 200_000
) -> FixedPoint:
    """Iterate the backup to its fixed point, the value of the world that ends with probability 1-γ after each step.

    The bound is proved, not assumed: the backup F is monotone, so if ``F(v + e h) <= v + e h`` and
    ``F(v - e h) >= v - e h`` for some e > 0 and h >= 1, then F maps that interval into itself and the fixed point lies
    in it. Here h(s) is the expected remaining life under the tilted dynamics (h = 1/(1-γ) where nothing is tilted,
    which gives the textbook bound) and e the residual of the last backup; both inequalities are then checked.

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with ``horizon = None`` and a discount below 1.
        alpha: temperatures, reward units.
        tolerance: stop when a backup changes v by no more than this, relative to max(1, |v|); never below rounding.
        max_iterations: give up after so many backups.

    Raises:
        NotConvergedError: there is no fixed point in reach: under POSTERIOR, positive rewards can outweigh the chance
            of ending, and the evidence is then infinite.
    """
    one, log_survival = next(iter(tables.slices())), tables.log_survival
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    v = torch.zeros_like(tables.terminal).expand(*batch, -1)
    tolerance = max(tolerance, 64 * torch.finfo(v.dtype).eps)
    earlier = float("inf")
    for iteration in range(1, max_iterations + 1):
        v_new = back_up(rule, one, v, alpha, log_survival).v
        residual, scale = _distance(v_new, v), max(1.0, float(_finite(v_new).abs().max()))
        v = v_new
        if residual <= tolerance * scale:
            return FixedPoint(v, iteration, _proved_bound(rule, one, v, alpha, log_survival, max_iterations))
        if iteration % 2000 == 0:  # a change that no longer shrinks never will
            if residual > 0.9995 * earlier:
                break
            earlier = residual
    seen = f"a change of {residual:.3g} in the last of {iteration:,} backups, values up to {scale:.3g}"
    cause = "rewards that outweigh the chance 1-γ of ending, so that the mean over lifetimes is infinite"
    raise NotConvergedError(f"{rule} with γ = {tables.discount:g}: {seen}; likely {cause}")


def _proved_bound(rule: Rule, one: Slice, v: Tensor, alpha: Tensor, log_survival: Tensor, max_iterations: int) -> float:
    values = back_up(rule, one, v, alpha, log_survival)
    life = _remaining_life(rule, one, v, alpha, log_survival, max_iterations)
    rounding = 64 * torch.finfo(v.dtype).eps * max(1.0, float(_finite(v).abs().max()))
    e = max(2 * _distance(values.v, v), rounding)
    for _ in range(20):
        above, below = v + e * life, v - e * life
        rises = (back_up(rule, one, above, alpha, log_survival).v > above).any()
        falls = (back_up(rule, one, below, alpha, log_survival).v < below).any()
        if not rises and not falls:
            return e * float(life.max())
        e *= 2
    raise NotConvergedError(
        f"{rule}: no bound of {e * float(life.max()):.3g} or less could be proved around the last v"
    )


def _remaining_life(
    rule: Rule, one: Slice, v: Tensor, alpha: Tensor, log_survival: Tensor, max_iterations: int
) -> Tensor:
    """Solve h = 1 + J h, J the backup's derivative: the expected number of steps to come, ``[*B, S]``."""
    tilted = tilt(rule, one, v, back_up(rule, one, v, alpha, log_survival), alpha, log_survival)
    pi, w, live = tilted.log_policy.exp(), tilted.log_outcome.exp(), tilted.log_survive.exp()
    h = torch.ones_like(v)
    for _ in range(max_iterations):
        h_new = 1 + (pi * (w * look_ahead(live * h, one.successor)).sum(-1)).sum(-1)
        if float((h_new - h).abs().max()) <= 1e-3:
            return 1.01 * h_new
        h = h_new
    raise NotConvergedError(f"{rule}: the expected remaining life is not finite; the fixed point cannot be bounded")


def differentiable_fixed_point(rule: Rule, tables: Tables, alpha: Tensor, v: Tensor) -> Tensor:
    """Return ``v`` again, attached to autograd by the implicit function theorem: ``μ = v̄ + Jᵀ μ``, then one adjoint."""
    one, log_survival = next(iter(tables.slices())), tables.log_survival
    attached = differentiable_backup(rule, one, v, alpha, log_survival)[1]
    return _Implicit.apply(rule, one, v, alpha.detach(), log_survival, attached)  # type: ignore[no-untyped-call,no-any-return]


class _Implicit(torch.autograd.Function):
    """The identity, whose backward pass sums the Neumann series of the backup's transposed derivative."""

    @staticmethod
    def forward(
        ctx: Any, rule: Rule, one: Slice, v: Tensor, alpha: Tensor, log_survival: Tensor, attached: Tensor
    ) -> Tensor:
        ctx.problem = (rule, one, v, alpha, log_survival)
        return attached.clone()

    @staticmethod
    def backward(ctx: Any, v_bar: Tensor) -> Any:
        refuse_second_derivative()
        rule, one, v, alpha, log_survival = ctx.problem
        none = torch.zeros_like(one.log_prior).expand(*v.shape[:-1], *one.log_prior.shape[-2:])
        mu, flow = v_bar, v_bar
        while float(flow.abs().max()) > 1e-16 * max(1.0, float(mu.abs().max())):
            flow = adjoint(rule, one, v, alpha, log_survival, flow, none).v_next
            mu = mu + flow
        return None, None, None, None, None, mu


def require_stationary(tables: Tables) -> None:
    """Raise a ``WorldError`` where an infinite horizon meets slices that differ over time."""
    if tables.timed:
        raise fault("horizon", "None with slices that differ over time", "stationary slices, or a finite horizon")


def _finite(v: Tensor) -> Tensor:
    return torch.where(v == -torch.inf, 0.0, v)


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; two -inf are equal, one alone is infinitely far."""
    return float(torch.where(a == b, 0.0, (a - b).abs()).max())
