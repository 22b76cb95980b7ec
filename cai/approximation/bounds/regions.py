"""Parts of a world set free of each other: a few state variables each, the rest of the world chosen by the controller.

A region has a core of state variables, whose dynamics it keeps, and reads others, its outside, which take any values
that the controller likes. Its states are those that the start leads to, listed one by one; so that sixteen squares of
which one is taken are sixteen states and not 2^16.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cai.approximation.bounds.backprojection import Outcomes
from cai.approximation.bounds.kl_shares import random_ancestors, shares
from cai.approximation.bounds.time_left import require_time_left
from cai.compile.factor_model import Factor, Factors, aligned, primed

Numbers = np.ndarray[Any, Any]
Known = dict[str, Numbers]
"""Values of variables, ``[N]`` each."""


ACTION = "#action"
"""The number of a joint action."""
MOST_KEYS = 2**62
"""Joint values that an integer numbers."""
WIDEST = 16
"""Outcomes of a choice, on average, that a region has room for."""


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


class Parts:
    """Finds regions of a stationary world of factors.

    Args:
        factors: the world.
        eta: the temperature of a log-mean-exp over outcomes, reward units; None for the expectation.
    """

    def __init__(self, factors: Factors, eta: float | None = None) -> None:
        slice_, self.factors, self.eta = factors.at(0), factors, eta
        self.sizes = factors.sizes
        self.outcomes = Outcomes(slice_.chance, self.sizes)
        barred = [
            Factor(prior.scope, prior.table.where(prior.table == -np.inf, prior.table.new_zeros(())))
            for prior in slice_.prior.values()
            if bool((prior.table == -np.inf).any())
        ]
        self.rewards = self._means([*slice_.reward, *barred])
        self.kinds = {name: self._kinds(factor) for name, factor in slice_.chance.items()}

    def _means(self, pieces: Sequence[Factor]) -> list[Factor]:
        """Return each reward's mean over outcomes; in a log-mean-exp, rewards pay one half of what they read."""
        if self.eta is None:
            return [self.outcomes.expectation(piece) for piece in pieces]
        each = shares(self.outcomes, [piece.scope for piece in pieces])
        return [
            self.outcomes.log_mean([piece], self.eta * share / 2)[0]
            if self.drawn(piece.scope)
            else self.outcomes.expectation(piece)
            for piece, share in zip(pieces, each, strict=True)
        ]

    def drawn(self, scope: Sequence[str]) -> set[str]:
        """Return the random variables that decide a scope."""
        return random_ancestors(self.outcomes, scope)

    @cached_property
    def actions(self) -> Known:
        """The value of each action variable, by joint action."""
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
        """Return the class of each joint action: those of one class move the scope and pay the core alike."""
        inside = set(core)
        every = [self.kinds[name] for x in scope for name in self.outcomes.ancestors((primed(x),))]
        paid = [(piece, set(self.states_of(piece.scope))) for piece in self.rewards]
        every += [self._kinds(piece) for piece, read in paid if read and read <= inside]
        return refined(every, self.factors.actions.size)

    def master(self, regions: Sequence[Region]) -> Region:
        """Return the region of no state, which tells apart all actions that any region or reward does."""
        every = [*(region.kinds for region in regions), *(self._kinds(piece) for piece in self.rewards)]
        kinds = refined(every, self.factors.actions.size)
        picks = np.unique(kinds, return_index=True)[1]
        C, choices = len(picks), self._choices(np.zeros(1, dtype=np.int64), (), (), picks)
        stays = (np.arange(C), np.zeros(C, dtype=np.int64), np.ones(C))
        return Region((), (), kinds, choices, (1, C, 1), stays, np.ones(1), {})

    def region(self, names: Iterable[str], most: int) -> Region:
        """List the states of a core that the start leads to, and all that may follow.

        Raises:
            TooLargeError: it has more than ``most`` choices.
        """
        core = self.states_of(names)
        outside = self.states_of(self.parents(core) - set(core))
        kinds = self.told_apart(core, (*core, *outside))
        picks = np.unique(kinds, return_index=True)[1]
        C, width = len(picks), math.prod(self.sizes[name] for name in outside)
        if C * width > most or math.prod(self.sizes[name] for name in core) > MOST_KEYS:
            raise TooLargeError
        first, weight, _ = spread({}, np.ones(1), self._chance(self.factors.initial, core), core, most)
        start = self._keys(first, core)
        reached, choices, (source, ahead, p) = self._reached(np.unique(start), core, outside, picks, most)
        order = np.argsort(reached, kind="stable")

        def number(key: Numbers) -> Numbers:
            return order[np.searchsorted(reached, key, sorter=order)]

        begins = np.bincount(number(start), weights=weight, minlength=len(reached))
        shape, outcomes = (len(reached), C, width), (source, number(ahead), p)
        return Region(core, outside, kinds, choices, shape, outcomes, begins, self._values(reached, core))

    def _reached(
        self, start: Numbers, core: Sequence[str], outside: Sequence[str], picks: Numbers, most: int
    ) -> tuple[Numbers, Known, tuple[Numbers, Numbers, Numbers]]:
        """Return all states that the start leads to, their choices, and the outcomes: choice, next state, p."""
        core_ahead = tuple(map(primed, core))
        chance = self._chance(self.factors.at(0).chance, core_ahead)
        each = len(picks) * math.prod(self.sizes[name] for name in outside)
        reached = new = start
        choices, outcomes = list[Known](), list[tuple[Numbers, Numbers, Numbers]]()
        while len(new):
            if len(reached) * each > most:
                raise TooLargeError
            chosen = self._choices(new, core, outside, picks)
            after, p, source = spread(chosen, np.ones(len(chosen[ACTION])), chance, core_ahead, WIDEST * most)
            ahead = self._keys({name: after[primed(name)] for name in core}, core, len(p))
            choices.append(chosen)
            outcomes.append((source + (len(reached) - len(new)) * each, ahead, p))
            new = np.setdiff1d(ahead, reached)
            reached = np.concatenate([reached, new])
        source, ahead, p = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        joined = {name: np.concatenate([part[name] for part in choices]) for name in choices[0]}
        return reached, joined, (source, ahead, p)

    def _chance(self, chance: Mapping[str, Factor], scope: Sequence[str]) -> list[tuple[str, Factor]]:
        names = set(Outcomes(chance, self.sizes).ancestors(tuple(scope)))
        return [(name, factor) for name, factor in chance.items() if name in names]

    def _keys(self, values: Known, core: Sequence[str], n: int = 1) -> Numbers:
        key = np.zeros(n, dtype=np.int64)
        for name in core:
            key = key * self.sizes[name] + values[name]
        return key

    def _values(self, keys: Numbers, core: Sequence[str]) -> Known:
        values: Known = {}
        for name in reversed(core):
            values[name] = keys % self.sizes[name]
            keys = keys // self.sizes[name]
        return values

    def _choices(self, keys: Numbers, core: Sequence[str], outside: Sequence[str], picks: Numbers) -> Known:
        width = math.prod(self.sizes[name] for name in outside)
        n, C = len(keys), len(picks)
        choices = {name: value.repeat(C * width) for name, value in self._values(keys, core).items()}
        choices |= {name: np.tile(value, n * C) for name, value in self._values(np.arange(width), outside).items()}
        action = np.tile(picks.repeat(width), n)
        return choices | {ACTION: action} | {name: value[action] for name, value in self.actions.items()}


