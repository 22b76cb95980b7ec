"""Backward and forward through a stationary random world, in plain NumPy float64; shares no code with cai."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.worlds import RandomWorld

Array = NDArray[np.float64]
Mean = Callable[[Array, Array], Array]
"""From weights w and values x to the mean over their last axis."""


def soft(eta: float) -> Mean:
    """Return ``η log Σ w exp(x/η)``."""

    def mean(w: Array, x: Array) -> Array:
        top = x.max(-1, keepdims=True)
        return top[..., 0] + eta * np.log((w * np.exp((x - top) / eta)).sum(-1))

    return mean


def expect(w: Array, x: Array) -> Array:
    """Return ``Σ w x``."""
    return (w * x).sum(-1)


def best(w: Array, x: Array) -> Array:
    """Return ``max x`` where w > 0."""
    return np.where(w > 0, x, -np.inf).max(-1)


def viterbi(alpha: float) -> Mean:
    """Return ``max (α log w + x)``."""
    return lambda w, x: (alpha * np.log(w) + x).max(-1)


class Swept:
    """v ``[T+1, S]``, q ``[T, S, A]``, the start value, π and p(s_t, a_t) ``[S, A]`` of a world without a discount."""

    def __init__(self, world: RandomWorld, rule: str, alpha: float) -> None:
        assert world.horizon is not None
        assert world.discount == 1
        self.world, self.rule, self.alpha = world, rule, alpha
        self.over, self.act = {
            "POSTERIOR": (soft(alpha), soft(alpha)),
            "VARIATIONAL": (expect, soft(alpha)),
            "HARD": (expect, best),
            "MAP": (viterbi(alpha), viterbi(alpha)),
        }[rule]
        fields = (world.prior, world.outcome, world.successor, world.reward)
        self.prior, self.outcome, self.to, self.reward = (field[0].numpy() for field in fields)
        self.start, v = world.start.numpy(), [world.last.numpy()]
        self.q: list[Array] = []
        for _ in range(world.horizon):
            self.q.insert(0, self.over(self.outcome, self.reward + v[0][self.to]))
            v.insert(0, self.act(self.prior, self.q[0]))
        self.v = np.stack(v)
        self.value = float(self.over(self.start, self.v[0]))

    def policy(self, t: int) -> Array:
        """Return π_t(a|s)."""
        x = self.q[t] + (self.alpha * np.log(self.prior) if self.rule == "MAP" else 0.0)
        greedy = self.rule in ("HARD", "MAP")
        w = self.prior * (x == x.max(-1, keepdims=True) if greedy else np.exp((x - self.v[t][:, None]) / self.alpha))
        return w / w.sum(-1, keepdims=True)

    def marginals(self, t: int) -> Array:
        """Return p(s_t, a_t), by pushing the start forward under the rule's own policy and dynamics."""
        mu = self._weights(self.start, self.v[0])
        for earlier in range(t):
            joint = mu[:, None] * self.policy(earlier)
            flow = joint[..., None] * self._weights(self.outcome, self.reward + self.v[earlier + 1][self.to])
            mu = np.bincount(self.to.ravel(), flow.ravel(), self.world.S)
        return mu[:, None] * self.policy(t)

    def _weights(self, w: Array, x: Array) -> Array:
        """Return the weights that the mean over outcomes gives."""
        if self.over is expect:
            return w
        if self.rule == "MAP":
            x = self.alpha * np.log(w) + x
            w = w * (x == x.max(-1, keepdims=True))
        else:
            w = w * np.exp((x - x.max(-1, keepdims=True)) / self.alpha)
        return w / w.sum(-1, keepdims=True)
