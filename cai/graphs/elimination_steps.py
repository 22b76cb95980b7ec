"""How a backward message entangles: the elimination of one slice, step by step, as the engine plans it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from cai.compile.factor_model import Factor, Factors
from cai.compile.factorise import factorise
from cai.errors import require_time
from cai.exact.factors.cases import by_action
from cai.exact.factors.elimination import Node, planned
from cai.exact.factors.prepared_slice import PreparedSlice
from cai.exact.factors.reduction import reduction
from cai.world.definition import World


@dataclass(frozen=True)
class Step:
    """One step: the message is multiplied by a factor, and variables that no later factor reads are summed out.

    Attributes:
        factor: log p(x|parents), the last variable of its scope is x.
        summed: the variables that are summed out.
        scope: the variables of the message after the step.
        size: how many numbers that message holds, for one action.
        shared: for how many joint actions at once the step is done.
    """

    factor: Factor
    summed: tuple[str, ...]
    scope: tuple[str, ...]
    size: int
    shared: int = 1

    @property
    def applied(self) -> str:
        """The factor in words, such as ``p(x'|x, a)``."""
        *parents, own = self.factor.scope
        return f"p({own}|{', '.join(parents)})" if parents else f"p({own})"

    def __str__(self) -> str:
        gone = f"sums out {', '.join(self.summed)}" if self.summed else "sums out nothing"
        return f"{self.applied} {gone}, leaves {', '.join(self.scope) or 'a number'}: {self.size:,} numbers"


def elimination_trace(factors: World | Factors, t: int = 0) -> list[Step]:
    """Return the steps of one backup by variable elimination, and the variables that the message couples at each.

    The message starts as ``x(s')``, over all next-state variables. Each step multiplies it by one factor and sums out
    ``m ← Σ_w m · p(x|parents)`` the variables w that no later factor reads. The parents of the factor join the message.
    This is the order of a backup under VARIATIONAL for the first joint action; steps that other actions share come
    first. Rewards are left out, because their means are computed separately. A solve may also sum out latents before
    the message arrives, where that costs less; this is not shown.

    Args:
        factors: what ``cai.factorise`` returns, or a world that it takes.
        t: the time of the slice.

    Raises:
        WorldError: there is no such time, or the world is not valid.
        IntractableError: the world cannot be factorised.

    Source: variable elimination and its induced graph, Koller & Friedman (2009), Probabilistic Graphical Models,
    chapter 9.
    """
    world = factorise(factors)
    plan = PreparedSlice(world.variables, world.at(require_time("elimination_trace, t", t, world.horizon)))
    sizes = plan.sizes
    applied = [_in_order(factor, sizes) for factor in plan.slice.chance.values()]
    steps: list[Step] = []
    message = set(plan.following)
    cases = [by_action(factor, world.actions) for factor in plan.slice.chance.values()]
    tree = planned(reduction(cases, (), sizes), sizes, plan.following, world.states.names, world.actions.size)
    for node in _path(tree.root, 0):
        shared = len(node.actions) if node.parts else 1  # the actions of a leaf have an axis of the message each
        for i, scope in zip(node.order, node.scopes, strict=True):
            summed = tuple(name for name in sizes if name in (message | _random(applied[i], plan)) - set(scope))
            size = prod(sizes[name] for name in scope)
            steps.append(Step(applied[i], summed, scope, size, shared))
            message = set(scope)
    return steps


def _in_order(factor: Factor, names: Iterable[str]) -> Factor:
    """Return a conditional distribution with its parents in the order of the slice: states, actions, latents."""
    parents = tuple(name for name in names if name in factor.scope[:-1])
    scope = (*parents, factor.scope[-1])
    return Factor(scope, factor.table.permute([factor.scope.index(name) for name in scope]))


def _random(factor: Factor, plan: PreparedSlice) -> set[str]:
    """Return the variables of a factor that a message can hold: all but the actions, which are given."""
    return set(factor.scope) - set(plan.actions.names)


def _path(node: Node, action: int) -> Iterator[Node]:
    """Yield the nodes from the root to the leaf of an action."""
    yield node
    for part in node.parts:
        if action in part.actions:
            yield from _path(part, action)
