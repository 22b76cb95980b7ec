"""Backups of large worlds on a CPU, by kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from cai.exact.rounding import WARM
from cai.exact.rule_means import Assumption, assumption
from cai.exact.rules import POSTERIOR
from cai.exact.tables.backup import Equation
from cai.exact.tables.kernels import backups, merging, pointwise
from cai.exact.tables.laid import LOST, NEVER, STRIP, Array, Laid, Numbers, Span, Threads, once, whole

LEAST = 2.0**-500
"""The least entry of M, of which the largest is 1, with which sums of products can be trusted."""
Work = Callable[[int, int], None]
"""A backup of the states ``low … high-1``, its arguments in hand."""


def fused(equation: Equation) -> "Fused | None":
    """Return the slice's backup by kernels, for each temperature in its best form; None where no kernel has a mean."""
    rule, slice_, alpha = equation.rule, equation.slice, equation.alpha
    over_outcomes, over_actions = assumption(rule.over_outcomes), assumption(rule.over_actions)
    if over_outcomes is None or over_actions is None or over_actions.kind == "averaged":
        return None
    numbers, threads = Numbers(slice_), Threads(slice_.log_prob.shape[0])
    rest = (numbers, float(equation.log_survival[0].exp()), threads)
    staged = [Staged(over_outcomes, over_actions, a, *rest) for a in alpha.flatten().tolist()]
    forms = [_linear(form) if rule == POSTERIOR else form for form in staged]
    return Fused(tuple(forms), alpha.shape, numbers.shape[0], threads)


def _linear(staged: "Staged") -> "Staged | Linear":
    """Take POSTERIOR as a sparse product in β, where its numbers allow it."""
    product = product_of(staged)
    return staged if product is None else Linear(staged, product)


