"""Backups of large worlds on a CPU: the tables laid out for the kernels, and the states shared out to threads."""

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

from cai.exact.backup import Step
from cai.exact.held import expected_reward
from cai.exact.kernels import backups, merging, pointwise
from cai.exact.rules import POSTERIOR, Expect, Rule, Soft, Viterbi
from cai.types import Slice

Array = NDArray[Any]

TINY = 1e-150
"""Smaller probabilities, 0 apart, are left to log space: the kernels multiply them."""
LEAST = 2.0**-500
"""The least entry of M, of which the largest is 1, with which sums of products can be trusted."""
NEVER = -1e300
"""What stands for -inf where outcomes are averaged: times a probability of 0 it gives 0."""
LOST = NEVER * TINY / 2
"""A mean below this has ``NEVER`` in it."""
WARM = 30.0
"""A temperature is high from so many times the size of the values on."""
BLOCK = 1 << 16
"""States to a block, where numbers are laid out; a thread is worth its call from so many on."""


def kernels_can(one: Slice) -> bool:
    """Tell whether the kernels may take a slice: no batch, on a CPU, and no probability that would underflow."""
    if one.log_prob.dim() != 3 or one.successor.dim() != 3 or one.log_prob.device.type != "cpu":
        return False
    return all(bool(((x == -torch.inf) | (x > np.log(TINY))).all()) for x in (once(one.log_prob), once(one.log_prior)))


def once(field: Tensor) -> Tensor:
    """Return the first state of ``field [S, …]`` alone, where the memory holds no more: tables may be broadcast."""
    return field[:1] if field.shape[0] > 1 and field.stride(0) == 0 else field


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
class Numbers:
    """What the kernels read of a slice, each array as compact as the tables hold it."""

    one: Slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, A, K)."""
        S, A, K = self.one.log_prob.shape
        return S, A, K

    @cached_property
    def successor(self) -> Array:
        """Successors in 32 bits: half the memory to read. Flat ``[S A K]``."""
        flat = np.empty(self.one.successor.numel(), np.uint32)
        for first in range(0, self.shape[0], BLOCK):
            part = self.one.successor[first : first + BLOCK].reshape(-1)
            begin = first * flat.size // self.shape[0]
            flat[begin : begin + part.numel()] = part.numpy()
        return flat

    @cached_property
    def p(self) -> Laid:
        """p(outcome|s, a)."""
        return lay(once(self.one.log_prob).exp())

    @cached_property
    def prior(self) -> Laid:
        """p(a|s)."""
        return lay(once(self.one.log_prior).exp())

    @cached_property
    def reward(self) -> Laid:
        """r."""
        return lay(once(self.one.reward))

    @cached_property
    def largest_reward(self) -> float:
        """The largest finite size of a reward, reward units."""
        return Span.of(once(self.one.reward)).size

    @cached_property
    def forbids(self) -> bool:
        """Whether an action may lead to a reward of -inf."""
        return bool(self.expected_reward.flat.min() < LOST)

    def viterbi_reward(self, alpha: float) -> Laid:
        """α log p(outcome|s, a) + r."""
        return lay(alpha * once(self.one.log_prob) + once(self.one.reward))

    @cached_property
    def expected_reward(self) -> Laid:
        """E[r|s, a], with what is -inf as ``NEVER``."""
        log_prob, reward = once(self.one.log_prob), once(self.one.reward)
        S = max(log_prob.shape[0], reward.shape[0])
        log_prob, reward = log_prob.expand(S, -1, -1), reward.expand(S, -1, -1)
        blocks = range(0, S, BLOCK)
        parts = [expected_reward(log_prob[i : i + BLOCK].exp(), reward[i : i + BLOCK]) for i in blocks]
        return lay(torch.cat(parts).clamp(min=NEVER))


@dataclass(frozen=True)
class Span:
    """Values, and between what they lie."""

    values: Array
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor) -> "Span":
        """Measure values."""
        values = values.detach().contiguous()
        low, high = torch.aminmax(values)
        return cls(values.numpy(), float(low), float(high))

    @property
    def size(self) -> float:
        """The largest finite size; 0 where there is none."""
        if self.low > -np.inf:
            return max(-self.low, self.high)
        return float(np.abs(self.values, where=self.values > -np.inf, out=np.zeros_like(self.values)).max(initial=0))


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


def fused(rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> Step:
    """Return the slice's backup by kernels; POSTERIOR as a sparse product in β where its numbers allow it."""
    staged = Staged(rule, Numbers(one), float(alpha), float(log_survival[0].exp()), Threads(one.log_prob.shape[0]))
    operator = operator_of(staged) if rule == POSTERIOR else None
    return staged if operator is None else Linear(staged, operator)


