"""Records of real readings or actions over time, as vectors; missing numbers are NaN."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.world.coordinates import Coordinates

Vectors = Mapping[str, Any] | Sequence[Any] | Tensor
"""A record over time: named values ``[*B, T, *shape]``; a sequence over time of dicts, of values where there is one
variable, or of None where nothing was seen; or a tensor ``[*B, T, *shape]``, where there are several variables of their
coordinates ``[*B, T, p]``."""


def vectors(space: Coordinates, record: Vectors, like: Tensor, where: str) -> Float[Tensor, "*B T p"]:
    """Read a record as vectors of a space, in the dtype and on the device of ``like``; NaN is a missing number.

    Raises:
        WorldError: a variable is missing or unknown, a value does not have its shape, or is infinite.
    """
    if isinstance(record, Mapping):
        if {*record} != {*space.names}:
            raise fault(where, f"values of {list(record)}", f"values of each of {list(space.names)}")
        return space.join({name: _values(space, name, record[name], like, 1, where) for name in space.names})
    if isinstance(record, Tensor):
        if len(space.names) > 1:
            return _shaped(record.to(like), torch.Size((space.dimension,)), 1, where)
        return space.join({space.names[0]: _values(space, space.names[0], record, like, 1, where)})
    each = [_moment(space, moment, like, f"{where}, t = {t}") for t, moment in enumerate(record)]
    return torch.stack(torch.broadcast_tensors(*each), -2) if each else like.new_zeros(0, space.dimension)


def _moment(space: Coordinates, moment: Any, like: Tensor, where: str) -> Float[Tensor, "*B p"]:
    """Read the values of one time; a variable that is left out is missing."""
    if moment is None:
        return like.new_full((space.dimension,), torch.nan)
    if not isinstance(moment, Mapping):
        if len(space.names) > 1:
            raise fault(where, f"{moment!r}", f"a dict of {list(space.names)}, or None where nothing was seen")
        moment = {space.names[0]: moment}
    if not {*moment} <= {*space.names}:
        raise fault(where, f"values of {list(moment)}", f"values of {list(space.names)}")
    return space.join({name: _values(space, name, moment.get(name), like, 0, where) for name in space.names})


def _values(space: Coordinates, name: str, value: Any, like: Tensor, before: int, where: str) -> Tensor:
    """Return a variable's values, with at least ``before`` axes in front of its own; None is NaN."""
    shape, where = space.shapes[space.names.index(name)], f"{where}, variable '{name}'"
    if value is None:
        return like.new_full(shape, torch.nan)
    if isinstance(value, Sequence):
        value = [torch.nan if x is None else x for x in value]
    try:
        numbers = torch.as_tensor(value).to(like)
    except (TypeError, ValueError, RuntimeError):
        raise fault(where, f"{value!r}", "real numbers, or None where nothing was seen") from None
    return _shaped(numbers, shape, before, where)


def _shaped(numbers: Tensor, shape: torch.Size, before: int, where: str) -> Tensor:
    axes = numbers.dim() - len(shape)
    if axes < before or numbers.shape[axes:] != shape:
        expected = f"{'time, then ' if before else ''}the variable's own shape {tuple(shape)}"
        raise fault(where, f"shape {tuple(numbers.shape)}", expected)
    if bool(numbers.isinf().any()):
        raise fault(where, "an infinite number", "finite numbers, or NaN where nothing was seen")
    return numbers
