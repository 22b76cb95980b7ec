"""The spaces of a world: named variables with finitely many values, numbered jointly; and where they lie on a map."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from cai.errors import fault
from cai.support.wording import meant

Values = Tensor | dict[str, Tensor]
"""A state or an action as a program sees it: one tensor, or a dict of named variables."""
ROLES = ("state", "action", "move")
"""Names of variables that say no more than what the thing is: beside the name of a value they are left out."""


@dataclass(frozen=True)
class Space:
    """A finite space: variables with values ``0 … size-1``, numbered row-major in the order they are sampled.

    Attributes:
        names: the variables, in the order in which the program samples them.
        sizes: how many values each takes.
        dtypes: the dtype in which the program sees each.
        named: whether the program speaks of a dict of variables, or of one bare tensor.
        kept: the row-major numbers that are kept, where unreachable ones were dropped on request; else None.
        labels: what the values are called, for each variable a name or None for every value, or None for the variable;
            empty where no variable has names.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    named: bool
    kept: Int[Tensor, " S"] | None = None
    labels: tuple[tuple[str | None, ...] | None, ...] = ()

    @property
    def size(self) -> int:
        """How many values the space holds, all variables together."""
        return math.prod(self.sizes) if self.kept is None else len(self.kept)

    @property
    def named_sizes(self) -> dict[str, int]:
        """How many values each variable takes, by its name."""
        return dict(zip(self.names, self.sizes, strict=True))

    def numbers_like(self, other: "Space") -> bool:
        """Return whether another space has the same values by the same numbers, whatever these are called."""
        if (self.names, self.sizes, self.dtypes, self.named) != (other.names, other.sizes, other.dtypes, other.named):
            return False
        ours, theirs = self.kept, other.kept
        return ours is theirs or (ours is not None and theirs is not None and torch.equal(ours, theirs))

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Number the joint values (any broadcastable shapes); -1 for a value that was dropped."""
        number: Tensor = torch.zeros((), dtype=torch.long)
        for name, size in zip(self.names, self.sizes, strict=True):
            number = number * size + values[name].long()
        if self.kept is None:
            return number
        row = torch.searchsorted(self.kept, number.contiguous()).clamp(max=len(self.kept) - 1)
        return torch.where(self.kept[row] == number, row, -1)

    def split(self, number: Tensor) -> dict[str, Tensor]:
        """Give each variable's value for every number (any shape); the inverse of ``join``."""
        number = number if self.kept is None else self.kept[number]
        values: dict[str, Tensor] = {}
        for name, size, dtype in zip(self.names[::-1], self.sizes[::-1], self.dtypes[::-1], strict=True):
            first = name == self.names[0]  # nothing is left of the number: a remainder would take long
            values[name] = (number if first else number % size).to(dtype)
            number = number if first else number // size
        return {name: values[name] for name in self.names}

    def pack(self, values: Mapping[str, Tensor]) -> Values:
        """Hand named values to the program in the form it speaks of: a dict, or one bare tensor."""
        return dict(values) if self.named else values[self.names[0]]

    def unpack(self, values: Values) -> dict[str, Tensor]:
        """Read the program's form back as named values."""
        return dict(values) if isinstance(values, dict) else {self.names[0]: values}

    def called(self, names: Mapping[str, Sequence[str | None]]) -> "Space":
        """Return the same space, the values of its variables called by these names, ``{variable: a name a value}``."""
        labels = tuple(tuple(names[name]) if name in names else None for name in self.names)
        return replace(self, labels=labels if any(labels) else ())

    def value_label(self, variable: str, value: int) -> str | None:
        """Return what a value of a variable is called, or None where it has no name."""
        labels = self.labels[self.names.index(variable)] if self.labels else None
        return labels[value] if labels is not None else None

    def number(self, values: Mapping[str, int | str], where: str) -> int:
        """Return the number of joint values, each given by number or by name; ``where`` is said in errors.

        Raises:
            WorldError: a variable is missing or unknown, has no such value, or the joint value was dropped.
        """
        self.require_known(values, where)
        if len(values) < len(self.names):
            raise fault(where, f"variables {sorted(values)}", f"each of {self.in_words}")
        numbers = {
            name: torch.tensor(value_number(f"{where}, variable '{name}'", values[name], size, self._names(name)))
            for name, size in zip(self.names, self.sizes, strict=True)
        }
        number = int(self.join(numbers))
        if number < 0:
            raise fault(where, f"{dict(values)}, which was dropped as unreachable", "a state that was kept")
        return number

    @property
    def in_words(self) -> str:
        """The variables and their values, for errors: ``pump (ok, worn, or 0 … 1), way (0 … 4)``."""
        sizes = self.named_sizes.items()
        return ", ".join(f"{name} ({known_values(size, self._names(name))})" for name, size in sizes)

    def require_known(self, variables: Iterable[str], where: str) -> None:
        """Refuse the name of a variable that there is not; ``where`` is said in errors.

        Raises:
            WorldError: there is such a name.
        """
        unknown = [name for name in variables if name not in self.names]
        if unknown:
            near = meant(unknown[0], self.names)
            raise fault(where, f"no variable '{unknown[0]}'", f"some of {self.in_words}{near}")

    def _names(self, variable: str) -> Sequence[str | None]:
        return (self.labels[self.names.index(variable)] if self.labels else None) or ()

    def label(self, number: int) -> str:
        """Name one value for people, e.g. ``cell=3, door=open``; ``left`` alone where the one variable is "action"."""
        values = {name: int(value) for name, value in self.split(torch.tensor(number)).items()}
        names = {name: self.value_label(name, value) for name, value in values.items()}
        if len(names) == 1 and self.names[0] in ROLES and names[self.names[0]] is not None:
            return str(names[self.names[0]])
        return ", ".join(f"{name}={names[name] or value}" for name, value in values.items())


