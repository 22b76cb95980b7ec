"""Conditions on the sites of a trajectory: observations (``observe``) and interventions (``do``).

An observation is a factor of 0 or 1 beside the optimality nodes, ``p(τ, O=1) 1[floor_5 = 3]``; an uncertain one is a
likelihood for each value, ``p(τ, O=1) w(floor_5)`` (virtual evidence, Pearl 1988, section 2.3.3). An intervention
replaces the site's distribution by a point mass, which cuts the edges from its parents (Pearl 2009, section 3.2).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from cai.errors import fault
from cai.support.wording import meant
from cai.world.spaces import value_number

Given = Mapping[str, Any]
"""By site, a variable's name and its time: a value, ``{"floor_5": 3}``, by number or name, or a likelihood of each."""
Value = int | float | str | tuple[float, ...] | Tensor | Distribution
"""The number of a value, its name, or a likelihood of each value; of a real variable its numbers, or their density."""
EXPECTED = "the number of a value, 0 …, its name, or a likelihood of each value"


@dataclass(frozen=True)
class Conditions:
    """Conditions as they were read: the value of each (variable, time).

    Attributes:
        seen: evidence.
        forced: interventions.
    """

    seen: Mapping[tuple[str, int], Value]
    forced: Mapping[tuple[str, int], Value]

    def __bool__(self) -> bool:
        return bool(self.seen or self.forced)

    @property
    def hard_evidence(self) -> dict[tuple[str, int], int]:
        """The evidence that is a value, by number."""
        return {site: value for site, value in self.seen.items() if isinstance(value, int)}

    @property
    def likelihoods(self) -> dict[tuple[str, int], tuple[float, ...]]:
        """The evidence that is a likelihood of each value."""
        return {site: value for site, value in self.seen.items() if isinstance(value, tuple)}

    @property
    def forced_values(self) -> dict[tuple[str, int], int]:
        """What is forced, by number."""
        return {site: value for site, value in self.forced.items() if isinstance(value, int)}

    def spare_ends(self, states: Sequence[str]) -> bool:
        """Return whether all is still alike, whatever is done, where an episode has ended.

        It is, unless an action or a latent was seen, which is a factor on what is done there, or the dynamics changed.
        """
        return all(name in states for name, _ in self.seen) and not any(name in states for name, _ in self.forced)

    def at(self, t: int) -> "Conditions":
        """Return the conditions on sites of time t."""
        return Conditions(*({site: n for site, n in part.items() if site[1] == t} for part in (self.seen, self.forced)))


NOTHING = Conditions({}, {})
"""No condition."""


def read_conditions(observe: Given | None, do: Given | None) -> Conditions:
    """Read conditions; ``settled`` holds them against a world.

    Raises:
        WorldError: a site has no time, a value is none, or one site is seen and forced.
    """
    parts = [_read(what, conditions or {}) for what, conditions in (("observe", observe), ("do", do))]
    both = sorted(set(parts[0]) & set(parts[1]))
    if both:
        name = f"{both[0][0]}_{both[0][1]}"
        raise fault(f"observe and do, site '{name}'", "both observed and forced", "one of the two")
    return Conditions(*parts)


def _read(what: str, conditions: Given) -> dict[tuple[str, int], Value]:
    if not isinstance(conditions, Mapping):
        raise fault(what, f"a {type(conditions).__name__}", 'a dict such as {"floor_5": 3}: values by site')
    values = {}
    for site, value in conditions.items():
        match = re.fullmatch(r"(.*)_(\d+)", site, re.DOTALL) if isinstance(site, str) else None
        if match is None:
            raise fault(f"{what}, site {site!r}", "no time", "a variable and its time, such as 'floor_5'")
        values[match[1], int(match[2])] = _value(f"{what}, site '{site}'", value)
    return values


def _value(where: str, value: Any) -> Value:
    if isinstance(value, str | Distribution):
        return value
    try:
        if isinstance(value, Sequence) or getattr(value, "ndim", 0) > 0:
            numbers = torch.as_tensor(value, dtype=torch.float64)
            return tuple(numbers.tolist()) if numbers.dim() == 1 else numbers
        return int(value) if int(value) == float(value) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise fault(where, f"value {value!r}", f"{EXPECTED}; of a real variable numbers, or a distribution") from None


def settled(
    conditions: Conditions,
    states: Mapping[str, int],
    others: Mapping[str, int],
    horizon: int | None,
    labels: Mapping[str, Sequence[str | None]],
) -> Conditions:
    """Return the conditions with every value by its number, or as likelihoods, once each is one of the world's.

    Args:
        conditions: the conditions.
        states: the sizes of the state variables, whose times are 0 … T.
        others: the sizes of actions and latents, whose times are 0 … T-1.
        horizon: T.
        labels: what values are called.

    Raises:
        WorldError: a site or a value does not exist, or the horizon is infinite.
    """
    sizes = {**others, **states}

    def numbered(what: str, part: Mapping[tuple[str, int], Value]) -> dict[tuple[str, int], Value]:
        require_sites(what, part, tuple(sizes), tuple(states), horizon)
        return {
            (name, t): _number(what, f"{what}, site '{name}_{t}'", value, sizes[name], labels.get(name, ()))
            for (name, t), value in part.items()
        }

    return Conditions(numbered("observe", conditions.seen), numbered("do", conditions.forced))


def require_sites(
    what: str, sites: Iterable[tuple[str, int]], known: Sequence[str], states: Sequence[str], horizon: int | None
) -> None:
    """Raise a ``WorldError`` where there is no such variable, or no such time of it.

    Args:
        what: said in the error.
        sites: variables, each with its time.
        known: every variable.
        states: those that have a value at T, too.
        horizon: T.
    """
    for name, t in sites:
        where = f"{what}, site '{name}_{t}'"
        if name not in known:
            raise fault(where, f"no variable '{name}'", f"one of {', '.join(known)}{meant(name, known)}")
        if horizon is None:
            raise fault(where, "an infinite horizon", "a finite one: a condition has a time")
        last = horizon if name in states else horizon - 1
        if t > last:
            raise fault(where, f"time {t}", f"a time from 0 to {last}")


def _number(what: str, where: str, value: Value, size: int, names: Sequence[str | None]) -> Value:
    if isinstance(value, tuple):
        return _likelihoods(where, what, value, size)
    if isinstance(value, str) and value not in names and value.isdecimal():
        value = int(value)  # as the command line gives it
    if not isinstance(value, int | str):
        raise fault(where, f"value {value!r}", EXPECTED)
    return value_number(where, value, size, names)


def _likelihoods(where: str, what: str, value: tuple[float, ...], size: int) -> tuple[float, ...]:
    if what == "do":
        raise fault(where, f"{list(value)}", "one value: an intervention is certain")
    if len(value) != size or not all(0 <= weight <= 1 for weight in value) or not any(value):
        raise fault(where, f"{list(value)}", f"{size} likelihoods from 0 to 1, one for each value, not all 0")
    return value