@dataclass(frozen=True)
class Staged:
    """``q = mean over outcomes of r + c(v')``, then ``v = mean over actions of q``, in one pass over the states."""

    rule: Rule
    numbers: Numbers
    alpha: float
    discount: float
    threads: Threads

    def __call__(self, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Take the backup."""
        S, A, K = self.numbers.shape
        v = np.empty(S, v_next.numpy().dtype) if out is None else out.numpy()
        span = Span.of(v_next)
        warm, weight, gain, bias = self.is_warm(span), self.numbers.p, self._gain, self._bias
        c = self.survive(span, warm)
        run = backups.staged(self._inner(warm), self._outer(warm), A, K)
        arguments = (self.numbers.successor, weight.flat, weight.step, gain.flat, gain.step, bias.flat, bias.step)
        self.threads.run(run, S, v, c, *arguments, self.alpha, self.eta)
        if self.averages and (span.low == -np.inf or self.numbers.forbids):
            v[v < LOST] = -np.inf
        return torch.from_numpy(v) if out is None else out

    def is_warm(self, span: "Span") -> bool:
        """Tell whether the temperature is beyond all values, so that a plain logarithm would lose their digits."""
        return max(abs(self.eta), self.alpha) > WARM * max(self.numbers.largest_reward, span.size)

    def survive(self, span: "Span", warm: bool) -> Array:
        """Return c(s'): the mean over going on with v and ending with 0."""
        v, rest = span.values, 1 - self.discount
        if self.averages and span.low == -np.inf:
            v = np.maximum(v, NEVER)
        if rest == 0:
            return v
        if self.averages:
            return np.asarray(v * self.discount)
        if isinstance(self.rule.over_outcomes, Viterbi):
            return np.asarray(np.maximum(v + self.alpha * np.log(self.discount), self.alpha * np.log(rest)))
        c = np.empty_like(v)
        self.threads.run(pointwise.survive, len(v), v, c, self.discount, self.eta, warm)
        return c

    @property
    def averages(self) -> bool:
        """Whether outcomes are averaged."""
        return isinstance(self.rule.over_outcomes, Expect)

    @property
    def eta(self) -> float:
        """η of the mean over outcomes; α where the rule names none."""
        over = self.rule.over_outcomes
        return over.eta if isinstance(over, Soft) and over.eta is not None else self.alpha

    def _inner(self, warm: bool) -> int:
        if self.averages:
            return backups.EXPECT
        if isinstance(self.rule.over_outcomes, Viterbi):
            return backups.VITERBI
        return backups.WARM if warm else backups.SOFT

    def _outer(self, warm: bool) -> int:
        if not isinstance(self.rule.over_actions, Soft):
            return backups.BEST
        return backups.WARM if warm else backups.SOFT

    @cached_property
    def _gain(self) -> Laid:
        if self.averages:
            return self.numbers.expected_reward
        if isinstance(self.rule.over_outcomes, Viterbi):
            return self.numbers.viterbi_reward(self.alpha)
        return self.numbers.reward

    @cached_property
    def _bias(self) -> Laid:
        prior, over = self.numbers.prior, self.rule.over_actions
        if isinstance(over, Soft):
            return prior
        with np.errstate(divide="ignore"):
            log_prior = np.log(prior.flat)
        bias = self.alpha * log_prior if isinstance(over, Viterbi) else np.where(prior.flat > 0, 0.0, -np.inf)
        return Laid(bias, prior.step)


@dataclass(frozen=True)
class Operator:
    """M of ``β = M β'``, its rows scaled by one number so that no entry is above 1; flat ``[S E]``."""

    M: Array
    successor: Array
    E: int
    gain: float


@dataclass(frozen=True)
class Linear:
    """POSTERIOR as a sparse product: β of the next states, scaled, then ``v = α log(M β')``."""

    staged: Staged
    operator: Operator

    def __call__(self, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Take the backup."""
        one, M, span = self.staged, self.operator, Span.of(v_next)
        if one.is_warm(span):
            return one(v_next, out)
        S, ahead = one.numbers.shape[0], span.values
        v = np.empty(S, ahead.dtype) if out is None else out.numpy()
        top = max(span.high, 0.0 if one.discount < 1 else -np.inf)
        if top == -np.inf:
            v[:] = -np.inf
            return torch.from_numpy(v) if out is None else out
        b = np.empty_like(ahead)
        one.threads.run(pointwise.lift, len(ahead), ahead, b, one.discount, one.alpha, top)
        c = one.survive(span, False)
        run = backups.linear(M.E)
        one.threads.run(run, S, v, b, c, M.M, M.successor, one.alpha, M.gain + top, M.gain)
        return torch.from_numpy(v) if out is None else out


def operator_of(staged: Staged) -> Operator | None:
    """Merge successors over actions; None where the entries lie too far apart for products of plain numbers."""
    numbers, (S, A, K) = staged.numbers, staged.numbers.shape
    p, prior, reward = numbers.p, numbers.prior, numbers.reward
    gain = float(reward.flat.max())
    if gain == -np.inf:
        return None
    width = np.empty(S, np.int64)
    # Read where it stands: the copy in 32 bits is made only for those who go over the outcomes at every step.
    shared = (numbers.one.successor.reshape(-1).numpy(), p.flat, p.step)
    staged.threads.run(merging.widths, S, *shared, prior.flat, prior.step, A, K, width)
    E = max(1, int(width.max()))
    M, to, least = np.empty(S * E, p.flat.dtype), np.empty(S * E, np.uint32), np.empty(S)
    rest = (reward.flat, reward.step, gain, prior.flat, prior.step, A, K, staged.alpha, E, to, M, least)
    staged.threads.run(merging.rows, S, *shared, *rest)
    return Operator(M, to, E, gain) if least.min() >= LEAST else None
