"""Tables laid out for the kernels, and the threads that share out the states."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rounding import largest
from cai.exact.tables.averaged import expected_reward

Array = NDArray[Any]

TINY = {torch.float64: 1e-150, torch.float32: 1e-30}
"""Smaller probabilities, 0 apart, are left to log space: the kernels multiply them."""
NEVER = -1e300
"""What stands for -inf where outcomes are averaged: times a probability of 0 it gives 0."""
LOST = -1e140
"""A mean below this has ``NEVER`` in it, at a probability of 1e-150 at least."""
BLOCK = 1 << 16
"""States to a block, where numbers are laid out; a thread is worth its call from so many on."""
STRIP = 1 << 13
"""States to a strip, where several temperatures read the same numbers while they are near."""


def kernels_can(slice_: Slice) -> bool:
    """Return whether the kernels may take a slice: no batch, on a CPU, and no probability that would underflow."""
    if slice_.log_prob.dim() != 3 or slice_.successor.dim() != 3 or slice_.log_prob.device.type != "cpu":
        return False
    tiny = TINY.get(slice_.log_prob.dtype)
    if tiny is None:
        return False
    return all(
        bool(((x == -torch.inf) | (x > np.log(tiny))).all()) for x in (once(slice_.log_prob), once(slice_.log_prior))
    )


def once(field: Tensor) -> Tensor:
    """Return the first state of ``field [S, …]`` alone, where all others are the same: there is less to read then."""
    first = field[:1]
    if field.stride(0) == 0 or bool((field[:64] == first).all() and (field == first).all()):
        return first
    return field


def whole(field: Tensor, S: int) -> Array:
    """Return an array ``[S, …]`` of what may be one state for all, without a copy."""
    return field.detach().expand(S, *field.shape[1:]).numpy()


@dataclass(frozen=True)
class Laid:
    """An array as a kernel reads it: flat, and how far apart the states are; 0 where all are the same."""

    flat: Array
    step: int


def lay(field: Tensor) -> Laid:
    """Lay out ``field [S, …]``, or one state for all of them ``[1, …]``."""
    flat = field.detach().contiguous().reshape(-1).numpy()
    return Laid(flat, 0 if field.shape[0] == 1 else flat.size // field.shape[0])


@dataclass(frozen=True)
class Span:
    """Values, and between what they lie."""

    values: Array
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor) -> "Span":
        """Measure values."""
        values = values.detach()
        low, high = torch.aminmax(values)
        return cls(values.contiguous().numpy(), float(low), float(high))

    @property
    def size(self) -> float:
        """The largest finite size; 0 where there is none."""
        return max(-self.low, self.high) if self.low > -np.inf else largest(torch.from_numpy(self.values))


@dataclass(frozen=True)
class Numbers:
    """What the kernels read of a slice, each array as compact as the tables hold it."""

    slice: Slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, A, K)."""
        S, A, K = self.slice.log_prob.shape
        return S, A, K

    @cached_property
    def successor(self) -> Array:
        """Successors in 32 bits: half the memory to read. Flat ``[S A K]``."""
        S, A, K = self.shape
        flat = np.empty(S * A * K, np.uint32)
        for low in range(0, S, BLOCK):
            part = self.slice.successor[low : low + BLOCK].reshape(-1).numpy()
            flat[low * A * K : low * A * K + len(part)] = part
        return flat

    @cached_property
    def p(self) -> Laid:
        """p(outcome|s, a)."""
        return lay(once(self.slice.log_prob).exp())

    @cached_property
    def prior(self) -> Laid:
        """p(a|s)."""
        return lay(once(self.slice.log_prior).exp())

    @cached_property
    def reward(self) -> Laid:
        """r."""
        return lay(once(self.slice.reward))

    @cached_property
    def largest_reward(self) -> float:
        """The largest finite size of a reward, reward units."""
        return largest(self.slice.reward)

    @cached_property
    def forbids(self) -> bool:
        """Whether an action may lead to a reward of -inf."""
        return bool(self.expected_reward.flat.min() < LOST)

    def viterbi_reward(self, price: float) -> Laid:
        """``price log p(outcome|s, a) + r``, -inf where an outcome is impossible."""
        log_prob = once(self.slice.log_prob)
        return lay(torch.where(log_prob == -torch.inf, log_prob, price * log_prob) + once(self.slice.reward))

    @cached_property
    def expected_reward(self) -> Laid:
        """E[r|s, a], with what is -inf as ``NEVER``."""
        log_prob, reward = once(self.slice.log_prob), once(self.slice.reward)
        S = max(log_prob.shape[0], reward.shape[0])
        log_prob, reward = log_prob.expand(S, -1, -1), reward.expand(S, -1, -1)
        blocks = range(0, S, BLOCK)
        parts = [expected_reward(log_prob[i : i + BLOCK].exp(), reward[i : i + BLOCK]) for i in blocks]
        return lay(torch.cat(parts).double().clamp(min=NEVER))


class Threads:
    """Kernels over states, shared out to as many threads as torch may use."""

    def __init__(self, states: int) -> None:
        self.n = min(torch.get_num_threads(), max(1, states // BLOCK))
        self.pool = ThreadPoolExecutor(self.n) if self.n > 1 else None

    def run(self, kernel: Callable[..., None], states: int, *arguments: Any) -> None:
        """Run ``kernel(*arguments, low, high)`` over all states."""
        if self.pool is None:
            kernel(*arguments, 0, states)
            return
        bounds = [states * i // self.n for i in range(self.n + 1)]
        for done in [self.pool.submit(kernel, *arguments, *pair) for pair in pairwise(bounds)]:
            done.result()
