"""Passes over single values: into β and back, and the probability of surviving a step."""

from typing import no_type_check

import numpy as np

from cai.exact.tables.kernels.arithmetic import exp, kernel
from cai.exact.tables.kernels.means import soft, soft_warm


@kernel
@no_type_check
def lift(v, b, discount, alpha, top, low, high):
    """``b = 2^500 (γ exp((v - top)/α) + (1-γ) exp(-top/α))``: β of going on or ending, scaled; 0 below 2^-521."""
    end = (1.0 - discount) * np.exp(-top / alpha) if discount < 1.0 else 0.0
    going, ending = discount * 2.0**500, end * 2.0**500
    per = 1.0 / alpha
    values, out = v[low:high], b[low:high]  # counted from 0: a loop that may count backwards is not vectorised
    for i in range(len(out)):
        out[i] = going * exp((values[i] - top) * per) + ending


@kernel
@no_type_check
def survive(v, c, discount, eta, warm, low, high):
    """``c = η log(γ exp(v/η) + 1-γ)``."""
    R = 256
    x, p, total, less = np.zeros(2 * R), np.empty(2 * R), np.empty(R), np.empty(R)
    p[:R], p[R:] = discount, 1.0 - discount
    for first in range(low, high, R):
        n = min(R, high - first)
        x[:n], x[R:] = v[first : first + n], 0.0
        if warm:
            soft_warm(x, p, R, n, 2, eta, total, less, c[first : first + n])
        else:
            soft(x, p, R, n, 2, eta, total, c[first : first + n])
