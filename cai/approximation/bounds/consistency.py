"""What regions that overlap are asked to agree on: which values their shared variables have, and the action."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cai.approximation.bounds.regions import ACTION, Numbers, Region

MOST_KEYS = 2.0**62
"""Joint values that an integer numbers."""


def differences(regions: Sequence[Region], sizes: Mapping[str, int], first: Numbers) -> Any:
    """Return the sparse matrix from a price on each shared value to a price on each choice: +1 in one, -1 in the other.

    Args:
        regions: the master first.
        sizes: the number of values of each variable.
        first: where the choices of each region begin.
    """
    from scipy.sparse import csr_matrix

    rows, columns, signs, n = list[Numbers](), list[Numbers](), list[Numbers](), 0
    for j, k in neighbours(regions):
        cells, count = shared_cells(regions[j], regions[k], sizes)
        if count == 1:
            continue
        for region, cell, way in zip((j, k), cells, (1.0, -1.0), strict=True):
            rows.append(first[region] + np.arange(len(cell)))
            columns.append(n + cell)
            signs.append(np.full(len(cell), way))
        n += count
    if not rows:
        return csr_matrix((first[-1], 0))
    row, column, sign = (np.concatenate(part) for part in (rows, columns, signs))
    return csr_matrix((sign, (row, column)), shape=(first[-1], n))


def neighbours(regions: Sequence[Region]) -> list[tuple[int, int]]:
    """Return pairs of regions: each with the master, and for each of its variables with the home that shares most."""
    pairs: dict[tuple[int, int], None] = {}
    for k, region in enumerate(regions):
        if k and region.shape[1] > 1:
            pairs[0, k] = None
        for name in region.scope:
            homes = [j for j, other in enumerate(regions) if j != k and name in other.core]
            if homes:
                j = max(homes, key=lambda j: len(set(regions[j].scope) & set(region.scope)))
                pairs[min(j, k), max(j, k)] = None
    return list(pairs)


def shared_cells(one: Region, other: Region, sizes: Mapping[str, int]) -> tuple[list[Numbers], int]:
    """Return which shared value each choice of both has, and how many such values there are."""
    kinds, number, names = coarsened(one.kinds, other.kinds), 1.0, list[str]()
    for name in one.scope:
        if name in other.scope and number * sizes[name] * (kinds.max() + 1) < MOST_KEYS:
            names.append(name)
            number *= sizes[name]
    keys = []
    for region in (one, other):
        key = kinds[region.choices[ACTION]].astype(np.int64)
        for name in names:
            key = key * sizes[name] + region.choices[name]
        keys.append(key)
    cells, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    return np.split(inverse.ravel(), [len(keys[0])]), len(cells)


def coarsened(one: Numbers, other: Numbers) -> Numbers:
    """Return the finest classes of actions that both classes decide, ``[A]``."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = int(one.max()) + 1
    size = n + int(other.max()) + 1
    ties = coo_matrix((np.ones(len(one)), (one, n + other)), shape=(size, size))
    labels: Numbers = connected_components(ties, directed=False)[1]
    return labels[one]