def value_number(where: str, value: Any, size: int, names: Sequence[str | None] = ()) -> int:
    """Return the number of a value that is given by its number or by its name.

    Raises:
        WorldError: there is no such value.
    """
    if isinstance(value, str):
        number = names.index(value) if value in names else -1
    else:
        try:
            number = int(value) if int(value) == value else -1
        except (TypeError, ValueError, OverflowError):
            number = -1
    if not 0 <= number < size:
        near = meant(value, filter(None, names)) if isinstance(value, str) else ""
        raise fault(where, f"value {value!r}", f"{known_values(size, names)}{near}")
    return number


def known_values(size: int, names: Sequence[str | None] = ()) -> str:
    """Say which values a variable has, by name as far as they have one, and by number."""
    called = [name for name in names if name is not None]
    numbers = "0" if size == 1 else f"0 … {size - 1}"
    shown = ", ".join(called[:12]) + (", …" if len(called) > 12 else "")
    return f"{shown}, or {numbers}" if called else numbers


def variable_names(values: Values, sites: dict[str, Tensor], where: str) -> tuple[str, ...]:
    """Name the variables that a state or an action consists of, in the order in which they were sampled.

    Args:
        values: what the world returned.
        sites: the value of every site that it sampled, in order.
        where: which method returned it, for the error.

    Raises:
        WorldError: a returned variable was not sampled under its name.
    """
    point = "cai.Point, or Delta where it is real, makes a deterministic value a site"
    expected = f"each variable sampled at a site of its own name ({point})"
    if isinstance(values, dict):
        wrong = sorted(name for name in values if name not in sites or sites[name] is not values[name])
        if wrong or not values:
            raise fault(where, f"variables {wrong or 'none'} returned, not as sampled at {list(sites)}", expected)
        return tuple(name for name in sites if name in values)
    if not isinstance(values, Tensor):
        raise fault(where, f"a {type(values).__name__} returned", "a tensor, or a dict of named tensors")
    same = [name for name, value in sites.items() if value is values]
    if len(same) == 1:
        return (same[0],)
    raise fault(where, f"a tensor returned that is none of the sampled sites {list(sites)}", expected)


@dataclass(frozen=True)
class Variable:
    """A variable of a state or an action: how many values it takes, or None and the shape of its events."""

    name: str
    size: int | None
    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Variables:
    """The variables of states and actions, finite or not, in the order in which a program samples them.

    Attributes:
        states, actions: the variables.
        state_space, action_space: the same numbered, or None where one of the variables is not finite.
    """

    states: tuple[Variable, ...]
    actions: tuple[Variable, ...]
    state_space: Space | None
    action_space: Space | None

    def state_values(self, state: Values) -> dict[str, Tensor]:
        """Return a batch of states by variable."""
        return dict(state) if isinstance(state, Mapping) else {self.states[0].name: state}

    def batch_of(self, state: Values) -> torch.Size:
        """Return the shape of a batch of states."""
        values = self.state_values(state)
        shapes = ((values[variable.name].shape, len(variable.shape)) for variable in self.states)
        batch: torch.Size = torch.broadcast_shapes(*(shape[: len(shape) - events] for shape, events in shapes))
        return batch

    @property
    def spaces(self) -> tuple[Space, Space] | None:
        """The numbered states and actions, or None where either cannot be numbered."""
        return (self.state_space, self.action_space) if self.state_space and self.action_space else None


@dataclass(frozen=True)
class Layout:
    """The place of each state on a map, for drawing.

    Attributes:
        cell: the map cell of each state, row-major; -1 for a state that is not on the map. Shape ``[S]``.
        shape: rows and columns of the map.
        moves: for each action its direction as (right, down), or None for an action without a direction.
        marks: a short text for map cells, e.g. ``{0: "S", 15: "G"}``.
        entered: the map cell that each outcome enters, where the next state has another or none: an episode that
            reaches a goal may go to a state "ended" off the map. Shape ``[S, A, K]``, K as in the tables.
    """

    cell: Int[Tensor, " S"]
    shape: tuple[int, int]
    moves: tuple[tuple[float, float] | None, ...]
    marks: Mapping[int, str]
    entered: Int[Tensor, "S A K"] | None = None
