"""Successors merged over actions: the rows of the operator M of ``β = M β'``."""

from typing import no_type_check

import numpy as np

from cai.exact.tables.kernels.arithmetic import exp, kernel


@kernel
@no_type_check
def widths(successor, weight, prior, out, low, high):
    """Count each state's distinct successors of positive weight; the count of state s goes to ``out[s]``."""
    _, A, K = successor.shape
    seen = np.empty(A * K, np.int64)
    for s in range(low, high):
        n = 0
        for a in range(A):
            for k in range(K):
                if prior[s, a] * weight[s, a, k] > 0:
                    n = _place(seen, n, successor[s, a, k])[1]
        out[s] = n


@kernel
@no_type_check
def rows(successor, weight, prior, reward, gain, alpha, E, to, M, least, low, high):
    """Fill rows of E: ``M = Σ p(a|s) p(outcome|s,a) exp((r - gain)/α)`` over all outcomes with that successor.

    ``gain`` is the largest reward, so that M is at most 1. What is left of a row has weight 0. ``least[s]`` is the
    least amount in a row; 0 where one was lost to underflow.
    """
    _, A, K = successor.shape
    seen = np.empty(A * K, np.int64)
    paid, factor = gain, 1.0  # most rewards are those of the outcome before
    for s in range(low, high):
        n, least[s] = 0, np.inf
        for e in range(E):
            to[s * E + e], M[s * E + e] = s, 0.0
        for a in range(A):
            for k in range(K):
                chance, r = prior[s, a] * weight[s, a, k], reward[s, a, k]
                if chance > 0 and r > -np.inf:
                    following = successor[s, a, k]
                    e, n = _place(seen, n, following)
                    to[s * E + e] = following
                    if r != paid:
                        paid, factor = r, exp((r - gain) / alpha)
                    amount = chance * factor
                    M[s * E + e] += amount
                    least[s] = min(least[s], amount)


@kernel
@no_type_check
def _place(seen, n, number):
    for e in range(n):
        if seen[e] == number:
            return e, n
    seen[n] = number
    return n, n + 1
