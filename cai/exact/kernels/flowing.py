"""The adjoint of POSTERIOR along its merged successors, and its sharing out among the outcomes."""

from functools import cache
from typing import Any, no_type_check

import numpy as np

from cai.exact.kernels.arithmetic import exp, kernel


@cache
@no_type_check
def flow(E: int) -> Any:
    """Return the kernel of ``f(s, s') = v̄(s) M(s, s') exp((gain + c(s') - v(s))/α)``: summed, and sent on.

    ``c_bar`` has a row for each thread, and so has ``paid``, which sums ``f (c(s') - v(s))``.
    """
    R = max(1, min(256, 4096 // E))

    @kernel
    def run(v_bar, v, c, M, successor, gain, alpha, total, c_bar, paid, low, high):
        mine = low * c_bar.shape[0] // v.shape[0]
        per, lost = 1.0 / alpha, 0.0
        rise, flowed = np.empty(R * E), np.empty(R * E)
        for first in range(low, high, R):
            n = min(R, high - first)
            to, m = successor[first * E : (first + n) * E], M[first * E : (first + n) * E]
            for i in range(n):
                base = v[first + i] if v[first + i] > -np.inf else np.inf
                for e in range(E):
                    rise[i * E + e] = c[to[i * E + e]] - base
            for j in range(n * E):
                flowed[j] = m[j] * exp((gain + rise[j]) * per) if m[j] > 0.0 else 0.0
            for i in range(n):
                bar = v_bar[first + i]
                for e in range(E):
                    j = i * E + e
                    amount = bar * flowed[j]
                    if amount != 0.0:
                        total[first * E + j] += amount
                        c_bar[mine, to[j]] += amount
                        lost += amount * rise[j]
        paid[mine] += lost

    return run


@kernel
@no_type_check
def share(successor, weight, prior, reward, gain, alpha, E, to, M, flow, out, low, high):
    """Give each outcome its part of the flow between two states, ``p(a|s) p(outcome|s,a) exp((r - gain)/α)/M``."""
    _, A, K = successor.shape
    for s in range(low, high):
        for a in range(A):
            for k in range(K):
                chance, r = prior[s, a] * weight[s, a, k], reward[s, a, k]
                out[s, a, k] = 0.0
                if chance > 0 and r > -np.inf:
                    e = 0
                    while to[s * E + e] != successor[s, a, k] or M[s * E + e] == 0.0:
                        e += 1
                    out[s, a, k] = flow[s * E + e] * chance * exp((r - gain) / alpha) / M[s * E + e]