def refined(kinds: Sequence[Numbers], actions: int) -> Numbers:
    """Return the coarsest classes of actions that tell apart all that one of these does, ``[A]``."""
    if not kinds:
        return np.zeros(actions, dtype=np.int64)
    return np.unique(np.stack(kinds), axis=1, return_inverse=True)[1].ravel()


def spread(
    known: Known, weight: Numbers, chance: Sequence[tuple[str, Factor]], wanted: Collection[str], most: int
) -> tuple[Known, Numbers, Numbers]:
    """Return every outcome of positive probability: what is wanted, the probability, and which case it came from."""
    source = np.arange(len(weight))
    for i, (name, factor) in enumerate(chance):
        index = tuple(known[other] for other in factor.scope[:-1])
        p = aligned(factor, factor.scope).exp().numpy()[index]
        p = np.broadcast_to(p, (len(weight), p.shape[-1]))
        row, value = p.nonzero()
        if len(row) > most:
            raise TooLargeError
        read = {*wanted, *(other for _, later in chance[i + 1 :] for other in later.scope)}
        known = {other: values[row] for other, values in known.items() if other in read} | {name: value}
        weight, source = weight[row] * p[row, value], source[row]
    return known, weight, source


def regions(parts: Parts, most: int, deadline: float = math.inf) -> list[Region]:
    """Return a region around what each reward reads, as wide as it may be, and homes for all that regions read.

    Raises:
        TimeoutError: the deadline, ``time.monotonic``, is over.
    """
    factors = parts.factors
    wanted = [frozenset(parts.states_of(piece.scope)) for piece in (*parts.rewards, *factors.terminal)]
    found: list[Region] = []
    queue = sorted({scope for scope in wanted if scope}, key=lambda scope: (-len(scope), sorted(scope)))
    while queue:
        require_time_left(deadline)
        scope = queue.pop(0)
        if any(scope <= set(region.core) for region in found):
            continue
        region = grown(parts, scope, most, deadline)
        if region is None:
            continue
        found = [other for other in found if not set(other.core) <= set(region.core)] + [region]
        queue += [frozenset([name]) for name in region.outside]
    return found


def grown(parts: Parts, scope: Iterable[str], most: int, deadline: float) -> Region | None:
    """Return a region whose core has a scope, made larger while it has room; None where there is no room for it."""
    best = _listed(parts, scope, most) or _listed(parts, parts.closure(scope), most)
    if best is None:
        return None
    tried: set[frozenset[str]] = set()
    while best.outside:
        cores = {frozenset(parts.closure([*best.core, name])) for name in best.outside}
        cores |= {frozenset([*best.core, name]) for name in best.outside}
        wider: list[Region] = []
        for core in sorted(cores - tried, key=lambda core: (-len(core), sorted(core))):
            tried.add(core)
            require_time_left(deadline)
            region = _listed(parts, core, most)
            wider += [] if region is None else [region]
        if not wider:
            return best
        best = min(wider, key=lambda region: (len(region.outside), int(np.prod(region.shape))))
    return best


def _listed(parts: Parts, core: Iterable[str], most: int) -> Region | None:
    """Return the region of a core, None where it is too large."""
    try:
        return parts.region(core, most)
    except TooLargeError:
        return None
