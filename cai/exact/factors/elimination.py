"""Variable elimination with the work shared between actions: the plan, found once for each slice.

A backup needs, for every action a, ``Σ_{w, s'} Π_i f_i(·|a) x(s')``. Most factors do not depend on the action, or
differ for one action only. So the actions are split in two, again and again. Before each split, everything that is the
same for all actions of the node is summed out, once for all of them. The last few actions of a leaf share an axis,
``ACTION``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cai.exact.cost import Cost
from cai.exact.factors.cases import Cases
from cai.exact.factors.ordering import Order, Orders
from cai.exact.factors.reduction import Reduction, reduction

ACTION = "#"
"""The axis of the actions of one leaf."""
LEAF = 1 << 22
"""Numbers that the message of a leaf may hold, its actions together."""
MANY = 40
"""Actions up to which every place to split them is weighed; more are halved."""
TRIES = 4
"""Orders of the whole slice that are tried, each a way to line the actions up."""


@dataclass(frozen=True)
class Node:
    """A set of actions, what is summed out for all of them at once, and the two sets they are split into.

    Attributes:
        actions: joint action numbers.
        order: the factors that are applied here, in this order.
        scopes: the scope of the message after each of them.
        parts: the nodes that go on from here; none at a leaf.
        cost: of this node and those below it.
    """

    actions: tuple[int, ...]
    order: tuple[int, ...]
    scopes: tuple[tuple[str, ...], ...]
    parts: tuple["Node", ...]
    cost: "Cost"


@dataclass(frozen=True)
class _State:
    """Where a set of actions stands once all that is common to them is summed out."""

    message: int
    left: tuple[int, ...]


class Planner:
    """Finds the tree of actions that costs least.

    Args:
        cases: the factors, by action.
        orders: of the same factors.
        following, states: the variables of the incoming message, and those that stay.
        ranked: the actions, neighbours alike; a set of actions is a piece of this line.
    """

    def __init__(
        self, cases: Sequence[Cases], orders: Orders, following: int, states: int, ranked: Sequence[int]
    ) -> None:
        self.orders, self.following, self.states, self.ranked = orders, following, states, tuple(ranked)
        self.factors = range(len(cases))
        self.case = [factor.case[torch.tensor(self.ranked)].tolist() for factor in cases]
        self._states: dict[tuple[int, int], _State] = {}
        self._nodes: dict[tuple[int, int], Node] = {}

    def plan(self) -> Node:
        """Return the root: all actions, and the plain message."""
        state = self._at(0, len(self.ranked))
        return self._node(0, len(self.ranked), _State(self.following, tuple(self.factors)), state)

    def _node(self, i: int, j: int, before: _State, state: _State) -> Node:
        """Return the node for the actions from i to j: from the state before it, through its own, to its leaves."""
        applied = [f for f in before.left if f not in state.left]
        order = self._apply(before, applied)
        below = self._below(i, j)
        own = self.orders.numbers(state.message)
        cost = Cost(order.work + below.cost.work, max(order.peak, own + below.cost.peak))
        return Node(self.ranked[i:j], order.factors, self._scopes(order), below.parts or (below,), cost)

    def _below(self, i: int, j: int) -> Node:
        """Return the best way on from the state of the actions from i to j."""
        if (i, j) not in self._nodes:
            state = self._at(i, j)
            leaf = self._leaf(i, j, state)
            self._nodes[i, j] = leaf if self._small(leaf, j - i) else self._split(i, j, state)
        return self._nodes[i, j]

    def _split(self, i: int, j: int, state: _State) -> Node:
        places = range(i + 1, j) if len(self.ranked) <= MANY else [(i + j) // 2]
        best: Node | None = None
        for m in places:
            parts = tuple(self._node(a, b, state, self._at(a, b)) for a, b in ((i, m), (m, j)))
            cost = Cost(sum(part.cost.work for part in parts), max(part.cost.peak for part in parts))
            if best is None or cost.work < best.cost.work:
                best = Node(self.ranked[i:j], (), (), parts, cost)
        assert best is not None
        return best

    def _leaf(self, i: int, j: int, state: _State) -> Node:
        order, many = self.orders.best(state.message, state.left, self.states, 2), j - i
        return Node(
            self.ranked[i:j], order.factors, self._scopes(order), (), Cost(many * order.work, many * order.peak)
        )

    def _small(self, leaf: Node, many: int) -> bool:
        return many == 1 or max(leaf.cost.peak, many * self.orders.numbers(self.states)) <= LEAF

    def _at(self, i: int, j: int) -> _State:
        """Return the state of the actions from i to j: it does not depend on the way there."""
        if (i, j) not in self._states:
            common = [f for f in self.factors if len(set(self.case[f][i:j])) == 1]
            differing = self.orders.union([f for f in self.factors if f not in common])
            # Apply here only what can also be summed out here: anything else would make the message grow.
            ready = [f for f in common if self.orders.scopes[f] & ~differing & ~self.states]
            left = tuple(f for f in self.factors if f not in ready)
            known = self.following | self.orders.union(ready)
            self._states[i, j] = _State(known & (self.states | self.orders.union(left)), left)
        return self._states[i, j]

    def _apply(self, state: _State, factors: Sequence[int]) -> Order:
        left = [f for f in state.left if f not in factors]
        return self.orders.best(state.message, factors, self.states | self.orders.union(left), 2)

    def _scopes(self, order: Order) -> tuple[tuple[str, ...], ...]:
        return tuple(self.orders.variables(mask) for mask in order.after)


@dataclass(frozen=True)
class Plan:
    """The plan for one slice.

    Attributes:
        reduction: what is summed out before a message comes.
        cases: the factors that are left, by action.
        following, states: the variables of the incoming message, and those that stay.
        shape: the sizes of the states.
        actions: how many joint actions there are.
        root: the tree.
    """

    reduction: Reduction
    cases: tuple[Cases, ...]
    orders: Orders
    following: tuple[str, ...]
    states: tuple[str, ...]
    shape: tuple[int, ...]
    actions: int
    root: Node

    @property
    def cost(self) -> Cost:
        """What one backup takes, what is done before it among it."""
        before, after = self.reduction.cost, self.root.cost
        return Cost(before.work + after.work, max(before.peak, after.peak))


def plan(
    cases: Sequence[Cases], sizes: dict[str, int], following: tuple[str, ...], states: tuple[str, ...], actions: int
) -> Plan:
    """Plan the elimination for one slice: latents before the message or after it, whichever costs less."""
    seen = {name for factor in cases for name in factor.scope}
    latents = seen - {*following, *states}
    ways = [reduction(cases, (), sizes)]
    if latents:
        ways.append(reduction(cases, latents, sizes))
    plans = [planned(way, sizes, following, states, actions) for way in ways if way.steps or way is ways[0]]
    return min(plans, key=lambda way: way.cost.work)


def planned(
    before: Reduction, sizes: dict[str, int], following: tuple[str, ...], states: tuple[str, ...], actions: int
) -> Plan:
    """Plan what is left: the actions in the order in which a whole pass meets what sets them apart.

    Several such orders are tried, and the tree that costs least is taken.
    """
    cases = before.left
    orders = Orders([factor.scope for factor in cases], sizes)
    ahead, here = orders.mask(following), orders.mask(states)
    usual = [int(torch.mode(factor.case).values) for factor in cases]
    differing = [[i for i, factor in enumerate(cases) if int(factor.case[a]) != usual[i]] for a in range(actions)]
    best: Node | None = None
    seen: set[tuple[int, ...]] = set()
    for n in range(TRIES if actions > 1 else 1):
        line = orders.nth(ahead, range(len(cases)), here, n).factors
        place = {factor: i for i, factor in enumerate(line)}
        ranked = sorted(range(actions), key=lambda a: sorted(place[i] for i in differing[a]))
        if tuple(ranked) in seen:
            continue
        seen.add(tuple(ranked))
        candidate = Planner(cases, orders, ahead, here, ranked).plan()
        if best is None or candidate.cost.work < best.cost.work:
            best = candidate
        if len(best.parts) == 1:  # nothing is split: another line of the actions would not matter
            break
    assert best is not None
    shape = tuple(sizes[name] for name in states)
    return Plan(before, cases, orders, following, states, shape, actions, best)
