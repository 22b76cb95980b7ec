"""The means of a backup, over a buffer in which the numbers of one state stand ``R`` apart.

Number j of state i is ``x[j * R + i]``, so each pass runs along the states and becomes vector instructions. ``p`` holds
the weights in the same places; ``out`` has a place for each state.
"""

from typing import no_type_check

import numpy as np

from cai.exact.tables.kernels.arithmetic import exp, expm1_and_scale, inlined, log, log1p


@inlined
@no_type_check
def soft(x, p, R, n, w, eta, total, out):
    """``η log Σ p exp(x/η)``, safe at every η: the best of a state is taken out first, and comes back.

    With m the best x of positive weight (the least where η < 0) it is ``m + η log Σ p exp((x - m)/η)``. A term that is
    lost to underflow is below 1e-308, a weight is at least 1e-150.
    """
    take_out_best(x, p, R, n, w, eta, out)
    for i in range(n):
        total[i] = 0.0
    for j in range(w):
        row, weight = x[j * R : j * R + n], p[j * R : j * R + n]
        for i in range(n):
            total[i] += weight[i] * exp(row[i])
    for i in range(n):
        out[i] = out[i] + eta * log(total[i]) if total[i] > 0.0 else -np.inf


@inlined
@no_type_check
def soft_warm(x, p, R, n, w, eta, total, less, out):
    """The same for an η beyond the spread of x, where the sum is near 1 and its logarithm would lose the digits.

    ``m + η log1p(Σ p expm1((x - m)/η))`` keeps them; p must be a distribution.
    """
    take_out_best(x, p, R, n, w, eta, out)
    for i in range(n):
        total[i], less[i] = 0.0, 0.0
    for j in range(w):
        row, weight = x[j * R : j * R + n], p[j * R : j * R + n]
        for i in range(n):
            t, scale = expm1_and_scale(max(row[i], -708.0))
            total[i] += weight[i] * exp(row[i])
            less[i] += weight[i] * (scale * t + (scale - 1.0) if row[i] >= -708.0 else -1.0)
    for i in range(n):
        rise = log1p(less[i]) if less[i] > -0.5 and less[i] < 1.0 else log(total[i])
        out[i] = out[i] + eta * rise if total[i] > 0.0 else -np.inf


@inlined
@no_type_check
def take_out_best(x, p, R, n, w, eta, out):
    """Put each state's best x into ``out``, and ``(x - best)/η`` in place of x: -inf for a weight of zero."""
    sign = 1.0 if eta > 0 else -1.0
    per = 1.0 / eta
    for i in range(n):
        out[i] = -np.inf
    for j in range(w):
        row, weight = x[j * R : j * R + n], p[j * R : j * R + n]
        for i in range(n):
            value = sign * row[i] if weight[i] > 0.0 else -np.inf
            out[i] = value if value > out[i] else out[i]
    for i in range(n):
        out[i] = sign * out[i]
    for j in range(w):
        row, weight = x[j * R : j * R + n], p[j * R : j * R + n]
        for i in range(n):
            row[i] = (row[i] - out[i]) * per if weight[i] > 0.0 and np.isfinite(out[i]) else -np.inf


@inlined
@no_type_check
def best(x, bias, R, n, w, out):
    """``max (bias + x)``: the maximum over the support for a bias of 0 and -inf, Viterbi's for α log p."""
    for i in range(n):
        out[i] = -np.inf
    for j in range(w):
        row, more = x[j * R : j * R + n], bias[j * R : j * R + n]
        for i in range(n):
            value = row[i] + more[i]
            out[i] = value if value > out[i] else out[i]


@inlined
@no_type_check
def spread(p, step, first, at, R, n, w, out):
    """Lay the weights of n states beside the buffer: ``out[j * R + i] = p[(first + i) * step + at + j]``."""
    for j in range(w):
        for i in range(n):
            out[j * R + i] = p[(first + i) * step + at + j]
