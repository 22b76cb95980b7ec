"""Successors merged over actions: the rows of the operator M of ``β = M β'``."""

from typing import no_type_check

import numpy as np

from cai.exact.kernels.arithmetic import exp, kernel


@kernel
@no_type_check
def widths(successor, weight, w_step, prior, p_step, A, K, out, low, high):
    """Count each state's distinct successors of positive weight; the count of state s goes to ``out[s]``."""
    seen = np.empty(A * K, np.int64)
    for s in range(low, high):
        n = 0
        for a in range(A):
            for k in range(K):
                if prior[s * p_step + a] * weight[s * w_step + a * K + k] > 0:
                    n = _place(seen, n, successor[(s * A + a) * K + k])[1]
        out[s] = n


@kernel
@no_type_check
def rows(successor, weight, w_step, reward, r_step, gain, prior, p_step, A, K, alpha, E, to, M, least, low, high):
    """Fill rows of E: ``M = Σ p(a|s) p(outcome|s,a) exp((r - gain)/α)`` over all outcomes with that successor.

    ``gain`` is the largest reward, so that M is at most 1. What is left of a row has weight 0. ``least[s]`` is the
    least amount in a row; 0 where one was lost to underflow.
    """
    seen = np.empty(A * K, np.int64)
    for s in range(low, high):
        n, least[s] = 0, np.inf
        for e in range(E):
            to[s * E + e], M[s * E + e] = s, 0.0
        for a in range(A):
            for k in range(K):
                chance = prior[s * p_step + a] * weight[s * w_step + a * K + k]
                r = reward[s * r_step + a * K + k]
                if chance > 0 and r > -np.inf:
                    following = successor[(s * A + a) * K + k]
                    e, n = _place(seen, n, following)
                    to[s * E + e] = following
                    amount = chance * exp((r - gain) / alpha)
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
