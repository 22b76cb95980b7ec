"""The adjoint of POSTERIOR along its merged successors, and its sharing out among the outcomes."""

from functools import cache
from typing import Any, no_type_check

import numpy as np

from cai.exact.tables.kernels.arithmetic import exp, kernel, log


@cache
@no_type_check
def flow(E: int) -> Any:
    """Return the kernel of ``f(s, s') = v̄(s) M(s, s') exp(c(s')/α) / Σ M(s, ·) exp(c/α)``: summed, and sent on.

    ``c_bar`` has a row for each thread, and so has ``paid``, which sums ``f α log(exp(c(s')/α) / Σ M(s, ·) exp(c/α))``.
    """
    R = max(1, min(256, 4096 // E))

    @kernel
    def run(v_bar, c, M, successor, alpha, total, c_bar, paid, low, high):
        mine = low * c_bar.shape[0] // v_bar.shape[0]
        per, lost = 1.0 / alpha, 0.0
        rise, flowed = np.empty(R * E), np.empty(R * E)
        for first in range(low, high, R):
            n = min(R, high - first)
            to, m = successor[first * E : (first + n) * E], M[first * E : (first + n) * E]
            for i in range(n):
                best = -np.inf
                for e in range(E):
                    best = max(best, c[to[i * E + e]] if m[i * E + e] > 0.0 else -np.inf)
                for e in range(E):
                    rise[i * E + e] = c[to[i * E + e]] - best if best > -np.inf else -np.inf
            for j in range(n * E):
                flowed[j] = m[j] * exp(min(rise[j], 0.0) * per) if m[j] > 0.0 else 0.0
            for i in range(n):
                beta = 0.0
                for e in range(E):
                    beta += flowed[i * E + e]
                if beta == 0.0:
                    continue
                bar = v_bar[first + i]
                lost -= bar * alpha * log(beta)
                for e in range(E):
                    j = i * E + e
                    amount = bar * flowed[j] / beta
                    if amount != 0.0:
                        total[first * E + j] += amount
                        c_bar[mine, to[j]] += amount
                        lost += amount * rise[j]
        paid[mine] += lost

    return run


@kernel
@no_type_check
def share(successor, weight, prior, reward, gain, alpha, E, to, M, flow, out, paid, low, high):
    """Give each outcome its part of the flow between two states, ``p(a|s) p(outcome|s,a) exp((r - gain)/α)/M``.

    ``paid`` has a number for each thread, the sum of ``flow (r - gain)``.
    """
    S, A, K = successor.shape
    mine = low * paid.shape[0] // S
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
                    paid[mine] += out[s, a, k] * (r - gain)
