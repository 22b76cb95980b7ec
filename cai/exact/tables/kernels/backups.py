"""The backups: each a kernel over the states ``low … high-1``, so that threads can share them out.

Arrays are flat and keep the order of the tables: outcome (s, a, k) stands at ``(s * A + a) * K + k``. An array that is
the same in all states holds one state alone, and its ``step`` is 0. Sizes are constants of the compiled code, since
loops of two or three turns are quick only where the compiler can unroll them.
"""

from functools import cache
from typing import Any, no_type_check

import numpy as np

from cai.exact.tables.kernels.arithmetic import kernel, log, prefetch
from cai.exact.tables.kernels.means import best, soft, soft_warm, spread

EXPECT, SOFT, WARM, VITERBI, BEST = range(5)
AHEAD = 64
"""How many states ahead memory is asked for."""


@cache
@no_type_check
def linear(E: int) -> Any:
    """Return the kernel of ``β(s) = Σ M(s,s') β(s')`` for rows of E successors: POSTERIOR with a fixed prior.

    ``b = β(s')`` is scaled so that its largest is 2^500, what would be below 2^-521 is 0, and M lies between 2^-500 and
    1, so that no product underflows: a sum of 2^-400 at least has lost less than E 2^-121 of itself. Where that cannot
    be said, the states are taken again in log space. ``v = top + α log(2^-500 Σ M b)``; with v itself it is
    ``v = gain + α log(Σ M exp(v/α))``.
    """
    R = max(1, min(256, 4096 // E))

    @kernel
    def run(v, b, v_next, M, successor, alpha, top, gain, low, high):
        x, weights, total = np.empty(R * E), np.empty(R * E), np.empty(R)
        for first in range(low, high, R):
            n = min(R, high - first)
            out = v[first : first + n]
            to, m = successor[first * E : (first + n) * E], M[first * E : (first + n) * E]
            least = np.inf
            for i in range(n):
                prefetch(M, (first + i + AHEAD) * E)
                prefetch(successor, (first + i + AHEAD) * E)
                beta = 0.0
                for e in range(E):
                    beta += m[i * E + e] * b[to[i * E + e]]
                total[i] = beta
                least = min(least, beta)
            if least >= 2.0**-400:
                for i in range(n):
                    out[i] = top + alpha * log(total[i], 500)
                continue
            spread(M, E, first, 0, R, n, E, weights)
            for i in range(n):
                for e in range(E):
                    x[e * R + i] = v_next[to[i * E + e]]
            soft(x, weights, R, n, E, alpha, total, out)
            for i in range(n):
                out[i] = gain + out[i]

    return run


@cache
@no_type_check
def staged(inner: int, outer: int, A: int, K: int) -> Any:
    """Return the kernel of ``q = inner over outcomes of (r + v')``, ``v = outer over actions of q``.

    ``weight`` and ``gain`` are p and r for SOFT and WARM over outcomes, p and E[r|s,a] for EXPECT, nothing and
    α log p + r for VITERBI; ``prior`` is p(a|s) for SOFT and WARM over actions, else what is added to q before the
    maximum.
    """
    R = max(1, min(256, 4096 // max(A, K)))

    @kernel
    def run(v, v_next, successor, weight, w_step, gain, g_step, prior, p_step, alpha, eta, low, high):
        x, q, total, less = np.empty(R * K), np.empty(R * A), np.empty(R), np.empty(R)
        chosen, outcomes = np.empty(R * A), np.empty(R * K)
        spread(prior, 0, 0, 0, R, R, A, chosen)
        for first in range(low, high, R):
            n = min(R, high - first)
            to = successor[first * A * K : (first + n) * A * K]
            p, r = weight[first * w_step :], gain[first * g_step :]
            if inner == EXPECT:
                for i in range(n):
                    prefetch(successor, (first + i + AHEAD) * A * K)
                    prefetch(gain, (first + i + AHEAD) * g_step)
                    for a in range(A):
                        mean = r[i * g_step + a]
                        for k in range(K):
                            mean += p[i * w_step + a * K + k] * v_next[to[(i * A + a) * K + k]]
                        q[a * R + i] = mean
            elif inner == VITERBI:
                for i in range(n):
                    for a in range(A):
                        top = -np.inf
                        for k in range(K):
                            at = a * K + k
                            top = max(top, r[i * g_step + at] + v_next[to[i * A * K + at]])
                        q[a * R + i] = top
            else:
                for a in range(A):
                    spread(weight, w_step, first, a * K, R, n, K, outcomes)
                    for i in range(n):
                        for k in range(K):
                            at = a * K + k
                            x[k * R + i] = r[i * g_step + at] + v_next[to[i * A * K + at]]
                    if inner == WARM:
                        soft_warm(x, outcomes, R, n, K, eta, total, less, q[a * R : a * R + n])
                    else:
                        soft(x, outcomes, R, n, K, eta, total, q[a * R : a * R + n])
            if p_step > 0:
                spread(prior, p_step, first, 0, R, n, A, chosen)
            out = v[first : first + n]
            if outer == SOFT:
                soft(q, chosen, R, n, A, alpha, total, out)
            elif outer == WARM:
                soft_warm(q, chosen, R, n, A, alpha, total, less, out)
            else:
                best(q, chosen, R, n, A, out)

    return run
