"""The fixed point of a small world to 60 digits: the textbook's backup with its derivative, and Newton's method.

Shares no code with cai: mpmath numbers, read off the tables entry by entry and normalised.
"""

from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mpf

Number = Any
Dual = tuple[Number, list[Number]]
"""A number, and its derivative with respect to v of every state."""
Mean = Callable[[list[Number], list[Dual]], Dual]
DIGITS = 60


def soft(eta: Number) -> Mean:
    """Return ``η log Σ w exp(x/η)``."""

    def mean(w: list[Number], x: list[Dual]) -> Dual:
        top = max(y / eta for y, _ in x)
        parts = [p * mpmath.exp(y / eta - top) for p, (y, _) in zip(w, x, strict=True)]
        total = mpmath.fsum(parts)
        return eta * (top + mpmath.log(total)), _mixed([part / total for part in parts], x)

    return mean


def expect(w: list[Number], x: list[Dual]) -> Dual:
    """Return ``Σ w x``."""
    return mpmath.fsum(p * y for p, (y, _) in zip(w, x, strict=True)), _mixed(w, x)


def best(w: list[Number], x: list[Dual]) -> Dual:
    """Return ``max x`` where w > 0."""
    return max((one for p, one in zip(w, x, strict=True) if p > 0), key=lambda one: one[0])


def viterbi(alpha: Number) -> Mean:
    """Return ``max (α log w + x)``."""

    def mean(w: list[Number], x: list[Dual]) -> Dual:
        scores = [(alpha * mpmath.log(p) + y, g) for p, (y, g) in zip(w, x, strict=True) if p > 0]
        return max(scores, key=lambda one: one[0])

    return mean


def means(name: str, alpha: Number) -> tuple[Mean, Mean]:
    """Return the means over outcomes and over actions of a rule."""
    if name.startswith("RISK"):
        return soft(mpf(float(name[5:-1]))), soft(alpha)
    return {
        "POSTERIOR": (soft(alpha), soft(alpha)),
        "VARIATIONAL": (expect, soft(alpha)),
        "HARD": (expect, best),
        "MAP": (viterbi(alpha), viterbi(alpha)),
        "PLANNING": (soft(alpha), viterbi(alpha)),
    }[name]


class Endless:
    """The backup of one stationary world under one rule."""

    def __init__(self, tables: Any, name: str, alpha: float) -> None:
        self.over, self.act = means(name, mpf(alpha))
        self.S, self.A, self.K = tables.log_prob.shape
        self.gamma = mpf(tables.discount)
        self.prior = [_normal(tables.log_prior[s]) for s in range(self.S)]
        self.p = [[_normal(tables.log_prob[s, a]) for a in range(self.A)] for s in range(self.S)]
        self.to, self.reward = tables.successor.tolist(), tables.reward.tolist()

    def backup(self, v: list[Number]) -> list[Dual]:
        """Return F(v) and its derivative."""
        zero = [mpf(0)] * self.S
        unit = [[mpf(i == s) for i in range(self.S)] for s in range(self.S)]
        c = [self.over([self.gamma, 1 - self.gamma], [(v[s], unit[s]), (mpf(0), zero)]) for s in range(self.S)]
        return [self.act(self.prior[s], [self._q(s, a, c) for a in range(self.A)]) for s in range(self.S)]

    def _q(self, s: int, a: int, c: list[Dual]) -> Dual:
        ways = zip(self.reward[s][a], self.to[s][a], strict=True)
        return self.over(self.p[s][a], [(mpf(r) + c[to][0], c[to][1]) for r, to in ways])

    def solve(self, v: list[Number]) -> list[Number]:
        """Return the fixed point, by Newton's method from v (policy iteration where a mean is a maximum)."""
        for _ in range(60):
            found = self.backup(v)
            move = mpmath.matrix([f[0] - x for f, x in zip(found, v, strict=True)])
            size = max(abs(m) for m in move)
            if size <= mpf(10) ** (15 - DIGITS) * (1 + max(abs(x) for x in v)):
                return v
            J = mpmath.matrix([f[1] for f in found])
            step = mpmath.lu_solve(mpmath.eye(self.S) - J, move)
            v = [x + step[i] for i, x in enumerate(v)]
        raise ArithmeticError("Newton's method did not settle")

    def start(self, v: list[Number], log_initial: Any) -> Number:
        """Return the mean of v over s_0."""
        return self.over(_normal(log_initial), [(x, []) for x in v])[0]

    def settled(self) -> list[Number]:
        """Return the limit of sweeps in which, at first, nobody survives: of a rule whose means are maxima."""
        v = [mpf("-inf")] * self.S
        for _ in range(self.S + 1):
            v = [f[0] for f in self.backup(v)]
        return v


def _mixed(weights: list[Number], x: list[Dual]) -> list[Number]:
    slopes = zip(*(g for _, g in x), strict=True)
    return [mpmath.fsum(w * g for w, g in zip(weights, column, strict=True)) for column in slopes]


def _normal(logs: Any) -> list[Number]:
    weights = [mpmath.exp(mpf(x)) for x in logs.tolist()]
    return [w / mpmath.fsum(weights) for w in weights]
