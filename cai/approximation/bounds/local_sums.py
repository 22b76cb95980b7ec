"""Sums of local functions: f(x) = Σ_i f_i(x_scope_i), a tuple of ``Factor``, never one table over all variables."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, added_up

LocalSum = tuple[Factor, ...]
"""Tables, each over a few variables, whose sum is the function."""
ULPS = 64
"""Units in the last place that one table of a sum may lose to rounding, of the largest number that it holds."""


def constant(value: float, like: Tensor) -> Factor:
    """Return a table over no variable."""
    return Factor((), like.new_tensor(value))


def minus(pieces: Iterable[Factor]) -> LocalSum:
    """Return -f."""
    return tuple(Factor(piece.scope, -piece.table) for piece in pieces)


def scaled(pieces: Iterable[Factor], by: float) -> LocalSum:
    """Return ``by · f``, ``by > 0``."""
    return tuple(piece if by == 1 else Factor(piece.scope, by * piece.table) for piece in pieces)


def merged(pieces: Iterable[Factor]) -> LocalSum:
    """Add tables up whose variables another table has, too."""
    groups: dict[tuple[str, ...], list[Factor]] = {}
    for piece in sorted(pieces, key=lambda piece: -piece.table.numel()):
        home = next((scope for scope in groups if set(scope).issuperset(piece.scope)), piece.scope)
        groups.setdefault(home, []).append(piece)
    return tuple(Factor(scope, added_up(group, scope, group[0].table.dtype)) for scope, group in groups.items())


def value_at(pieces: Iterable[Factor], values: Mapping[str, Tensor]) -> Tensor:
    """Return f at joint values of its variables, each of any shape that broadcasts with the others."""
    parts = [piece.table[tuple(values[name] for name in piece.scope)] for piece in pieces]
    return sum(parts[1:], parts[0]) if parts else torch.zeros((), dtype=torch.float64)


def largest(pieces: Iterable[Factor]) -> float:
    """Return Σ_i max f_i, at least max f; -inf where one is never possible."""
    return sum((float(piece.table.max()) for piece in pieces), 0.0)


def rounding(pieces: Iterable[Factor]) -> float:
    """Return how far a sum of these tables may be off by rounding: ``ULPS`` units of the sum of their largest sizes."""
    sizes = [piece.table[piece.table.isfinite()].abs() for piece in pieces]
    total = sum((float(size.max()) for size in sizes if size.numel()), 0.0)
    return ULPS * torch.finfo(torch.float64).eps * total
