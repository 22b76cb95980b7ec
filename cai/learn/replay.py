"""The replay buffer: a ring of rows, one for each step of all B copies, as tensors in a learner's state.

Rows are written in place. An earlier state stays valid until the ring is full, because its own count says which rows it
may read.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from cai.errors import fault

PREFIX = "replay."


def empty(capacity: int, row: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ring without rows, for rows like the given one.

    Args:
        capacity: how many rows it holds, B transitions each.
        row: tensors ``[B, …]`` by name, as examples.

    Raises:
        WorldError: not even one row fits.
    """
    if capacity < 1:
        raise fault("learner, capacity", "less than one step of all copies", "at least as many transitions as copies")
    rings = {f"{PREFIX}{name}": torch.zeros((capacity, *x.shape), dtype=x.dtype) for name, x in row.items()}
    return {**rings, f"{PREFIX}count": torch.zeros((), dtype=torch.long)}


def add(values: Mapping[str, Tensor], row: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Write a row, and return the ring with its new count."""
    rings = {name: values[f"{PREFIX}{name}"] for name in row}
    count = values[f"{PREFIX}count"]
    place = int(count) % len(next(iter(rings.values())))
    for name, x in row.items():
        rings[name][place] = x
    return {**{f"{PREFIX}{name}": ring for name, ring in rings.items()}, f"{PREFIX}count": count + 1}


def places(values: Mapping[str, Tensor], n: int, ahead: int = 1) -> tuple[Tensor, Tensor]:
    """Draw n transitions: rows that have ``ahead`` rows from themselves on, and copies; ``[n]`` both."""
    any_ring = next(ring for name, ring in values.items() if name.startswith(PREFIX) and ring.dim() >= 2)
    capacity, count = len(any_ring), int(values[f"{PREFIX}count"])
    filled = min(count, capacity)
    row = torch.randint(max(filled - ahead + 1, 1), (n,))
    return (row + max(count - capacity, 0)) % capacity, torch.randint(any_ring.shape[1], (n,))


def read(values: Mapping[str, Tensor], name: str, row: Tensor, copy: Tensor) -> Tensor:
    """Return what lies at the places, ``[n, …]``; rows count on around the ring."""
    ring = values[f"{PREFIX}{name}"]
    return ring[row % len(ring), copy]
