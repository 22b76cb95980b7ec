"""Conditions on the sites of a trajectory: what was seen (``observe``), and what is forced (``do``).

Seen: a factor of 0 or 1 beside the optimality nodes, ``p(τ, O=1) 1[floor_5 = 3]``. Forced: the site's distribution is
replaced by a point mass and its edges from above are cut (Pearl 2009, section 3.2).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cai.errors import fault

Given = Mapping[str, Any]
"""Values by site, ``{"floor_5": 3}``: the variable's name and its time."""


@dataclass(frozen=True)
class Conditions:
    """Conditions as they were read: the value of each (variable, time).

    Attributes:
        seen: evidence.
        forced: interventions.
    """

    seen: Mapping[tuple[str, int], int]
    forced: Mapping[tuple[str, int], int]

    def __bool__(self) -> bool:
        return bool(self.seen or self.forced)

    def at(self, t: int) -> "Conditions":
        """Return the conditions on sites of time t."""
        return Conditions(*({site: n for site, n in part.items() if site[1] == t} for part in (self.seen, self.forced)))


def read_conditions(observe: Given | None, do: Given | None) -> Conditions:
    """Read conditions; names are checked against a world by ``require``.

    Raises:
        WorldError: a site has no time, a value is no whole number, or one site is seen and forced.
    """
    parts = [_read(what, given or {}) for what, given in (("observe", observe), ("do", do))]
    both = sorted(set(parts[0]) & set(parts[1]))
    if both:
        name = f"{both[0][0]}_{both[0][1]}"
        raise fault(f"observe and do, site '{name}'", "both seen and forced", "one of the two")
    return Conditions(*parts)


def _read(what: str, given: Given) -> dict[tuple[str, int], int]:
    if not isinstance(given, Mapping):
        raise fault(what, f"a {type(given).__name__}", 'a dict such as {"floor_5": 3}: values by site')
    found = {}
    for site, value in given.items():
        match = re.fullmatch(r"(.*)_(\d+)", site, re.DOTALL) if isinstance(site, str) else None
        if match is None:
            raise fault(f"{what}, site {site!r}", "no time", "a variable and its time, such as 'floor_5'")
        try:
            whole = int(value) == float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            whole = False
        if not whole:
            raise fault(f"{what}, site '{site}'", f"value {value!r}", "the number of a value, 0 …")
        found[match[1], int(match[2])] = int(value)
    return found


def require(conditions: Conditions, states: Mapping[str, int], others: Mapping[str, int], horizon: int | None) -> None:
    """Raise unless every site is one of the world's, at a time that it has, with a value in range.

    Args:
        conditions: what is asked.
        states: the sizes of the state variables, whose times are 0 … T.
        others: the sizes of actions and latents, whose times are 0 … T-1.
        horizon: T.

    Raises:
        WorldError: a site or a value does not exist, or the horizon is infinite.
    """
    for what, part in (("observe", conditions.seen), ("do", conditions.forced)):
        for (name, t), value in part.items():
            where, sizes = f"{what}, site '{name}_{t}'", {**others, **states}
            if name not in sizes:
                raise fault(where, f"no variable '{name}'", f"one of {list(sizes)}")
            if horizon is None:
                raise fault(where, "an infinite horizon", "a finite one: a condition stands at a time")
            last = horizon if name in states else horizon - 1
            if t > last:
                raise fault(where, f"time {t}", f"a time from 0 to {last}")
            if not 0 <= value < sizes[name]:
                raise fault(where, f"value {value}", f"0 … {sizes[name] - 1}")
