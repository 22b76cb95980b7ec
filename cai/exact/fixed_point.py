"""The infinite horizon: the fixed point of the backup, with a proved error bound."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.errors import NotConvergedError
from cai.exact.anderson import Anderson, gap
from cai.exact.lifetime import life_to_come
from cai.exact.longest_path import is_path, longest_path
from cai.exact.operator import Operator, V
from cai.exact.rounding import Rounding, largest
from cai.exact.rule_means import is_maximum
from cai.support.progress import working

MOST = 100_000
"""Backups after which a search is given up."""
WARM_UP = 200
"""Accelerated steps before Newton's method takes over in small worlds: by then most have settled."""
PATIENCE = 2000
"""A change that has not shrunk in so many steps never will."""


@dataclass(frozen=True)
class FixedPoint:
    """``v [*B, S]`` with ``|v - v*| <= error_bound`` in every state, reward units, after ``iterations`` backups.

    Where a world has several parts, or v is a quadratic, the bound is one of the start value; of parts, their sum.
    """

    v: V
    iterations: int
    error_bound: float


class Search:
    """The backup F of a stationary operator, whose fixed point is sought; counts the backups taken."""

    def __init__(self, op: Operator) -> None:
        self.op, self.rounding = op, op.rounding()
        self.backups = 0

    def backup(self, v: Tensor) -> Tensor:
        """Return F(v), ``[*B, S]``."""
        self.backups += 1
        following: Tensor = self.op.backup(0, v)
        return following


@torch.no_grad()
def fixed_point(op: Operator) -> FixedPoint:
    """Find the backup's fixed point, the value of the world that ends with probability 1-γ after each step.

    Backups under Anderson's acceleration; in small worlds Newton's method on ``F(v) = v`` follows (policy iteration,
    where the rule is HARD). However v was found, the bound is proved, not assumed: F is monotone, so if
    ``F(v + e h) <= v + e h`` and ``F(v - e h) >= v - e h`` for some e > 0 and h >= 1, then F maps that interval into
    itself and the fixed point lies in it. Both inequalities are checked, with room for rounding; see ``_lives`` for h.
    Where all means are maxima, ``longest_path`` finds and proves it. A form may have a way of its own: ``op.limit``.

    Args:
        op: stationary, with a discount below 1.

    Raises:
        NotConvergedError: there is no fixed point in reach: under POSTERIOR, positive rewards can outweigh the chance
            of ending, and the evidence is then infinite; or no bound below the size of the values could be proved.
    """
    with working(f"{op.rule}, backups to the fixed point"):
        points = [_of_part(part) for part in op.parts]
    bounds = [point.error_bound for point in points]
    if len(points) > 1:  # a start value is an average of v, in a sum of several
        bounds = [bound + Rounding(0.0, 0.0)(point.v) for bound, point in zip(bounds, points, strict=True)]
    v = tuple(point.v for point in points) if len(points) > 1 else points[0].v
    return FixedPoint(v, max(point.iterations for point in points), sum(bounds))


def _of_part(op: Operator) -> FixedPoint:
    own: FixedPoint | None = op.limit()
    return _by_backups(op) if own is None else own


def _by_backups(op: Operator) -> FixedPoint:
    search = Search(op)
    start = torch.zeros_like(op.terminal()).contiguous()
    if is_maximum(op.rule.over_outcomes):  # from 0 it would fall slowly where steps cost
        start = torch.full_like(start, -torch.inf)
    if is_path(op.rule):
        what = f"{op.rule} with γ = {op.model.discount:g}"
        v, bound = longest_path(search.backup, start, search.rounding, what)
        return FixedPoint(v, search.backups, bound)
    v = _settled(search, start)
    bound = _proved_bound(search, v)
    return FixedPoint(v, search.backups, bound)


