"""Upper bounds by dual decomposition."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cai.approximation.bounds.regions import ACTION, Numbers, Parts, Region, regions
from cai.compile.factor_model import Factors


def joined_kinds(one: Numbers, other: Numbers) -> Numbers:
    """Return the finest partition of actions coarser than both."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    A = len(one)
    n = one.max() + 1
    graph = coo_matrix((np.ones(A), (one, n + other)), shape=(n + other.max() + 1,) * 2)
    return connected_components(graph, directed=False)[1][one]


class Dual:
    def __init__(self, factors: Factors, most: int, temperature: float | None = None, cells: int = 4096) -> None:
        from scipy.sparse import csr_matrix, hstack, vstack

        self.factors, self.alpha = factors, temperature
        parts = Parts(factors)
        self.regions = found = regions(parts, most)
        self.T = factors.horizon or 0
        A = factors.actions.size
        # master
        every = [region.kinds for region in found] + [parts._kinds(p) for p in parts.rewards]
        kinds = np.unique(np.stack(every), axis=1, return_inverse=True)[1].ravel()
        _, picks = np.unique(kinds, return_index=True)
        choices = {ACTION: picks} | {name: value[picks] for name, value in parts.actions.items()}
        n = len(picks)
        master = Region((), (), kinds, choices, (1, n, 1), (np.arange(n), np.zeros(n, int), np.ones(n)), np.ones(1), {})
        self.every = found = [master, *found]
        sizes = [len(region.choices[ACTION]) for region in found]
        states = [region.shape[0] for region in found]
        self.first = np.cumsum([0, *sizes])
        self.state0 = np.cumsum([0, *states])
        base = [np.zeros(size) for size in sizes]
        final = [np.zeros(size) for size in states]
        self.constant = 0.0
        gamma = factors.discount
        for piece in parts.rewards:
            k = next((k for k, r in enumerate(found) if set(parts.states_of(piece.scope)) <= set(r.core)), None)
            table = piece.table.numpy()
            if k is None:
                self.constant += float(table.max()) * sum(gamma**t for t in range(self.T))
                continue
            base[k] = base[k] + table[tuple(found[k].choices[name] for name in piece.scope)]
        for piece in factors.terminal:
            k = next((k for k, r in enumerate(found) if set(piece.scope) <= set(r.core)), None)
            table = piece.table.numpy()
            if k is None:
                self.constant += float(table.max()) * gamma**self.T
                continue
            final[k] = final[k] + table[tuple(found[k].states[name] for name in piece.scope)]
        self.base, self.final = np.concatenate(base), np.concatenate(final)
        row, col, p = zip(*[(r.outcomes[0] + f, r.outcomes[1] + s, r.outcomes[2]) for r, f, s in zip(found, self.first, self.state0)])
        N, S = self.first[-1], self.state0[-1]
        self.P = csr_matrix((np.concatenate(p), (np.concatenate(row), np.concatenate(col))), shape=(N, S))
        self.PT = self.P.T.tocsr()
        self.start = np.concatenate([r.start for r in found])
        # segments
        self.length_o = np.concatenate([np.full(r.shape[0] * r.shape[1], r.shape[2]) for r in found])
        self.length_c = np.concatenate([np.full(r.shape[0], r.shape[1]) for r in found])
        self.seg_o = np.cumsum([0, *self.length_o[:-1]])
        self.seg_c = np.cumsum([0, *self.length_c[:-1]])
        self.seg = self.seg_o[self.seg_c]
        self.length = np.diff([*self.seg, N])
        # separators
        homes = {}
        pairs = {}
        for k, r in enumerate(found):
            if r.shape[1] > 1 and k:
                pairs[(0, k)] = None
            for name in r.scope:
                inside = [(len(set(q.scope) & set(r.scope)), -j, j) for j, q in enumerate(found) if j != k and name in q.core]
                if inside:
                    j = max(inside)[2]
                    pairs[(min(j, k), max(j, k))] = None
        cols, D = [], 0
        blocks = []
        for j, k in pairs:
            a, b = found[j], found[k]
            kinds = joined_kinds(a.kinds, b.kinds)
            shared = [name for name in a.scope if name in b.scope]
            ids = []
            for r in (a, b):
                key = kinds[r.choices[ACTION]].astype(np.int64)
                for name in shared:
                    key = key * factors.sizes[name] + r.choices[name]
                ids.append(key)
            cellsjk, inverse = np.unique(np.concatenate(ids), return_inverse=True)
            if len(cellsjk) <= 1:
                continue
            i1, i2 = inverse[: len(ids[0])], inverse[len(ids[0]) :]
            blocks.append((np.arange(sizes[j]) + self.first[j], i1 + D, np.ones(sizes[j])))
            blocks.append((np.arange(sizes[k]) + self.first[k], i2 + D, -np.ones(sizes[k])))
            D += len(cellsjk)
        self.D = D
        row, col, v = (np.concatenate(x) for x in zip(*blocks))
        self.M = csr_matrix((v, (row, col)), shape=(N, D))
        self.MT = self.M.T.tocsr()

    def hard(self, theta):
        v = self.final
        for t in reversed(range(self.T)):
            q = self.base + self.M @ theta[t] + self.factors.discount * (self.P @ v)
            v = np.maximum.reduceat(q, self.seg)
        return float(self.start @ v) + self.constant

    def smooth(self, theta, tau):
        v, pis = self.final, [None] * self.T
        for t in reversed(range(self.T)):
            q = self.base + self.M @ theta[t] + self.factors.discount * (self.P @ v)
            top = np.maximum.reduceat(q, self.seg)
            w = np.exp((q - top.repeat(self.length)) / tau)
            total = np.add.reduceat(w, self.seg)
            pis[t] = w / total.repeat(self.length)
            v = top + tau * np.log(total)
        value = float(self.start @ v)
        mu, grad = self.start, np.zeros_like(theta)
        for t in range(self.T):
            d = mu.repeat(self.length) * pis[t]
            grad[t] = self.MT @ d
            mu = self.factors.discount * (self.PT @ d)
        return value + self.constant, grad
