"""What can be reached: a breadth-first search over whole numbers, a layer at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from cai.support.memory import require_room

DENSE = 1 << 26
"""How many keys there may be for a table of all of them: half a gigabyte, and several times quicker than sorting."""


def reachable(
    where: str, start: int, following: Callable[[Tensor], Tensor], size: int, steps: int | None = None
) -> tuple[Int[Tensor, " S"], Int[Tensor, "S V"], bool]:
    """Return the keys that can be reached, the start first and then layer by layer, and the next of each, numbered so.

    Keys that only the last step reaches have no next one: they stay as they are. The third answer is whether there are
    none of these.

    Args:
        where: what asks for them, said in the error.
        start: the first key.
        following: the V next keys of each key, ``[N]`` to ``[N, V]``.
        size: how many keys there may be; all are from 0 to size - 1.
        steps: after how many steps the search ends; None where it ends with what is new.

    Raises:
        IntractableError: there are more than fit into memory.
    """
    index: _Index = _Table(size) if size <= DENSE else _Sorted()
    frontier = index.new(torch.tensor([start]))
    keys, rows = [frontier], list[Tensor]()
    while len(frontier) and (steps is None or len(rows) < steps):
        rows.append(following(frontier))
        frontier = index.new(rows[-1].reshape(-1))
        keys.append(frontier)
        V, S = rows[-1].shape[-1], sum(map(len, keys))
        require_room(where, f"{S:,} states of {V} tokens", 80 * V * S, "a smaller order, vocabulary or automaton")
    rows.append(frontier.unsqueeze(-1).repeat(1, rows[-1].shape[-1]))
    return torch.cat(keys), torch.cat([index.numbers(row) for row in rows]), not len(frontier)


@runtime_checkable
class _Index(Protocol):
    """Numbers of keys, from 0 on in the order in which they are given."""

    def new(self, keys: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
        """Number those that have none yet; return them, each once, in ascending order."""

    def numbers(self, keys: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """Return the numbers of keys that have one."""


@dataclass
class _Table:
    """A number for every key that there may be, -1 for none yet."""

    size: int
    count: int = 0
    number: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.number = torch.full((self.size,), -1)

    def new(self, keys: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
        seen = torch.zeros(self.size, dtype=torch.bool)
        seen[keys] = True
        new = (seen & (self.number < 0)).nonzero().flatten()
        self.number[new] = torch.arange(self.count, self.count + len(new))
        self.count += len(new)
        return new

    def numbers(self, keys: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        return self.number[keys]


@dataclass
class _Sorted:
    """The known keys in ascending order, and the number of each."""

    known: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    number: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def new(self, keys: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
        new: Tensor = keys.unique()
        new = new[~torch.isin(new, self.known, assume_unique=True)]
        count = len(self.known)
        self.known, order = torch.cat((self.known, new)).sort()
        self.number = torch.cat((self.number, torch.arange(count, count + len(new))))[order]
        return new

    def numbers(self, keys: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        return self.number[torch.searchsorted(self.known, keys)]