@dataclass(frozen=True)
class Fused:
    """A step at one temperature or several: strip by strip, so that what they share is read from memory once."""

    forms: "tuple[Staged | Linear, ...]"
    batch: torch.Size
    states: int
    threads: Threads

    def __call__(self, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Take the backup."""
        v = torch.from_numpy(np.empty((*self.batch, self.states), v_next.numpy().dtype)) if out is None else out
        ahead = v_next.expand(*self.batch, -1).reshape(len(self.forms), -1)
        rows = list(v.view(len(self.forms), -1).numpy())
        spans = [Span.of(values) for values in ahead]
        works = [form.work(span, row) for form, span, row in zip(self.forms, spans, rows, strict=True)]
        self.threads.run(partial(_in_turn, works) if len(works) > 1 else works[0], self.states)
        for form, span, row in zip(self.forms, spans, rows, strict=True):
            form.close(span, row)
        return v


def _in_turn(works: list[Work], low: int, high: int) -> None:
    for first in range(low, high, STRIP):
        for work in works:
            work(first, min(first + STRIP, high))


@dataclass(frozen=True)
class Staged:
    """``q = mean over outcomes of r + c(v')``, then ``v = mean over actions of q``, in one pass over the states."""

    over_outcomes: Assumption
    over_actions: Assumption
    alpha: float
    numbers: Numbers
    discount: float
    threads: Threads

    def work(self, span: Span, v: Array) -> Work:
        """Return the backup that fills v."""
        _, A, K = self.numbers.shape
        warm, weight, gain, bias = self.is_warm(span), self.numbers.p, self._gain, self._bias
        kernel = backups.staged(self._inner(warm), self._outer(warm), A, K)
        laid = (weight.flat, weight.step, gain.flat, gain.step, bias.flat, bias.step)
        scales = (_scale(self.over_actions, self.alpha), self.eta)
        return partial(kernel, v, self.survive(span, warm), self.numbers.successor, *laid, *scales)

    def close(self, span: Span, v: Array) -> None:
        """Put -inf where an average met what is forbidden."""
        if self.averages and (span.low == -np.inf or self.numbers.forbids):
            v[v < max(LOST, float(np.finfo(v.dtype).min))] = -np.inf

    def is_warm(self, span: Span) -> bool:
        """Return whether the temperature is beyond all values, so that a plain logarithm would lose their digits."""
        warmest = max(abs(self.eta), abs(_scale(self.over_actions, self.alpha)), self.alpha)
        return warmest > WARM * max(self.numbers.largest_reward, span.size)

    def survive(self, span: Span, warm: bool) -> Array:
        """Return c(s'): the mean over going on with v and ending with 0."""
        v, rest = span.values, 1 - self.discount
        if self.averages and span.low == -np.inf:
            v = np.maximum(v, NEVER, dtype=np.float64)
        if rest == 0:
            return v
        if self.averages:
            return np.asarray(v * self.discount)
        if self.over_outcomes.kind == "maximum":
            return np.asarray(np.maximum(v + self._price * np.log(self.discount), self._price * np.log(rest)))
        c = np.empty_like(v)
        self.threads.run(pointwise.survive, len(v), v, c, self.discount, self.eta, warm)
        return c

    @property
    def averages(self) -> bool:
        """Whether outcomes are averaged."""
        return self.over_outcomes.kind == "averaged"

    @property
    def eta(self) -> float:
        """η of the mean over outcomes; α where the rule names none."""
        return _scale(self.over_outcomes, self.alpha)

    @property
    def _price(self) -> float:
        """What a nat of improbability costs a maximum over outcomes, reward units."""
        return self.alpha if self.over_outcomes.paid else 0.0

    def _inner(self, warm: bool) -> int:
        if self.averages:
            return backups.EXPECT
        if self.over_outcomes.kind == "maximum":
            return backups.VITERBI
        return backups.WARM if warm else backups.SOFT

    def _outer(self, warm: bool) -> int:
        if self.over_actions.kind == "maximum":
            return backups.BEST
        return backups.WARM if warm else backups.SOFT

    @cached_property
    def _gain(self) -> Laid:
        if self.averages:
            return self.numbers.expected_reward
        if self.over_outcomes.kind == "maximum":
            return self.numbers.viterbi_reward(self._price)
        return self.numbers.reward

    @cached_property
    def _bias(self) -> Laid:
        prior = self.numbers.prior
        if self.over_actions.kind == "linear":
            return prior
        price, possible = self.alpha if self.over_actions.paid else 0.0, prior.flat > 0
        return Laid(np.where(possible, price * np.log(np.where(possible, prior.flat, 1.0)), -np.inf), prior.step)


def _scale(over: Assumption, alpha: float) -> float:
    """Return η of a mean, reward units; α where it names none."""
    return alpha if over.eta is None else over.eta


@dataclass(frozen=True)
class Product:
    """M of ``β = M β'``, scaled by one number so that no entry is above 1; flat ``[S E]``, ``gain`` in reward units."""

    M: Array
    successor: Array
    E: int
    gain: float


@dataclass(frozen=True)
class Linear:
    """POSTERIOR as a sparse product: β of the next states, scaled, then ``v = α log(M β')``."""

    staged: Staged
    product: Product

    def work(self, span: Span, v: Array) -> Work:
        """Return the backup that fills v."""
        staged, M = self.staged, self.product
        top = max(span.high, 0.0 if staged.discount < 1 else -np.inf)
        if staged.is_warm(span) or top == -np.inf:
            return staged.work(span, v)
        b = np.empty(len(span.values))
        staged.threads.run(pointwise.lift, len(b), span.values, b, staged.discount, staged.alpha, top)
        c = staged.survive(span, False)
        return partial(backups.linear(M.E), v, b, c, M.M, M.successor, staged.alpha, M.gain + top, M.gain)

    def close(self, span: Span, v: Array) -> None:
        """Leave v as it is."""


def product_of(staged: Staged) -> Product | None:
    """Merge successors over actions; None where the entries lie too far apart for products of plain numbers."""
    slice_, S = staged.numbers.slice, staged.numbers.shape[0]
    gain = float(slice_.reward.detach().numpy().max())
    if gain == -np.inf:
        return None
    # The tables are read in place, in any memory order: a copy would take as long as many backups.
    chances = (slice_.successor.numpy(), whole(once(slice_.log_prob).exp(), S), whole(once(slice_.log_prior).exp(), S))
    width = np.empty(S, np.int64)
    staged.threads.run(merging.widths, S, *chances, width)
    E = max(1, int(width.max()))
    M, to, least = np.empty(S * E), np.empty(S * E, np.uint32), np.empty(S)
    staged.threads.run(merging.rows, S, *chances, slice_.reward.detach().numpy(), gain, staged.alpha, E, to, M, least)
    return Product(M, to, E, gain) if least.min() >= LEAST else None