def _settled(search: Search, start: Tensor) -> Tensor:
    """Return v that one more backup changes by its rounding at most."""
    anderson = Anderson(search.backup, start)
    earlier, steps = float("inf"), 1
    while anderson.best.size > search.rounding(anderson.best.fx):
        if search.backups >= MOST:
            raise _gave_up(search, anderson)
        if steps % PATIENCE == 0:
            if anderson.best.size > 0.9995 * earlier:
                raise _gave_up(search, anderson)
            earlier = anderson.best.size
        if steps % WARM_UP == 0:
            polished = _newton(search, anderson.best.fx)
            anderson = anderson if polished is None else Anderson(search.backup, polished)
        anderson.advance()
        steps += 1
    return anderson.best.fx


def _gave_up(search: Search, anderson: Anderson) -> NotConvergedError:
    seen = f"a change of {anderson.best.size:.3g} at best in {search.backups:,} backups"
    return _no_answer(search, f"{seen}, values up to {largest(anderson.last.fx):.3g}")


def _no_answer(search: Search, seen: str) -> NotConvergedError:
    cause = "a discount too close to 1"
    if not search.op.rule.averages:
        cause = "rewards that outweigh the chance 1-γ of ending, so that the answer is infinite"
        cause += " (a higher temperature, VARIATIONAL or a finite horizon has one)"
    return NotConvergedError(f"{search.op.rule} with γ = {search.op.model.discount:g}: {seen}; likely {cause}")


def _newton(search: Search, v: Tensor) -> Tensor | None:
    """Take Newton steps while they bring F(v) - v down; return the last v that they did, None in large worlds."""
    if search.op.chain(v) is None:
        return None
    change = gap(search.backup(v), v)
    for _ in range(50):
        chain = search.op.chain(v)
        assert chain is not None
        try:
            better = v + life_to_come(chain, change)
        except NotConvergedError:
            return v
        change_better = gap(search.backup(better), better)
        if not float(change_better.abs().max()) < float(change.abs().max()):
            return v
        v, change = better, change_better
    return v


def _proved_bound(search: Search, v: Tensor) -> float:
    life, slack = 1.01 * _lives(search, v), search.rounding(v)
    e = 4 * max(float(gap(search.backup(v), v).abs().max()), slack)
    for _ in range(20):
        above, below = v + e * life, v - e * life
        rises = (search.backup(above) + slack > above).any()
        falls = (search.backup(below) - slack < below).any()
        if not rises and not falls and e * float(life.max()) <= search.rounding.size(v):
            return e * float(life.max())
        e *= 2
    raise _no_answer(search, f"no bound up to {e * float(life.max()):.3g} could be proved")


def _lives(search: Search, v: Tensor) -> Tensor:
    """Return h >= 1 with ``h - J h >= 1``, J the derivative of F at v: no shorter than the expected remaining life.

    1/(1-γ) where outcomes are averaged, for then J loses 1-γ whatever the actions. Otherwise ``h = 1 + J h``: solved
    in small worlds, in large ones brought within 1/4 by backups, ``J h ≈ (F(v + ε h) - F(v))/ε``, and stretched.
    """
    if search.op.rule.averages:
        return torch.full_like(v, 1 / float(search.op.model.log_survival[1].exp()))
    once, chain = torch.ones_like(v), search.op.chain(v)
    if chain is not None:
        life = life_to_come(chain, once)
        if bool((life >= 1 - 1e-9).all()):  # else J has no finite lifetime: v is no attracting fixed point
            return life.clamp(min=1)
    else:
        anderson = Anderson(lambda h: once + _pull(search, v, h), once)
        for _ in range(PATIENCE):
            if anderson.best.size < 0.25:
                return anderson.best.x / 0.75
            anderson.advance()
    raise _no_answer(search, "the expected remaining life is not finite, and no bound can be proved")


def _pull(search: Search, v: Tensor, h: Tensor) -> Tensor:
    small = 1e-6 * search.rounding.size(v) / float(h.abs().max())
    return gap(search.backup(v + small * h), v) / small
