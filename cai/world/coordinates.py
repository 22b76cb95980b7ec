"""The real spaces of a world: named variables, each a number or a tensor of numbers, laid side by side as vectors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault
from cai.support.wording import meant
from cai.world.spaces import Values, Variable


@dataclass(frozen=True)
class Coordinates:
    """A real space R^n: variables in the order in which the program samples them, flattened and laid side by side.

    Attributes:
        names: the variables.
        shapes: the shape of each variable's events; empty for a number.
        named: whether the program uses a dict of variables, or one bare tensor.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    named: bool = True

    @classmethod
    def of(cls, variables: Sequence[Variable], named: bool) -> "Coordinates":
        """Return the space of variables that a program samples."""
        return cls(tuple(v.name for v in variables), tuple(v.shape for v in variables), named)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables, as a program describes them: none is finite."""
        real = torch.float64
        return tuple(Variable(name, None, shape, real) for name, shape in zip(self.names, self.shapes, strict=True))

    @property
    def dimension(self) -> int:
        """n, the number of coordinates."""
        return sum(shape.numel() for shape in self.shapes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The slice of the coordinates of each variable."""
        ends, slices = 0, {}
        for name, shape in zip(self.names, self.shapes, strict=True):
            slices[name] = slice(ends, ends + shape.numel())
            ends += shape.numel()
        return slices

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each coordinate: ``position``, or ``state[0]`` in a vector."""
        return tuple(
            f"{name}[{', '.join(map(str, place))}]" if shape else name
            for name, shape in zip(self.names, self.shapes, strict=True)
            for place in _places(shape)
        )

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """Lay named values side by side, ``[*, n]``; batches broadcast."""
        flat = [
            value.flatten(-len(shape)) if len(shape) else value.unsqueeze(-1)
            for value, shape in ((values[name], shape) for name, shape in zip(self.names, self.shapes, strict=True))
        ]
        batch = torch.broadcast_shapes(*(value.shape[:-1] for value in flat))
        return torch.cat([value.expand(*batch, -1) for value in flat], -1)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Give each variable's value in vectors ``[*, n]``; the inverse of ``join``."""
        pieces = x.split([shape.numel() for shape in self.shapes], -1)
        batch = x.shape[:-1]
        each = zip(self.names, pieces, self.shapes, strict=True)
        return {name: piece.reshape((*batch, *shape)) for name, piece, shape in each}

    def pack(self, values: Mapping[str, Tensor]) -> Values:
        """Return named values in the form that the program uses: a dict, or one bare tensor."""
        return dict(values) if self.named else values[self.names[0]]

    def unpack(self, values: Values) -> dict[str, Tensor]:
        """Return named values from the form that the program uses."""
        return dict(values) if isinstance(values, Mapping) else {self.names[0]: values}

    def where(self, names: Sequence[str]) -> list[int]:
        """Return the coordinates of some variables, or of single coordinates by label, in the order given.

        Raises:
            WorldError: there is no such variable.
        """
        found: list[int] = []
        for name in names:
            if name in self.slices:
                found += range(self.dimension)[self.slices[name]]
            elif name in self.labels:
                found.append(self.labels.index(name))
            else:
                known = dict.fromkeys((*self.names, *self.labels))
                raise fault(f"variable '{name}'", "no such variable", f"one of {', '.join(known)}{meant(name, known)}")
        return found

    def placed(self, given: Mapping[str, Any], where: str) -> dict[int, float]:
        """Return values by coordinate: of variables, ``state=[0.1, 0.2]``, or of coordinates, ``{"state[0]": 0.1}``.

        Raises:
            WorldError: there is no such variable, it has another size, or a value is no finite number.
        """
        placed: dict[int, float] = {}
        for name, value in given.items():
            found = self.where([name])
            try:
                numbers = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
            except (TypeError, ValueError, RuntimeError):
                raise fault(f"{where}, variable '{name}'", f"{value!r}", "numbers") from None
            if len(numbers) != len(found) or not all(map(math.isfinite, numbers)):
                expected = "a finite number" if len(found) == 1 else f"{len(found)} finite numbers"
                raise fault(f"{where}, variable '{name}'", f"{value!r}", expected)
            placed |= zip(found, numbers, strict=True)
        return placed


def _places(shape: torch.Size) -> list[tuple[int, ...]]:
    return [tuple(place) for place in torch.ones(shape).nonzero().tolist()] if shape else [()]
