"""Gymnasium's ``P`` and start distribution, read and checked before anything is normalised."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cai.bridges.networks.node_tables import DUST, ROUNDING
from cai.errors import fault

Outcome = tuple[float, int, float, bool]


@dataclass(frozen=True)
class Listed:
    """A table ``P`` as it was written, numbered: its states and actions in order.

    Attributes:
        states, actions: the keys of the table.
        rows: for each (s, a) its outcomes (p, s', r, done); a missing action is not there.
        start: p(s_0), ``[S]``.
    """

    states: tuple[Any, ...]
    actions: tuple[Any, ...]
    rows: Mapping[tuple[int, int], Sequence[Outcome]]
    start: Tensor

    @property
    def over(self) -> tuple[bool, ...]:
        """For each state whether it has no actions at all: an end."""
        acting = {s for s, _ in self.rows}
        return tuple(s not in acting for s in range(len(self.states)))


def read_table(where: str, env: Any) -> Listed:
    """Read ``env.P`` and ``env.initial_state_distrib``.

    States and actions are numbers from 0, other numbers (numbered in ascending order) or names (in the order of the
    table). A missing action is forbidden, a state without actions is an end, an outcome of three is not done.

    Raises:
        WorldError: a row or the start is no distribution, or something is none of these.
    """
    table = _entries(where, env.P, "a dict or a list of states")
    states = _ordered(table)
    row = {s: _entries(f"{where}, P[{s!r}]", table[s], "a dict or a list of actions") for s in states}
    actions = _actions(where, env, [a for s in states for a in row[s]])
    number = {s: i for i, s in enumerate(states)}
    rows = {
        (number[s], i): _outcomes(f"{where}, P[{s!r}][{a!r}]", row[s][a], number)
        for s in states
        for i, a in enumerate(actions)
        if a in row[s]
    }
    return Listed(states, actions, rows, _start(where, env.initial_state_distrib, number))


def labels(keys: Sequence[Any]) -> list[str | None]:
    """Return what numbered keys are called: nothing where the number is the key."""
    return [None if _is_whole(key) and int(key) == i else str(key) for i, key in enumerate(keys)]


def _entries(where: str, given: Any, expected: str) -> dict[Any, Any]:
    """Return what is listed, by key; a list's keys are its numbers."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise fault(where, f"a {type(given).__name__}", expected)
    return dict(enumerate(given))


def _is_whole(key: Any) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool)


def _ordered(keys: Iterable[Any]) -> tuple[Any, ...]:
    """Return keys once each: numbers ascending, names in the order given."""
    found = list(dict.fromkeys(keys))
    return tuple(sorted(found)) if all(map(_is_whole, found)) else tuple(found)


def _actions(where: str, env: Any, seen: list[Any]) -> tuple[Any, ...]:
    """Return the actions: those of a Discrete action space where the table's are among them."""
    found, space = _ordered(seen), getattr(env, "action_space", None)
    if not found:
        raise fault(f"{where}, P", "no state with an action", "at least one")
    n, first = getattr(space, "n", None), int(getattr(space, "start", 0))
    if n is None:
        return found
    whole = tuple(range(first, first + int(n)))
    if set(found) <= set(whole):
        return whole
    if len(found) != n:
        raise fault(f"{where}, P", f"actions {list(found)}", f"the {n} of the action space {space}")
    return found


def _outcomes(where: str, given: Any, number: Mapping[Any, int]) -> tuple[Outcome, ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence | np.ndarray) or not len(given):
        seen = "no outcome" if isinstance(given, Sequence | np.ndarray) else f"a {type(given).__name__}"
        raise fault(where, seen, "a list of outcomes (p, s', r, done); leave out an action that is forbidden")
    found = tuple(_outcome(where, one, number) for one in given)
    _require_distribution(where, [p for p, *_ in found])
    return found


def _outcome(where: str, given: Any, number: Mapping[Any, int]) -> Outcome:
    expected = "(p, s', r, done) or (p, s', r)"
    if not isinstance(given, Sequence | np.ndarray) or len(given) not in (3, 4) or isinstance(given, str):
        raise fault(where, f"an outcome {given!r}", expected)
    p, following, reward = given[:3]
    try:
        chance, paid, over = float(p), float(reward), len(given) == 4 and bool(given[3])
    except (TypeError, ValueError):
        raise fault(where, f"an outcome {given!r}", f"{expected}, numbers for p and r") from None
    if math.isnan(paid) or paid == math.inf:
        raise fault(where, f"reward {paid:g}", "a finite reward, or -inf for what is forbidden")
    if not over and not _known(following, number):  # where the episode is over, nobody asks in which state
        seen = f"an outcome that leads to {following!r}"
        raise fault(where, seen, "a state of the table, or done")
    return chance, number[following] if _known(following, number) else 0, paid, over


def _known(key: Any, number: Mapping[Any, int]) -> bool:
    try:
        return key in number
    except TypeError:  # it cannot be a key at all
        return False


def _start(where: str, given: Any, number: Mapping[Any, int]) -> Tensor:
    place, expected = f"{where}, initial_state_distrib", f"a probability for each of the {len(number)} states"
    if isinstance(given, Mapping):
        unknown = [s for s in given if s not in number]
        if unknown:
            raise fault(place, f"{unknown[0]!r}", "states of the table P")
        given = [given.get(s, 0.0) for s in number]
    try:
        found = np.asarray(given, float)
    except (TypeError, ValueError):
        raise fault(place, f"a {type(given).__name__}", expected) from None
    if found.shape != (len(number),):
        raise fault(place, f"shape {list(found.shape)}", expected)
    _require_distribution(place, found.tolist())
    return torch.from_numpy(found.clip(0.0))


def _require_distribution(where: str, p: list[float]) -> None:
    """Raise unless numbers are probabilities that sum to 1, up to rounding."""
    for one in p:
        if not -DUST <= one <= 1 + ROUNDING:
            raise fault(where, f"probability {one:g}", "numbers from 0 to 1")
    if abs(math.fsum(p) - 1) > ROUNDING:
        raise fault(where, f"probabilities that sum to {math.fsum(p):.9g}", "a sum of 1")
