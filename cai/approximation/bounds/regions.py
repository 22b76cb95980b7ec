"""Parts of a world set free of each other: a few state variables each, the rest of the world chosen by the controller.

A region has a core of state variables, whose dynamics it keeps, and reads others, its outside, which are any values that
the controller likes. Its states are those that the start leads to, listed one by one; so that sixteen squares of which
one is taken are sixteen states and not 2^16.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cai.approximation.bounds.backprojection import Outcomes
from cai.compile.factor_model import Factor, Factors, aligned, primed

Numbers = np.ndarray[Any, Any]
Known = dict[str, Numbers]
"""Values of variables, ``[N]`` each."""


class TooLargeError(Exception):
    """A region has more choices than it may."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a world; a choice is a state of the core, a class of actions and values of the outside, in that order.

    Attributes:
        core, outside: state variables.
        kinds: the class of each joint action, ``[A]``: those of one class do the same to this region.
        choices: the values of core, outside, and of one joint action of the class (as ``ACTION``), ``[S·C·O]`` each.
        shape: (S, C, O).
        outcomes: p(next core state|choice), sparse: choice, state and probability.
        start: p(core state at time 0), ``[S]``.
        states: the values of the core, ``[S]`` each.
    """

    core: tuple[str, ...]
    outside: tuple[str, ...]
    kinds: Numbers
    choices: Known
    shape: tuple[int, int, int]
    outcomes: tuple[Numbers, Numbers, Numbers]
    start: Numbers
    states: Known

    @property
    def scope(self) -> tuple[str, ...]:
        """Core and outside."""
        return (*self.core, *self.outside)


ACTION = "#action"
"""The number of a joint action."""


class Parts:
    """Finds regions of a stationary world of factors."""

    def __init__(self, factors: Factors) -> None:
        slice_, self.factors = factors.at(0), factors
        self.outcomes = Outcomes(slice_.chance, factors.sizes)
        barred = [
            Factor(prior.scope, prior.table.where(prior.table == -np.inf, prior.table.new_zeros(())))
            for prior in slice_.prior.values()
            if bool((prior.table == -np.inf).any())
        ]
        self.rewards = [self.outcomes.expectation(piece) for piece in (*slice_.reward, *barred)]
        self.kinds = {name: self._kinds(factor) for name, factor in slice_.chance.items()}

    @cached_property
    def actions(self) -> Known:
        """The value of each action variable, by joint action."""
        import torch

        every = self.factors.actions.split(torch.arange(self.factors.actions.size))
        return {name: value.numpy() for name, value in every.items()}

    def _kinds(self, factor: Factor) -> Numbers:
        """Return which joint actions a table tells apart, ``[A]``."""
        actions = self.factors.actions
        rest = tuple(name for name in factor.scope if name not in actions.names)
        table = aligned(factor, (*actions.names, *rest))
        table = table.expand(*actions.sizes, *table.shape[len(actions.sizes) :]).reshape(actions.size, -1)
        return np.unique(table.numpy(), axis=0, return_inverse=True)[1].ravel()

    def states_of(self, scope: Iterable[str]) -> tuple[str, ...]:
        """Return the state variables of a scope, in their order."""
        wanted = set(scope)
        return tuple(name for name in self.factors.states.names if name in wanted)

    def parents(self, core: Iterable[str]) -> set[str]:
        """Return the state variables that decide the next core."""
        return set(self.states_of(self.outcomes.given(tuple(map(primed, core)))))

    def closure(self, names: Iterable[str]) -> set[str]:
        """Return the least set with these that decides its own next values."""
        found = set(names)
        while not (more := self.parents(found)) <= found:
            found |= more
        return found

    def told_apart(self, core: Iterable[str], scope: Iterable[str]) -> Numbers:
        """Return the class of each joint action."""
        seen, inside = set(scope), set(core)
        every = [self.kinds[name] for x in scope for name in self.outcomes.ancestors((primed(x),))]
        every += [self._kinds(piece) for piece in self.rewards if set(self.states_of(piece.scope)) <= inside]
        del seen
        if not every:
            return np.zeros(self.factors.actions.size, dtype=np.int64)
        return np.unique(np.stack(every), axis=1, return_inverse=True)[1].ravel()

    def region(self, names: Iterable[str], most: int) -> Region:
        """List the states of a core that the start leads to, and all that may follow.

        Raises:
            TooLargeError: it has more than ``most`` choices.
        """
        factors, core = self.factors, self.states_of(names)
        if np.prod([float(factors.sizes[name]) for name in core]) > 2**62:
            raise TooLargeError
        outside = self.states_of(self.parents(core) - set(core))
        O = float(np.prod([float(factors.sizes[name]) for name in outside]))
        kinds = self.told_apart(core, (*core, *outside))
        _, picks = np.unique(kinds, return_index=True)
        C = len(picks)
        if O * C > most:
            raise TooLargeError
        chance = self._chance(self.factors.at(0).chance, tuple(map(primed, core)))
        first = self._chance(factors.initial, core)
        known, weight, _ = spread({}, np.ones(1), first, most)
        start_keys = self._keys(known, core)
        keys, parts, n = np.unique(start_keys), list[Any](), 0
        seen = keys
        while len(keys):
            if (n + len(keys)) * O * C > most:
                raise TooLargeError
            choices = self._choices(keys, core, outside, picks)
            after, p, source = spread(choices, np.ones(len(choices[ACTION])), chance, 16 * most)
            ahead = self._keys({name: after[primed(name)] for name in core}, core, len(p))
            parts.append((choices, source + n * C * int(O), ahead, p))
            n += len(keys)
            keys = np.setdiff1d(ahead, seen)
            seen = np.concatenate([seen, keys])
        order = np.argsort(seen, kind="stable")
        number = lambda key: order[np.searchsorted(seen, key, sorter=order)]  # noqa: E731
        start = np.bincount(number(start_keys), weights=weight, minlength=n)
        choices = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        source, ahead, p = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
        shape = (n, C, int(O))
        return Region(core, outside, kinds, choices, shape, (source, number(ahead), p), start, self._values(seen, core))

    def _chance(self, chance: Mapping[str, Factor], scope: Sequence[str]) -> list[tuple[str, Factor]]:
        names = set(Outcomes(chance, self.factors.sizes).ancestors(tuple(scope)))
        return [(name, factor) for name, factor in chance.items() if name in names]

    def _keys(self, values: Known, core: Sequence[str], n: int = 1) -> Numbers:
        key = np.zeros(n, dtype=np.int64)
        for name in core:
            key = key * self.factors.sizes[name] + values[name]
        return key

    def _values(self, keys: Numbers, core: Sequence[str]) -> Known:
        values: Known = {}
        for name in reversed(core):
            values[name] = keys % self.factors.sizes[name]
            keys = keys // self.factors.sizes[name]
        return values

    def _choices(self, keys: Numbers, core: Sequence[str], outside: Sequence[str], picks: Numbers) -> Known:
        O = int(np.prod([self.factors.sizes[name] for name in outside], dtype=np.int64))
        n, C = len(keys), len(picks)
        choices = {name: value.repeat(C * O) for name, value in self._values(keys, core).items()}
        choices |= {name: np.tile(value, n * C) for name, value in self._values(np.arange(O), outside).items()}
        action = np.tile(picks.repeat(O), n)
        return choices | {ACTION: action} | {name: value[action] for name, value in self.actions.items()}


def spread(
    known: Known, weight: Numbers, chance: Sequence[tuple[str, Factor]], most: int
) -> tuple[Known, Numbers, Numbers]:
    """Return every outcome of positive probability: all values, the probability, and which case it came from."""
    source = np.arange(len(weight))
    for name, factor in chance:
        index = tuple(known[other] for other in factor.scope[:-1])
        p = aligned(factor, factor.scope).exp().numpy()[index]
        p = np.broadcast_to(p, (len(weight), p.shape[-1]))
        row, value = p.nonzero()
        if len(row) > most:
            raise TooLargeError
        known = {other: values[row] for other, values in known.items()} | {name: value}
        weight, source = weight[row] * p[row, value], source[row]
    return known, weight, source


def regions(parts: Parts, most: int) -> list[Region]:
    """Return a region around what each reward reads, as wide as it may be, and homes for all that regions read."""
    factors = parts.factors
    wanted = [frozenset(parts.states_of(piece.scope)) for piece in (*parts.rewards, *factors.terminal)]
    found: list[Region] = []
    queue = sorted({scope for scope in wanted if scope}, key=lambda scope: (-len(scope), sorted(scope)))
    while queue:
        scope = queue.pop(0)
        if any(scope <= set(region.core) for region in found):
            continue
        region = grown(parts, scope, most)
        if region is None:
            continue
        found = [other for other in found if not set(other.core) <= set(region.core)] + [region]
        queue += [frozenset([name]) for name in region.outside]
    return found


def grown(parts: Parts, scope: Iterable[str], most: int) -> Region | None:
    """Return a region whose core has a scope, made larger while it has room; None where there is no room for it."""
    try:
        best = parts.region(scope, most)
    except TooLargeError:
        return None
    tried: set[frozenset[str]] = set()
    while best.outside:
        cores = {frozenset(parts.closure([*best.core, name])) for name in best.outside}
        cores |= {frozenset([*best.core, name]) for name in best.outside}
        wider: list[Region] = []
        for core in sorted(cores - tried, key=lambda core: (-len(core), sorted(core))):
            tried.add(core)
            try:
                wider.append(parts.region(core, most))
            except TooLargeError:
                continue
        if not wider:
            return best
        best = min(wider, key=lambda region: (len(region.outside), int(np.prod(region.shape))))
    return best
