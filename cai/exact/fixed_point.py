"""The infinite horizon: the backup's fixed point, with an error bound that is proved for the numbers at hand."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Slice, Tables
from cai.errors import NotConvergedError, fault
from cai.exact.anderson import Anderson, gap
from cai.exact.longest_path import is_path, longest_path
from cai.exact.rounding import Rounding, largest
from cai.exact.rules import Rule, is_maximum
from cai.exact.tables.backup import Step, back_up, differentiable_backup, refuse_second_derivative, tilt
from cai.exact.tables.chain import DENSE, Chain, chain_of, life_to_come, visits
from cai.exact.tables.prepare import prepare

WARM_UP = 200
"""Accelerated steps before Newton's method takes over in small worlds: by then most have settled."""
PATIENCE = 2000
"""A change that has not shrunk in so many steps never will."""


@dataclass(frozen=True)
class FixedPoint:
    """``v [*B, S]`` with ``|v - v*| <= error_bound`` in every state, reward units, after ``iterations`` backups."""

    v: Tensor
    iterations: int
    error_bound: float


class Problem:
    """The backup F whose fixed point is sought: one slice under one rule. Counts the backups taken."""

    def __init__(self, rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> None:
        self.rule, self.one, self.alpha, self.log_survival = rule, one, alpha, log_survival
        self.step: Step = prepare(rule, one, alpha, log_survival, uses=1000)
        self.rounding = Rounding.of(one, alpha)
        self.backups = 0

    def backup(self, v: Tensor) -> Tensor:
        """Return F(v), ``[*B, S]``."""
        self.backups += 1
        return self.step(v)

    def chain(self, v: Tensor) -> Chain:
        """Return the derivative of F at v."""
        return derivative(self.rule, self.one, v, self.alpha, self.log_survival)


def derivative(rule: Rule, one: Slice, v: Tensor, alpha: Tensor, log_survival: Tensor) -> Chain:
    """Return the derivative of the backup at v, the tilted chain of the living."""
    values = back_up(rule, one, v, alpha, log_survival)
    return chain_of(one, tilt(rule, one, v, values, alpha, log_survival), values.v > -torch.inf)


def fixed_point(rule: Rule, tables: Tables, alpha: Tensor, *, max_iterations: int = 100_000) -> FixedPoint:
    """Find the backup's fixed point, the value of the world that ends with probability 1-γ after each step.

    Backups under Anderson's acceleration; in small worlds Newton's method on ``F(v) = v`` follows (policy iteration,
    where the rule is HARD). However v was found, the bound is proved, not assumed: F is monotone, so if
    ``F(v + e h) <= v + e h`` and ``F(v - e h) >= v - e h`` for some e > 0 and h >= 1, then F maps that interval into
    itself and the fixed point lies in it. Both inequalities are checked, with room for rounding; see ``_lives`` for h.
    Where all means are maxima, ``longest_path`` finds and proves it.

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with ``horizon = None`` and a discount below 1.
        alpha: temperatures, reward units.
        max_iterations: give up after so many backups.

    Raises:
        NotConvergedError: there is no fixed point in reach: under POSTERIOR, positive rewards can outweigh the chance
            of ending, and the evidence is then infinite; or no bound below the size of the values could be proved.
    """
    problem = Problem(rule, next(iter(tables.slices())), alpha, tables.log_survival)
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    start = torch.zeros_like(tables.terminal).expand(*batch, -1).contiguous()
    if is_maximum(rule.over_outcomes):  # from 0 a life that loses by going on would fall for long: nobody survives yet
        start = torch.full_like(start, -torch.inf)
    if is_path(rule):
        what = f"{rule} with γ = {tables.discount:g}"
        v, bound = longest_path(problem.backup, start, problem.rounding, what)
        return FixedPoint(v, problem.backups, bound)
    search = Anderson(problem.backup, start)
    earlier, steps = float("inf"), 1
    while search.best.size > problem.rounding(search.best.fx):
        if problem.backups >= max_iterations:
            raise _gave_up(problem, search)
        if steps % PATIENCE == 0:
            if search.best.size > 0.9995 * earlier:
                raise _gave_up(problem, search)
            earlier = search.best.size
        if steps % WARM_UP == 0 and tables.states.size <= DENSE:
            search = Anderson(problem.backup, _newton(problem, search.best.fx))
        search.advance()
        steps += 1
    v = search.best.fx
    bound = _proved_bound(problem, v)
    return FixedPoint(v, problem.backups, bound)


def _gave_up(problem: Problem, search: Anderson) -> NotConvergedError:
    seen = f"a change of {search.best.size:.3g} at best in {problem.backups:,} backups"
    return _no_answer(problem, f"{seen}, values up to {largest(search.last.fx):.3g}")


def _no_answer(problem: Problem, seen: str) -> NotConvergedError:
    cause = "a discount too close to 1"
    if not problem.rule.averages:
        cause = "rewards that outweigh the chance 1-γ of ending, so that the answer is infinite"
        cause += " (a higher temperature, VARIATIONAL or a finite horizon has one)"
    discount = float(problem.log_survival[0].exp())
    return NotConvergedError(f"{problem.rule} with γ = {discount:g}: {seen}; likely {cause}")


def _newton(problem: Problem, v: Tensor) -> Tensor:
    """Take Newton steps while they bring F(v) - v down; return v where they do not, to go on as before."""
    change = gap(problem.backup(v), v)
    for _ in range(50):
        try:
            better = v + life_to_come(problem.chain(v), change)
        except NotConvergedError:
            return v
        change_better = gap(problem.backup(better), better)
        if not float(change_better.abs().max()) < float(change.abs().max()):
            return v
        v, change = better, change_better
    return v


def _proved_bound(problem: Problem, v: Tensor) -> float:
    life, slack = 1.01 * _lives(problem, v), problem.rounding(v)
    e = 4 * max(float(gap(problem.backup(v), v).abs().max()), slack)
    for _ in range(20):
        above, below = v + e * life, v - e * life
        rises = (problem.backup(above) + slack > above).any()
        falls = (problem.backup(below) - slack < below).any()
        if not rises and not falls and e * float(life.max()) <= problem.rounding.size(v):
            return e * float(life.max())
        e *= 2
    raise _no_answer(problem, f"no bound up to {e * float(life.max()):.3g} could be proved")


def _lives(problem: Problem, v: Tensor) -> Tensor:
    """Return h >= 1 with ``h - J h >= 1``, J the derivative of F at v: no shorter than the expected remaining life.

    1/(1-γ) where outcomes are averaged, for then J loses 1-γ whatever the actions. Otherwise ``h = 1 + J h``: solved
    in small worlds, in large ones brought within 1/4 by backups, ``J h ≈ (F(v + ε h) - F(v))/ε``, and stretched.
    """
    if problem.rule.averages:
        return torch.full_like(v, 1 / float(problem.log_survival[1].exp()))
    one = torch.ones_like(v)
    if v.shape[-1] <= DENSE:
        life = life_to_come(problem.chain(v), one)
        if bool((life >= 1 - 1e-9).all()):  # else J has no finite lifetime: v is no attracting fixed point
            return life.clamp(min=1)
    else:
        search = Anderson(lambda h: one + _pull(problem, v, h), one)
        for _ in range(PATIENCE):
            if search.best.size < 0.25:
                return search.best.x / 0.75
            search.advance()
    raise _no_answer(problem, "the expected remaining life is not finite, and no bound can be proved")


def _pull(problem: Problem, v: Tensor, h: Tensor) -> Tensor:
    small = 1e-6 * problem.rounding.size(v) / float(h.abs().max())
    return gap(problem.backup(v + small * h), v) / small


def differentiable_fixed_point(rule: Rule, tables: Tables, alpha: Tensor, v: Tensor) -> Tensor:
    """Return ``v`` again, attached to autograd by the implicit function theorem: ``μ = v̄ + Jᵀ μ``, then one adjoint."""
    one = next(iter(tables.slices()))
    attached = differentiable_backup(rule, one, v, alpha, tables.log_survival)[1]
    if not attached.requires_grad:
        return v
    chain = derivative(rule, one, v, alpha.detach(), tables.log_survival)
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
