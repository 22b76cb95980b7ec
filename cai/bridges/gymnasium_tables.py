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
        prior: p(a|s), ``[S, A]``; None where the environment has none.
    """

    states: tuple[Any, ...]
    actions: tuple[Any, ...]
    rows: Mapping[tuple[int, int], Sequence[Outcome]]
    start: Tensor
    prior: Tensor | None = None

    @property
    def over(self) -> tuple[bool, ...]:
        """For each state whether it has no actions at all: an end."""
        with_actions = {s for s, _ in self.rows}
        return tuple(s not in with_actions for s in range(len(self.states)))


def read_table(where: str, env: Any) -> Listed:
    """Read ``env.P``, ``env.initial_state_distrib`` and ``env.action_prior``, if there is one.

    States and actions are numbers from 0, other numbers (numbered in ascending order) or names (in the order of the
    table). A missing action is forbidden, a state without actions is an end, an outcome of three is not done.

    Raises:
        WorldError: a row, the start or a prior is no distribution, or something is none of these.
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
    start = _start(where, env.initial_state_distrib, number)
    return Listed(states, actions, rows, start, _prior(where, env, states, actions, rows))


def labels(keys: Sequence[Any]) -> list[str | None]:
    """Return what numbered keys are called: nothing where the number is the key."""
    return [None if _is_whole(key) and int(key) == i else str(key) for i, key in enumerate(keys)]


def _entries(where: str, table: Any, expected: str) -> dict[Any, Any]:
    """Return what is listed, by key; a list's keys are its numbers."""
    if isinstance(table, Mapping):
        return dict(table)
    if isinstance(table, str) or not isinstance(table, Sequence | np.ndarray):
        raise fault(where, f"a {type(table).__name__}", expected)
    return dict(enumerate(table))


def _is_whole(key: Any) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool)


def _ordered(keys: Iterable[Any]) -> tuple[Any, ...]:
    """Return keys once each: numbers ascending, names in the order given."""
    distinct = list(dict.fromkeys(keys))
    return tuple(sorted(distinct)) if all(map(_is_whole, distinct)) else tuple(distinct)


def _actions(where: str, env: Any, seen: list[Any]) -> tuple[Any, ...]:
    """Return the actions: those of a Discrete action space where the table's are among them."""
    actions, space = _ordered(seen), getattr(env, "action_space", None)
    if not actions:
        raise fault(f"{where}, P", "no state with an action", "at least one")
    n, first = getattr(space, "n", None), int(getattr(space, "start", 0))
    if n is None:
        return actions
    whole = tuple(range(first, first + int(n)))
    if set(actions) <= set(whole):
        return whole
    if len(actions) != n:
        raise fault(f"{where}, P", f"actions {list(actions)}", f"the {n} of the action space {space}")
    return actions


def _outcomes(where: str, listed: Any, number: Mapping[Any, int]) -> tuple[Outcome, ...]:
    if isinstance(listed, str | Mapping) or not isinstance(listed, Sequence | np.ndarray) or not len(listed):
        seen = "no outcome" if isinstance(listed, Sequence | np.ndarray) else f"a {type(listed).__name__}"
        raise fault(where, seen, "a list of outcomes (p, s', r, done); leave out an action that is forbidden")
    outcomes = tuple(_outcome(where, outcome, number) for outcome in listed)
    _require_distribution(where, [p for p, *_ in outcomes])
    return outcomes


def _outcome(where: str, entry: Any, number: Mapping[Any, int]) -> Outcome:
    expected = "(p, s', r, done) or (p, s', r)"
    if not isinstance(entry, Sequence | np.ndarray) or len(entry) not in (3, 4) or isinstance(entry, str):
        raise fault(where, f"an outcome {entry!r}", expected)
    p, following, reward = entry[:3]
    try:
        probability, paid, over = float(p), float(reward), len(entry) == 4 and bool(entry[3])
    except (TypeError, ValueError):
        raise fault(where, f"an outcome {entry!r}", f"{expected}, numbers for p and r") from None
    if math.isnan(paid) or paid == math.inf:
        raise fault(where, f"reward {paid:g}", "a finite reward, or -inf for what is forbidden")
    if not over and not _known(following, number):  # where the episode is over, nobody asks in which state
        seen = f"an outcome that leads to {following!r}"
        raise fault(where, seen, "a state of the table, or done")
    return probability, number[following] if _known(following, number) else 0, paid, over


def _known(key: Any, number: Mapping[Any, int]) -> bool:
    try:
        return key in number
    except TypeError:  # it cannot be a key at all
        return False


def _start(where: str, listed: Any, number: Mapping[Any, int]) -> Tensor:
    place, expected = f"{where}, initial_state_distrib", f"a probability for each of the {len(number)} states"
    if isinstance(listed, Mapping):
        unknown = [s for s in listed if s not in number]
        if unknown:
            raise fault(place, f"{unknown[0]!r}", "states of the table P")
        listed = [listed.get(s, 0.0) for s in number]
    try:
        start = np.asarray(listed, float)
    except (TypeError, ValueError):
        raise fault(place, f"a {type(listed).__name__}", expected) from None
    if start.shape != (len(number),):
        raise fault(place, f"shape {list(start.shape)}", expected)
    _require_distribution(place, start.tolist())
    return torch.from_numpy(start.clip(0.0))


def _prior(
    where: str, env: Any, states: Sequence[Any], actions: Sequence[Any], rows: Mapping[tuple[int, int], Any]
) -> Tensor | None:
    """Return ``env.action_prior``, checked in the states that have actions; None where there is none."""
    listed = getattr(env, "action_prior", None)
    if listed is None:
        return None
    place, expected = f"{where}, action_prior", f"probabilities, [{len(states)} states, {len(actions)} actions]"
    try:
        prior = np.asarray(listed, float)
    except (TypeError, ValueError):
        raise fault(place, f"a {type(listed).__name__}", expected) from None
    if prior.shape != (len(states), len(actions)):
        raise fault(place, f"shape {list(prior.shape)}", expected)
    for s in sorted({s for s, _ in rows}):
        _require_distribution(f"{place}[{states[s]!r}]", prior[s].tolist())
        for a, p in enumerate(prior[s].tolist()):
            if p > 0 and (s, a) not in rows:
                seen = f"probability {p:g} of the action {actions[a]!r}, which P[{states[s]!r}] does not have"
                raise fault(f"{place}[{states[s]!r}]", seen, "0, or a row of outcomes")
    return torch.from_numpy(prior.clip(0.0))


def _require_distribution(where: str, p: list[float]) -> None:
    """Raise unless numbers are probabilities that sum to 1, up to rounding."""
    for probability in p:
        if not -DUST <= probability <= 1 + ROUNDING:
            raise fault(where, f"probability {probability:g}", "numbers from 0 to 1")
    if abs(math.fsum(p) - 1) > ROUNDING:
        raise fault(where, f"probabilities that sum to {math.fsum(p):.9g}", "a sum of 1")
