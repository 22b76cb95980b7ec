"""The least time that a backup can take: that of streaming its bytes once through the processor."""

from functools import partial
from typing import Any

import numpy as np

from tests.benchmarks.by_hand import shared_out
from tests.benchmarks.worker import clocked

FORMATS = {
    "merged": 5 * (8 + 4),
    "generic": 15 * (8 + 4) + 5 * 8,
    "compact": 15 * 4 + 5 * 8,
}
"""Bytes that are read a state, beside v: what each means stands in tests/benchmarks/RESULTS.md."""
ROUNDS, SECONDS = 40, 1.5


def _stream(numbers: np.ndarray, width: float, v: np.ndarray, out: np.ndarray, low: int, high: int) -> None:
    """Read ``width`` numbers a state and v, write v: NumPy's own vector loops, which free the interpreter's lock."""
    numbers[int(low * width) : int(high * width)].max()
    np.copyto(out[low:high], v[low:high])


def limits(states: int) -> dict[str, Any]:
    """Return the seconds that each format needs at least, by name and threads, and the bytes a second seen."""
    v, out, seconds, rates = np.ones(states), np.empty(states), {}, {}
    for name, size in FORMATS.items():
        numbers = np.ones(int(states * size / 8))
        for threads in (1, 2):
            call = shared_out(threads, states)
            work = partial(call, _stream, numbers, size / 8, v, out)
            best = clocked(work, rounds=ROUNDS, seconds=SECONDS)[0]
            seconds[f"{name}, {threads}"] = best
            rates[f"{name}, {threads}"] = states * (size + 16) / best
    return {"seconds": seconds, "rates": rates}
