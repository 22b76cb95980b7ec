"""Variable elimination with the work shared between actions: the plan, found once, and its execution.

A backup needs, for every action a, ``Σ_{w, s'} Π_i f_i(·|a) x(s')``. Most factors do not see the action, or see only
whether it is theirs. So the actions are split in halves, again and again; before each split everything that is the
same for all actions of the node is summed out, and so is done once for all of them. The last few actions of a leaf are
an axis of their own, ``ACTION``.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.exact.algebra import Algebra, aligned, summed
from cai.factors import Factor
from cai.types import Space

ACTION = "#"
"""The axis of the actions of one leaf."""
LEAF = 1 << 22
"""Numbers that the message of a leaf may hold, its actions together."""
GATHERED = 1 << 14
"""Joint states from which on a message is brought into their order by a gather."""
TRIALS = 16
"""Orders that are tried before the cheapest is taken."""


@dataclass(frozen=True)
class Cases:
    """A factor by joint action: the distinct tables that it has, and which of them each action sees.

    Attributes:
        scope: its variables but for the actions.
        tables: ``[C, *scope]``.
        case: which table each joint action sees, ``[A]``.
    """

    scope: tuple[str, ...]
    tables: Tensor
    case: Tensor


@dataclass(frozen=True)
class Node:
    """A set of actions, what is summed out for all of them at once, and the halves they are split into.

    Attributes:
        actions: joint action numbers.
        order: the factors that are applied here, in this order.
        scopes: the scope of the message after each of them.
        halves: the nodes that go on from here; none at a leaf.
    """

    actions: tuple[int, ...]
    order: tuple[int, ...]
    scopes: tuple[tuple[str, ...], ...]
    halves: tuple["Node", ...] = ()


@dataclass(frozen=True)
class Cost:
    """What one backup takes: multiplications, and the most numbers held at a time."""

    work: float
    peak: float


def by_action(factor: Factor, actions: Space) -> Cases:
    """Split a factor by joint action, equal tables once."""
    own = [name for name in factor.scope if name in actions.names]
    rest = tuple(name for name in factor.scope if name not in actions.names)
    table = aligned(factor, (*own, *rest))
    if not own:
        return Cases(rest, table.unsqueeze(0), torch.zeros(actions.size, dtype=torch.long))
    values = actions.split(torch.arange(actions.size))
    index = torch.zeros(actions.size, dtype=torch.long)
    for name in own:
        index = index * factor.table.shape[factor.scope.index(name)] + values[name].long()
    rows = table.flatten(0, len(own) - 1)
    if table.requires_grad:
        return Cases(rest, rows, index)
    distinct, inverse = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    return Cases(rest, distinct.reshape(-1, *rows.shape[1:]), inverse[index])


class Eliminator:
    """The plan for one slice, and its execution in any algebra.

    Args:
        cases: the factors, by action.
        sizes: of every variable.
        following: the variables of the incoming message, s'.
        states: the variables that stay, s.
        actions: how many joint actions there are.
    """

    def __init__(
        self,
        cases: Sequence[Cases],
        sizes: Mapping[str, int],
        following: tuple[str, ...],
        states: tuple[str, ...],
        actions: int,
    ) -> None:
        self.cases, self.sizes, self.following, self.states = tuple(cases), dict(sizes), following, states
        self.shape = tuple(self.sizes[name] for name in states)
        self.count = actions
        whole = self._order(following, range(len(cases)), states)
        place = {factor: i for i, factor in enumerate(whole[0])}
        usual = [int(torch.mode(one.case).values) for one in self.cases]

        def peculiar(action: int) -> tuple[int, ...]:
            return tuple(sorted(place[i] for i, one in enumerate(self.cases) if int(one.case[action]) != usual[i]))

        ranked = sorted(range(actions), key=peculiar)
        self.root = self._node(ranked, following, tuple(range(len(cases))))

    def _node(self, actions: list[int], message: tuple[str, ...], left: tuple[int, ...]) -> Node:
        """Plan for these actions: the message has this scope, and these factors are left to be applied."""
        rest, scopes = self._order(message, left, self.states)
        peak = max((math.prod(self.sizes[name] for name in scope) for scope in scopes), default=1)
        if len(actions) == 1 or len(actions) * max(peak, math.prod(self.shape)) <= LEAF:
            return Node(tuple(actions), rest, scopes)
        rows = torch.tensor(actions)
        common = [i for i in left if bool((self.cases[i].case[rows] == self.cases[i].case[actions[0]]).all())]
        others = {name for i in left if i not in common for name in self.cases[i].scope}
        # Only what can be summed out here is worth applying here: anything else would make the message grow.
        ready = [i for i in common if set(self.cases[i].scope) - others - set(self.states)]
        needed = tuple(dict.fromkeys((*self.states, *(n for i in left if i not in ready for n in self.cases[i].scope))))
        order, here = self._order(message, ready, needed)
        after = here[-1] if here else message
        left = tuple(i for i in left if i not in ready)
        middle = len(actions) // 2
        halves = tuple(self._node(part, after, left) for part in (actions[:middle], actions[middle:]))
        return Node(tuple(actions), order, here, halves)

    def _order(
        self, message: tuple[str, ...], factors: Sequence[int], keep: tuple[str, ...]
    ) -> tuple[tuple[int, ...], tuple[tuple[str, ...], ...]]:
        """Find an order in which the factors are applied to the message, and its scope after each.

        Greedy for the smallest next message, ties by lot; of several such orders the cheapest is taken.
        """
        best: tuple[float, tuple[int, ...], tuple[tuple[str, ...], ...]] | None = None
        for trial in range(TRIALS if len(factors) > 1 else 1):
            found = self._greedy(message, factors, keep, random.Random(trial))
            if best is None or found[0] < best[0]:
                best = found
        assert best is not None
        return best[1:]

    def _greedy(
        self, message: tuple[str, ...], factors: Sequence[int], keep: tuple[str, ...], lot: random.Random
    ) -> tuple[float, tuple[int, ...], tuple[tuple[str, ...], ...]]:
        users: dict[str, int] = {}
        for i in factors:
            for name in self.cases[i].scope:
                users[name] = users.get(name, 0) + 1
        kept, left, scope = set(keep), list(factors), set(message)
        work, order, scopes = 0.0, [], []

        def after(i: int) -> set[str]:
            own = self.cases[i].scope
            return {n for n in scope.union(own) if n in kept or users.get(n, 0) - (n in own) > 0}

        while left:
            sized = [(self.numbers(after(i)), lot.random(), i) for i in left]
            i = min(sized)[2]
            work += self.numbers(scope.union(self.cases[i].scope))
            scope = after(i)
            for name in self.cases[i].scope:
                users[name] -= 1
            left.remove(i)
            order.append(i)
            scopes.append(tuple(sorted(scope)))
        return work, tuple(order), tuple(scopes)

    def numbers(self, scope: set[str]) -> float:
        """Return how many numbers a table over these variables holds."""
        return math.prod(self.sizes.get(name, 1) for name in scope)

    def cost(self, node: Node | None = None, message: tuple[str, ...] | None = None) -> Cost:
        """Predict the work and the memory of one pass."""
        node, scope = node or self.root, set(message or self.following)
        many = len(node.actions) if not node.halves else 1
        work, peak = 0.0, self.numbers(scope)
        for i, after in zip(node.order, node.scopes, strict=True):
            work += many * self.numbers(scope.union(self.cases[i].scope))
            peak = max(peak, many * self.numbers(scope) + many * self.numbers(set(after)))
            scope = set(after)
        below = [self.cost(half, tuple(scope)) for half in node.halves]
        own = self.numbers(scope)
        return Cost(work + sum(one.work for one in below), max([peak, *(own + one.peak for one in below)]))

    def ready(self, algebra: Algebra, tables: Sequence[Tensor]) -> "Pass":
        """Return the pass for given tables, ``[C, *scope]`` for each factor, in the terms of the algebra."""
        return Pass(self, algebra, tables)


class Pass:
    """``x -> Σ_{w, s'} Π f(·|a) x(s')`` for every action: an eliminator with its tables, small products made once."""

    def __init__(self, plan: Eliminator, algebra: Algebra, tables: Sequence[Tensor]) -> None:
        self.plan, self.algebra = plan, algebra
        self.blocks: dict[int, list[tuple[Factor, tuple[str, ...]]]] = {}
        self.places: dict[tuple[str, ...], Tensor] = {}
        self._prepare(plan.root, plan.following, tables)

    def __call__(self, message: Tensor) -> Tensor:
        """Return the sums, ``[A, *s]``, of a message over the next-state variables, one axis each."""
        out = message.new_empty(self.plan.count, *self.plan.shape)
        self._run(self.plan.root, Factor(self.plan.following, message), out)
        return out

    def _run(self, node: Node, message: Factor, out: Tensor) -> None:
        for small, keep in self.blocks[id(node)]:
            message = self.algebra.combine(message, small, keep)
        for half in node.halves:
            self._run(half, message, out)
        if not node.halves:
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
            if not known.issuperset(small.scope):  # what neither the message nor a later factor knows
                small = summed(self.algebra, small, tuple(name for name in small.scope if name in known))
            message = self._layout(message, small.scope, scope)
            blocks.append((small, message))
        for half in node.halves:
            self._prepare(half, message, tables)

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
        rest = (*open_, *done) if self.plan.numbers(set(done)) > self.plan.numbers(set(open_)) else (*done, *open_)
        return (*shared, *added, *rest)

    def _group(self, steps: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]]:
        """Take the next factor, and those after it whose product with it is still small."""
        group = [steps.pop(0)]
        scope = set(self.plan.cases[group[0][0]].scope)
        while steps:
            scope = scope.union(self.plan.cases[steps[0][0]].scope)
            if self.plan.numbers(scope) > self.algebra.merges:
                break
            group.append(steps.pop(0))
        return group

    def _table(self, i: int, node: Node, tables: Sequence[Tensor]) -> Factor:
        one = self.plan.cases[i]
        seen = one.case[torch.tensor(node.actions)]
        if bool((seen == seen[0]).all()):
            return Factor(one.scope, tables[i][seen[0]])
        return Factor((ACTION, *one.scope), tables[i][seen])
