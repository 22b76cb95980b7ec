"""Gymnasium's spaces as variables: finite ones as numbers from 0, all others as one vector.

Tuple, Dict, MultiDiscrete and MultiBinary are taken apart in Gymnasium's own order; what is not finite throughout goes
through ``gymnasium.spaces.flatten``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cai.errors import fault
from cai.world.spaces import Space, Values, Variable

MOST = 1_000_000  # values of a finite space that is numbered; beyond that a vector is all that a learner can use


@dataclass(frozen=True)
class Flattened:
    """One space of an environment, and the one code between its values and ours.

    Attributes:
        space: Gymnasium's.
        variables: a finite one for each number of a finite space, else one vector.
    """

    space: Any
    variables: tuple[Variable, ...]

    @property
    def finite(self) -> bool:
        """Whether every variable is a number."""
        return self.variables[0].size is not None

    @property
    def numbered(self) -> Space | None:
        """The variables as a numbered space, or None where they are a vector."""
        if not self.finite:
            return None
        names, sizes = [variable.name for variable in self.variables], [variable.size for variable in self.variables]
        whole = tuple(n for n in sizes if n is not None)
        return Space(tuple(names), whole, (torch.long,) * len(names), named=len(names) > 1)

    @property
    def box(self) -> Any:
        """The Box in which a vector lies."""
        import gymnasium

        return self.space if _is_box(self.space) else gymnasium.spaces.flatten_space(self.space)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one flat value: ``[]`` for one number, ``[V]`` for several, else the vector's."""
        return tuple(self.variables[0].shape) if len(self.variables) == 1 else (len(self.variables),)

    def flat(self, value: Any) -> Tensor:
        """Return one of Gymnasium's values as numbers or as a vector, of ``shape``."""
        import gymnasium

        if self.finite:
            return torch.tensor(list(_numbers(self.space, value))).reshape(self.shape)
        return torch.as_tensor(value if _is_box(self.space) else gymnasium.spaces.flatten(self.space, value))

    def batch(self, values: Sequence[Any]) -> Tensor:
        """Return several of Gymnasium's values as flat ones, one row each."""
        if not self.finite and _is_box(self.space):
            return torch.as_tensor(np.stack(values))
        return torch.stack([self.flat(value) for value in values])

    def value(self, flat: Any) -> Any:
        """Return the value of Gymnasium's that a flat one stands for."""
        import gymnasium

        if self.finite:
            return _value(self.space, iter(np.asarray(flat).reshape(-1).tolist()))
        return np.asarray(flat) if _is_box(self.space) else gymnasium.spaces.unflatten(self.space, np.asarray(flat))

    def pack(self, flat: Tensor) -> Values:
        """Return a batch of flat values by variable: a dict where there are several."""
        if len(self.variables) == 1:
            return flat
        return {variable.name: flat[..., i] for i, variable in enumerate(self.variables)}

    def unpack(self, values: Values) -> Tensor:
        """Return a batch as flat values; the inverse of ``pack``."""
        if isinstance(values, dict):
            return torch.stack([values[variable.name] for variable in self.variables], -1)
        return values


def flattened(name: str, space: Any, *, bounded: bool = False) -> Flattened:
    """Read off a space which variables a learner meets.

    Args:
        name: of the variable; of several, each has its place after it.
        space: Gymnasium's.
        bounded: whether a vector must lie within bounds, and be no code of numbers: an action.

    Raises:
        WorldError: the space fits neither.
    """
    import gymnasium

    places = _places(space)
    if places is not None and math.prod(n for _, n in places) <= MOST:
        variables = tuple(Variable(name + place, n, torch.Size(), torch.long) for place, n in places)
        return Flattened(space, variables)
    if places is not None and bounded:
        size = math.prod(n for _, n in places)
        raise fault(f"environment, {name} space", f"{space}: {size:,} joint values", f"at most {MOST:,}")
    vector = _is_box(space) or (space.is_np_flattenable and (not bounded or _boxes(space)))
    box: Any = None if not vector else space if _is_box(space) else gymnasium.spaces.flatten_space(space)
    if box is None or (bounded and not box.is_bounded()):
        expected = "a finite space, or Box (with bounds, for actions), or a Tuple or Dict of one of the two"
        raise fault(f"environment, {name} space", f"{space}", expected)
    return Flattened(space, (Variable(name, None, torch.Size(box.shape), torch.float32),))


def _is_box(space: Any) -> bool:
    import gymnasium

    return isinstance(space, gymnasium.spaces.Box)


def _boxes(space: Any) -> bool:
    parts = _parts(space)
    return _is_box(space) if parts is None else all(_boxes(part) for _, part in parts)


def _parts(space: Any) -> list[tuple[Any, Any]] | None:
    """Return the named parts of a Tuple or a Dict, else None."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Dict):
        return list(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, gymnasium.spaces.Tuple) else None


def _places(space: Any) -> list[tuple[str, int]] | None:
    """Return a name's ending and the number of values for each number of a finite space; None where it is none."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return [("", int(space.n))]
    if isinstance(space, gymnasium.spaces.MultiDiscrete | gymnasium.spaces.MultiBinary):
        sizes = getattr(space, "nvec", np.full(space.shape, 2))
        return [(f"_{i}", int(n)) for i, n in enumerate(np.reshape(sizes, -1))]
    every: list[tuple[str, int]] = []
    for key, part in _parts(space) or ():
        places = _places(part)
        if places is None:
            return None
        every += [(f"_{key}{place}", n) for place, n in places]
    return every or None


def _numbers(space: Any, value: Any) -> Iterator[int]:
    """Yield the numbers of a value of a finite space, from 0."""
    parts = _parts(space)
    if parts is None:
        yield from (np.asarray(value, np.int64) - getattr(space, "start", 0)).reshape(-1).tolist()
    for key, part in parts or ():
        yield from _numbers(part, value[key])


def _value(space: Any, numbers: Iterator[int]) -> Any:
    """Build a value of a finite space from its numbers."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return next(numbers) + int(space.start)
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_value(part, numbers) for part in space.spaces)
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _value(part, numbers) for key, part in space.spaces.items()}
    each = np.array([next(numbers) for _ in range(math.prod(space.shape))]).reshape(space.shape)
    return (each + getattr(space, "start", 0)).astype(space.dtype)
