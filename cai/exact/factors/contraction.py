"""Carry out a plan of variable elimination, in any algebra."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, aligned
from cai.exact.factors.algebra import Algebra, summed
from cai.exact.factors.elimination import ACTION, Node, Plan

GATHERED = 1 << 14
"""Joint states from which on a message is brought into their order by a gather."""


class Contraction:
    """``x -> Σ_{w, s'} Π f(·|a) x(s')`` for every action: a plan with its tables, small products made once."""

    def __init__(self, plan: Plan, algebra: Algebra, tables: Sequence[Tensor]) -> None:
        """Take the tables of every factor of the slice, ``[C, *scope]``, in the terms of the algebra."""
        self.plan, self.algebra = plan, algebra
        self.blocks: dict[int, list[tuple[Factor, tuple[str, ...]]]] = {}
        self.places: dict[tuple[str, ...], Tensor] = {}
        self._prepare(plan.root, plan.following, plan.reduction(algebra, tables))

    def __call__(self, message: Tensor) -> Tensor:
        """Return the sums, ``[A, *s]``, of a message over the next-state variables, one axis each."""
        out = message.new_empty(self.plan.actions, *self.plan.shape)
        self._run(self.plan.root, Factor(self.plan.following, message), out)
        return out

    def _run(self, node: Node, message: Factor, out: Tensor) -> None:
        for small, keep in self.blocks[id(node)]:
            message = self.algebra.combine(message, small, keep)
        for part in node.parts:
            self._run(part, message, out)
        if not node.parts:
            self._write(node, message, out)

    def _write(self, node: Node, message: Factor, out: Tensor) -> None:
        """Write a leaf's message, its axes in the order of the states, into the rows of its actions."""
        scope, shape = self.plan.states, self.plan.shape
        inner = tuple(name for name in message.scope if name != ACTION)
        by_action = aligned(message, (ACTION, *inner))
        for i, action in enumerate(node.actions):
            row = by_action[i if by_action.shape[0] > 1 else 0]
            if out[action].numel() < GATHERED:
                out[action] = aligned(Factor(inner, row), scope).expand(shape)
            else:  # many axes of two values each: a gather is several times faster than torch's own permuting copy
                out[action].view(-1)[:] = row.reshape(-1).index_select(0, self._place(inner, row))

    def _place(self, inner: tuple[str, ...], row: Tensor) -> Tensor:
        """Return where each joint state lies in a message of this scope, ``[S]``."""
        if inner not in self.places:
            numbers = torch.arange(row.numel(), dtype=torch.int32).reshape(row.shape)
            spread = aligned(Factor(inner, numbers), self.plan.states).expand(self.plan.shape)
            self.places[inner] = spread.reshape(-1)
        return self.places[inner]

    def _prepare(self, node: Node, message: tuple[str, ...], tables: Sequence[Tensor]) -> None:
        self.blocks[id(node)] = blocks = []
        steps = list(zip(node.order, node.scopes, strict=True))
        while steps:
            group = self._group(steps)
            scope, small = group[-1][1], self._table(group[0][0], node, tables)
            for i, _ in group[1:]:
                both = tuple(dict.fromkeys((*small.scope, *self.plan.cases[i].scope, ACTION)))
                small = self.algebra.combine(small, self._table(i, node, tables), both)
            known = {ACTION, *scope, *message}
            if not known.issuperset(small.scope):  # variables that neither the message nor a later factor reads
                small = summed(self.algebra, small, tuple(name for name in small.scope if name in known))
            message = self._layout(message, small.scope, scope)
            blocks.append((small, message))
        for part in node.parts:
            self._prepare(part, message, tables)

    def _layout(self, message: tuple[str, ...], small: tuple[str, ...], kept: tuple[str, ...]) -> tuple[str, ...]:
        """Order the axes of the next message as the matrix product leaves them, so that little has to be moved.

        What both know, what the small table adds, what the message had: of the last, the larger of what is done with
        and what is still to be summed out lies at the end, in one piece.
        """
        kept = (ACTION, *kept)
        shared = [name for name in message if name in small and name in kept]
        added = [name for name in small if name not in message and name in kept]
        had = [name for name in message if name not in small and name in kept]
        done = [name for name in had if name in self.plan.states]
        open_ = [name for name in had if name not in self.plan.states]
        rest = (*open_, *done) if self._numbers(done) > self._numbers(open_) else (*done, *open_)
        return (*shared, *added, *rest)

    def _numbers(self, names: Sequence[str]) -> float:
        orders = self.plan.orders
        return orders.numbers(orders.mask([name for name in names if name != ACTION]))

    def _group(self, steps: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]]:
        """Take the next factor, and those after it whose product with it is still small."""
        group = [steps.pop(0)]
        orders = self.plan.orders
        scope = orders.scopes[group[0][0]]
        while steps:
            scope |= orders.scopes[steps[0][0]]
            if orders.numbers(scope) > self.algebra.merges:
                break
            group.append(steps.pop(0))
        return group

    def _table(self, i: int, node: Node, tables: Sequence[Tensor]) -> Factor:
        cases = self.plan.cases[i]
        seen = cases.case[torch.tensor(node.actions)]
        if bool((seen == seen[0]).all()):
            return Factor(cases.scope, tables[i][seen[0]])
        return Factor((ACTION, *cases.scope), tables[i][seen])
