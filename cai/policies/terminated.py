"""Ended states have no actions: a policy need not have probabilities there."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def replace_terminated(ended: Bool[Tensor, " S"] | None) -> Int[Tensor, " S"] | None:
    """Return the numbers of all states, with an ended one replaced by the first that has not ended; None for no change.

    So a policy that is called on these states is never called on an ended one.
    """
    if ended is None or bool(ended.all()):
        return None
    return torch.where(ended.cpu(), int((~ended).nonzero()[0]), torch.arange(len(ended)))


def pad_terminated(ended: Bool[Tensor, " S"] | None, rows: Tensor) -> Tensor:
    """Add the rows of ended states to a table ``[…, S, A]`` that leaves them out, where they are the last.

    The added value is 1/A, for probabilities and for logarithms: it is never used.
    """
    if ended is None or rows.dim() < 2 or rows.shape[-2] == len(ended):
        return rows
    living = len(ended) - int(ended.sum())
    if rows.shape[-2] != living or bool(ended[:living].any()):
        return rows
    added = torch.full((*rows.shape[:-2], len(ended) - living, rows.shape[-1]), 1 / rows.shape[-1])
    return torch.cat([rows, added.to(rows)], -2)
