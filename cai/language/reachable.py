"""What can be reached: a breadth-first search over whole numbers, a layer at a time."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from cai.support.memory import require_room


def reachable(
    where: str, start: int, following: Callable[[Tensor], Tensor], steps: int | None = None
) -> tuple[Int[Tensor, " S"], Int[Tensor, "S V"]]:
    """Return the keys that can be reached, the start first and then layer by layer, and the next of each, numbered so.

    Keys that only the last step reaches have no next one: they stay as they are.

    Args:
        where: what asks for them, said in the error.
        start: the first key.
        following: the V next keys of each key, ``[N]`` to ``[N, V]``.
        steps: after how many steps the search ends; None where it ends with what is new.

    Raises:
        IntractableError: there are more than fit into memory.
    """
    frontier = keys = known = torch.tensor([start])  # known: the keys, sorted; number: of each of them
    number, rows = torch.tensor([0]), list[Tensor]()
    while len(frontier) and (steps is None or len(rows) < steps):
        rows.append(following(frontier))
        new = rows[-1].unique()
        frontier = new[known[torch.searchsorted(known, new).clamp(max=len(known) - 1)] != new]
        V, S = rows[-1].shape[-1], len(keys) + len(frontier)
        require_room(where, f"{S:,} states of {V} tokens", 80 * V * S, "a smaller order, vocabulary or automaton")
        keys = torch.cat((keys, frontier))
        known, order = torch.cat((known, frontier)).sort()
        number = torch.cat((number, torch.arange(len(number), S)))[order]
    rows.append(frontier.unsqueeze(-1).repeat(1, rows[-1].shape[-1]))
    return keys, torch.cat([number[torch.searchsorted(known, row)] for row in rows])
