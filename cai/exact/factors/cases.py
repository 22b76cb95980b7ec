"""A factor with a table for each joint action, equal tables stored once, and the cost of operations on such factors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, aligned
from cai.world.spaces import Space


@dataclass(frozen=True)
class Cases:
    """A factor by joint action: the distinct tables that it has, and which of them each action sees.

    Attributes:
        scope: its variables but for the actions.
        tables: ``[C, *scope]``.
        case: which table each joint action sees, ``[A]``.
    """

    scope: tuple[str, ...]
    tables: Tensor
    case: Tensor


def by_action(factor: Factor, actions: Space) -> Cases:
    """Split a factor by joint action, equal tables once."""
    own = [name for name in factor.scope if name in actions.names]
    rest = tuple(name for name in factor.scope if name not in actions.names)
    table = aligned(factor, (*own, *rest))
    if not own:
        return Cases(rest, table.unsqueeze(0), torch.zeros(actions.size, dtype=torch.long))
    values = actions.split(torch.arange(actions.size))
    index = torch.zeros(actions.size, dtype=torch.long)
    for name in own:
        index = index * factor.table.shape[factor.scope.index(name)] + values[name].long()
    rows = table.flatten(0, len(own) - 1)
    if table.requires_grad:
        return Cases(rest, rows, index)
    distinct, inverse = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    return Cases(rest, distinct.reshape(-1, *rows.shape[1:]), inverse[index])
