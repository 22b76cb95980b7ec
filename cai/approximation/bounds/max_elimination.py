"""The maximum of a sum of local functions, or a proved bound above it: mini-bucket elimination (Dechter & Rish 2003).

Variables are eliminated one after the other. The tables that read a variable are added up and maximised over it. Where
their sum would be too large a table, they are split in groups, each maximised on its own:

    max_x Σ_i f_i(x, y)  <=  Σ_groups max_x Σ_{i in group} f_i(x, y)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cai.approximation.bounds.local_sums import merged, rounding, value_at
from cai.compile.factor_model import Factor, added_up

ROOM = 1 << 20
"""Numbers of one table of the elimination; a larger one is split."""


@dataclass(frozen=True)
class Maximum:
    """What an elimination found.

    Attributes:
        upper: at least the maximum over all variables but the kept ones, an axis for each of those.
        where: joint values that attain it where no table was split, and good ones else: ``[K]`` a variable, K the
            number of joint values of the kept ones.
        exact: whether no table was split.
    """

    upper: Tensor
    where: dict[str, Tensor]
    exact: bool


def maximum(
    pieces: Sequence[Factor], sizes: Mapping[str, int], kept: tuple[str, ...] = (), room: int = ROOM
) -> Maximum:
    """Bound ``max_x Σ_i f_i(x, kept)`` from above, rounding counted in.

    Args:
        pieces: the tables; -inf is allowed.
        sizes: the number of values of each variable; all but the kept ones are eliminated.
        kept: variables that stay.
        room: numbers of one table.
    """
    tables = list(merged(pieces))
    order = elimination_order(tuple(piece.scope for piece in tables), tuple(sizes.items()), kept)
    buckets: list[tuple[str, list[Factor]]] = []
    exact = True
    for name in order:
        bucket = [table for table in tables if name in table.scope]
        tables = [table for table in tables if name not in table.scope]
        groups = _groups(bucket, sizes, room)
        exact = exact and len(groups) <= 1
        tables += [_maximised(group, name) for group in groups]
        buckets.append((name, bucket))
    shape = tuple(sizes[name] for name in kept)
    upper = added_up(tables, kept, torch.float64).expand(shape) + rounding(pieces)
    return Maximum(upper, _decoded(buckets, sizes, kept), exact)


@lru_cache(maxsize=256)
def elimination_order(
    scopes: tuple[tuple[str, ...], ...], sizes: tuple[tuple[str, int], ...], kept: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the variables in an order of elimination, the one with the smallest product first (Koller 2009, 9.4)."""
    size, tables, order = dict(sizes), [frozenset(scope) for scope in scopes], list[str]()
    left = {name for name in size if name not in kept}

    def product(name: str) -> frozenset[str]:
        return frozenset[str]().union(*(scope for scope in tables if name in scope))

    numbers = {name: math.prod(size[other] for other in product(name)) for name in sorted(left)}
    while numbers:
        name = min(numbers, key=numbers.__getitem__)
        result = product(name) - {name}
        tables = [scope for scope in tables if name not in scope] + [result]
        order.append(name)
        del numbers[name]
        for other in result & numbers.keys():
            numbers[other] = math.prod(size[third] for third in product(other))
    return tuple(order)


def _groups(bucket: list[Factor], sizes: Mapping[str, int], room: int) -> list[list[Factor]]:
    """Split tables in groups whose sums have room, each in the first group where it fits."""
    groups: list[tuple[set[str], list[Factor]]] = []
    for table in sorted(bucket, key=lambda table: -table.table.numel()):
        for scope, group in groups:
            if math.prod(sizes[name] for name in scope.union(table.scope)) <= room:
                scope.update(table.scope)
                group.append(table)
                break
        else:
            groups.append((set(table.scope), [table]))
    return [group for _, group in groups]


def _maximised(group: list[Factor], name: str) -> Factor:
    rest = tuple(dict.fromkeys(other for table in group for other in table.scope if other != name))
    total = added_up(group, (*rest, name), torch.float64)
    return Factor(rest, total.amax(-1))


def _decoded(
    buckets: list[tuple[str, list[Factor]]], sizes: Mapping[str, int], kept: tuple[str, ...]
) -> dict[str, Tensor]:
    """Choose each variable's best value, the one eliminated last first, for every joint value of the kept ones."""
    K = math.prod(sizes[name] for name in kept)
    number, known = torch.arange(K), dict[str, Tensor]()
    for name in reversed(kept):
        known[name] = number % sizes[name]
        number = number // sizes[name]
    for name, bucket in reversed(buckets):
        values = {other: value.unsqueeze(-1) for other, value in known.items()} | {name: torch.arange(sizes[name])}
        scores = value_at(bucket, values).expand(K, sizes[name])
        known[name] = scores.argmax(-1)
    return {name: value for name, value in known.items() if name not in kept}
