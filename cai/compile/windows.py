"""Slices of many variables, enumerated a few of them at a time.

torch has at most 64 dimensions. One run on single values shows which variables each factor reads, by Pyro's provenance.
Factors that read few variables together are then enumerated together, with the other variables at one value.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor

from cai.errors import Finding, IntractableError
from cai.world.enumerate import Enumerate, first_value
from cai.world.spaces import Space

ROOM = 61
"""Variables on dimensions of their own at a time: torch has 64, and distributions need some for themselves."""
Names = frozenset[str]


class Window(NamedTuple):
    """One run of a slice.

    Attributes:
        names: the variables that are enumerated.
        factors: the factors that are taken from this run, by name.
    """

    names: Names
    factors: Names


class Traced(Enumerate):
    """Runs a piece of a world on single values, and keeps what the log-probability of each site reads.

    Args:
        where: which method runs, for the errors.
        named: what sites are called among all variables of the slice, where it is not their own name.
    """

    def __init__(self, where: str, named: Mapping[str, str]) -> None:
        super().__init__(where, choose=first_value)
        self.named = named

    def _support(self, name: str, fn: Any) -> Tensor:
        return traced(super()._support(name, fn), self.named.get(name, name))

    @property
    def scopes(self) -> dict[str, Names]:
        """The variables that each site reads, itself among them."""
        return {self.named.get(name, name): get_provenance(log_prob) for name, log_prob in self.log_probs.items()}


def traced(value: Tensor, name: str) -> Tensor:
    """Mark a value as that of a variable."""
    marked: Tensor = track_provenance(value, frozenset({name}))
    return marked


def windows(where: str, scopes: Mapping[str, Names]) -> Iterator[Window]:
    """Group factors, neighbours together, so that each group reads ``ROOM`` variables at most.

    Args:
        where: which slice, for the error.
        scopes: the variables that each factor reads.

    Raises:
        IntractableError: a factor reads more by itself.
    """
    names: Names = frozenset()
    factors: list[str] = []
    for factor, scope in scopes.items():
        if len(scope) > ROOM:
            seen = f"{len(scope)} variables read at once"
            raise IntractableError([Finding(f"{where}, {factor}", seen, f"at most {ROOM}")])
        if len(names | scope) > ROOM:
            yield Window(names, frozenset(factors))
            names, factors = frozenset(), []
        names |= scope
        factors.append(factor)
    yield Window(names, frozenset(factors))


def spread(space: Space, window: Names | None) -> dict[str, Tensor]:
    """Lay each variable's values along its own dimension, the first at -1; those outside of the window stand at 0."""
    values: dict[str, Tensor] = {}
    dim = 0
    for name, size, dtype in zip(space.names, space.sizes, space.dtypes, strict=True):
        if window is None or name in window:
            values[name] = torch.arange(size).to(dtype).reshape((-1,) + (1,) * dim)
            dim += 1
        else:
            values[name] = torch.zeros((), dtype=dtype)
    return values


def spread_names(space: Space, window: Names | None) -> list[str]:
    """Name the variables that ``spread`` lays along dimensions, the first at -1."""
    return [name for name in space.names if window is None or name in window]
