"""The infinite horizon: the backup's fixed point, with an error bound that is proved for the numbers at hand."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.errors import NotConvergedError, fault
from cai.exact.backup import back_up, differentiable_backup, refuse_second_derivative, tilt
from cai.exact.chain import DENSE, Chain, chain_of, life_to_come, visits
from cai.exact.rules import Expect, Rule
from cai.types import Slice, Tables

WARM_UP = 200
"""Plain backups before Newton's method takes over: by then most worlds have settled."""


@dataclass(frozen=True)
class FixedPoint:
    """``v [*B, S]`` with ``|v - v*| <= error_bound`` in every state, reward units, after ``iterations`` backups."""

    v: Tensor
    iterations: int
    error_bound: float


@dataclass(frozen=True)
class Problem:
    """The backup F whose fixed point is sought: one slice under one rule."""

    rule: Rule
    one: Slice
    alpha: Tensor
    log_survival: Tensor

    def backup(self, v: Tensor) -> Tensor:
        """Return F(v), ``[*B, S]``."""
        return back_up(self.rule, self.one, v, self.alpha, self.log_survival).v

    def chain(self, v: Tensor) -> Chain:
        """Return the derivative of F at v, the tilted chain of the living."""
        values = back_up(self.rule, self.one, v, self.alpha, self.log_survival)
        tilted = tilt(self.rule, self.one, v, values, self.alpha, self.log_survival)
        return chain_of(self.one, tilted, values.v > -torch.inf)

    def rounding(self, v: Tensor) -> float:
        """Return a bound on the rounding of one backup, reward units."""
        largest = max(1.0, float(_finite(v).abs().max()), float(_finite(self.one.reward).abs().max()))
        return 32 * torch.finfo(v.dtype).eps * largest


def fixed_point(rule: Rule, tables: Tables, alpha: Tensor, *, max_iterations: int = 100_000) -> FixedPoint:
    """Find the backup's fixed point, the value of the world that ends with probability 1-γ after each step.

    Plain backups first, then Newton's method on ``F(v) = v`` (policy iteration, where the rule is HARD) for worlds
    that remember long. The bound is proved, not assumed: F is monotone, so if ``F(v + e h) <= v + e h`` and
    ``F(v - e h) >= v - e h`` for some e > 0 and h >= 1, then F maps that interval into itself and the fixed point lies
    in it. Here h(s) is the expected remaining life under the tilted dynamics (h = 1/(1-γ) where nothing is tilted,
    which gives the textbook bound); both inequalities are checked, with room for rounding.

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with ``horizon = None`` and a discount below 1.
        alpha: temperatures, reward units.
        max_iterations: give up after so many backups.

    Raises:
        NotConvergedError: there is no fixed point in reach: under POSTERIOR, positive rewards can outweigh the chance
            of ending, and the evidence is then infinite.
    """
    problem = Problem(rule, next(iter(tables.slices())), alpha, tables.log_survival)
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    v = torch.zeros_like(tables.terminal).expand(*batch, -1)
    residual = earlier = float("inf")
    for iteration in range(1, max_iterations + 1):
        before, v = v, problem.backup(v)
        residual = _distance(v, before)
        if residual <= problem.rounding(v):
            return FixedPoint(v, iteration, _proved_bound(problem, v))
        if iteration % WARM_UP == 0 and tables.states.size <= DENSE:
            v = _newton(problem, v)
        if iteration % 2000 == 0:  # a change that no longer shrinks never will
            if residual > 0.9995 * earlier:
                break
            earlier = residual
    cause = "a discount too close to 1"
    if not isinstance(rule.over_outcomes, Expect):
        cause = "rewards that outweigh the chance 1-γ of ending, so that the answer is infinite"
        cause += " (a higher temperature, VARIATIONAL or a finite horizon has one)"
    seen = f"a change of {residual:.3g} in the last of {iteration:,} backups, values up to {_finite(v).abs().max():.3g}"
    raise NotConvergedError(f"{rule} with γ = {tables.discount:g}: {seen}; likely {cause}")


def _newton(problem: Problem, v: Tensor) -> Tensor:
    """Take Newton steps while they bring F(v) - v down; return v where they do not, to go on plainly."""
    gap = _gap(problem.backup(v), v)
    for _ in range(50):
        try:
            better = v + life_to_come(problem.chain(v), gap)
        except NotConvergedError:
            return v
        gap_better = _gap(problem.backup(better), better)
        if not float(gap_better.abs().max()) < float(gap.abs().max()):
            return v
        v, gap = better, gap_better
    return v


def _proved_bound(problem: Problem, v: Tensor) -> float:
    life = life_to_come(problem.chain(v), torch.ones_like(v))
    if not bool((life >= 1 - 1e-9).all()):  # J has no finite lifetime: v is no attracting fixed point
        raise NotConvergedError(f"{problem.rule}: the expected remaining life is not finite; no bound can be proved")
    life, slack = 1.01 * life.clamp(min=1), problem.rounding(v)
    e = 4 * max(_distance(problem.backup(v), v), slack)
    for _ in range(20):
        above, below = v + e * life, v - e * life
        rises = (problem.backup(above) + slack > above).any()
        falls = (problem.backup(below) - slack < below).any()
        if not rises and not falls:
            return e * float(life.max())
        e *= 2
    raise NotConvergedError(f"{problem.rule}: no bound up to {e * float(life.max()):.3g} could be proved")


def differentiable_fixed_point(rule: Rule, tables: Tables, alpha: Tensor, v: Tensor) -> Tensor:
    """Return ``v`` again, attached to autograd by the implicit function theorem: ``μ = v̄ + Jᵀ μ``, then one adjoint."""
    one = next(iter(tables.slices()))
    attached = differentiable_backup(rule, one, v, alpha, tables.log_survival)[1]
    chain = Problem(rule, one, alpha.detach(), tables.log_survival).chain(v)
    return _Implicit.apply(Chain(chain.weights.detach(), chain.successor), attached)  # type: ignore[no-untyped-call,no-any-return]


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


def require_stationary(tables: Tables) -> None:
    """Raise a ``WorldError`` where an infinite horizon meets slices that differ over time."""
    if tables.timed:
        raise fault("horizon", "None with slices that differ over time", "stationary slices, or a finite horizon")


def _finite(v: Tensor) -> Tensor:
    return torch.where(v == -torch.inf, 0.0, v)


def _gap(after: Tensor, v: Tensor) -> Tensor:
    """Return F(v) - v, 0 where both are -inf."""
    return torch.where(after == v, 0.0, after - v)


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; two -inf are equal, one alone is infinitely far."""
    return float(torch.where(a == b, 0.0, (a - b).abs()).max())
