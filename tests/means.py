"""Means as a user would write them, and every mean once more in plain Python over pairs (w, x)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.exact.rule_means import Soft

NEVER = -math.inf
Pairs = list[tuple[float, float]]


@dataclass
class Sparse:
    """The Tsallis mean ``max over π of Σ π x - α/2 (Σ π²/w - 1)``: π = w max(0, (x - λ)/α), zero for bad choices."""

    def _sorted(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """λ, by the largest support that holds itself up."""
        x, w = torch.broadcast_tensors(torch.where(log_w > NEVER, x, NEVER), log_w.exp())
        x, order = x.sort(-1, descending=True)
        w = torch.where(x > NEVER, w.gather(-1, order), 0.0)
        total = torch.where(w > 0, w * x, 0.0).cumsum(-1) - alpha.unsqueeze(-1)
        bound = torch.where(w > 0, total / w.cumsum(-1), NEVER)
        held = (w > 0) & (x > bound)
        return bound.gather(-1, held.sum(-1, keepdim=True).sub(1).clamp(min=0))

    def _pi(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        gain = (x - self._sorted(x, log_w, alpha)) / alpha.unsqueeze(-1)
        return torch.where((log_w > NEVER) & (x > NEVER), log_w.exp() * gain.clamp(min=0), 0.0)

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        pi = self._pi(x, log_w, alpha)
        worth = torch.where(pi > 0, pi * (x - alpha.unsqueeze(-1) / 2 * (pi / log_w.exp() - 1)), 0.0).sum(-1)
        return torch.where(((log_w > NEVER) & (x > NEVER)).any(-1), worth, NEVER)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        log_w = log_w.expand(torch.broadcast_shapes(x.shape, log_w.shape))
        return torch.where((value == NEVER).unsqueeze(-1), log_w, self._pi(x, log_w, alpha).log())

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        return torch.where(weights > 0, alpha.unsqueeze(-1) / 2 * weights * weights / log_w.exp(), 0.0)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        return -torch.where(weights > 0, weights * (weights / log_w.exp() - 1), 0.0).sum(-1) / 2


class Quantile:
    """The largest x that is met or fallen short of with a chance of 0.4 at most: a third thing, neither sum nor max."""

    level = 0.4

    def _chosen(self, x: Tensor, log_w: Tensor) -> Tensor:
        x, log_w = torch.broadcast_tensors(torch.where(log_w > NEVER, x, torch.inf), log_w)
        x, order = x.sort(-1)
        below = log_w.exp().gather(-1, order).cumsum(-1)
        return order.gather(-1, (below < self.level).sum(-1, keepdim=True))

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        at = self._chosen(x, log_w)
        return x.expand(torch.broadcast_shapes(x.shape, log_w.shape)).gather(-1, at).squeeze(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        chosen = torch.full(torch.broadcast_shapes(x.shape, log_w.shape), NEVER, dtype=x.dtype)
        chosen = chosen.scatter(-1, self._chosen(x, log_w), 0.0)
        return torch.where((value == NEVER).unsqueeze(-1), log_w, chosen)

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros_like(weights)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros_like(value)


class Halved(Soft):
    """Inherits from a mean of cai's, and changes it: the soft mean at half the temperature."""

    def _eta(self, alpha: Tensor) -> Tensor:
        return alpha / 2


def soft(pairs: Pairs, eta: float) -> tuple[float, list[float]]:
    """The value η log Σ w exp(x/η), and the weights."""
    sign = math.copysign(1.0, eta)
    best = max((sign * x for w, x in pairs if w > 0), default=NEVER) * sign
    if not math.isfinite(best):
        return NEVER, [w for w, _ in pairs]
    each = [w * math.exp((x - best) / eta) if w > 0 else 0.0 for w, x in pairs]
    return best + eta * math.log(sum(each)), [part / sum(each) for part in each]


def average(pairs: Pairs, alpha: float) -> tuple[float, list[float]]:
    return math.fsum(w * x for w, x in pairs if w > 0), [w for w, _ in pairs]


def greatest(pairs: Pairs, price: float) -> tuple[float, list[float]]:
    """max (price log w + x), and w on the maximisers."""
    scores = [price * math.log(w) + x if w > 0 else NEVER for w, x in pairs]
    best = max(scores)
    if best == NEVER:
        return NEVER, [w for w, _ in pairs]
    each = [w if s >= best - 1e-12 * abs(best) else 0.0 for (w, _), s in zip(pairs, scores, strict=True)]
    return best, [part / sum(each) for part in each]


def sparse(pairs: Pairs, alpha: float) -> tuple[float, list[float]]:
    """Bisection for λ."""
    real = [(w, x) for w, x in pairs if w > 0 and x > NEVER]
    if not real:
        return NEVER, [w for w, _ in pairs]
    low, high = min(x for _, x in real) - alpha / sum(w for w, _ in real), max(x for _, x in real)
    for _ in range(200):
        level = (low + high) / 2
        if sum(w * max(0.0, x - level) for w, x in real) > alpha:
            low = level
        else:
            high = level
    pi = [w * max(0.0, x - low) / alpha if w > 0 and x > NEVER else 0.0 for w, x in pairs]
    value = sum(p * (x - alpha / 2 * (p / w - 1)) for p, (w, x) in zip(pi, pairs, strict=True) if p > 0)
    return value, pi


def quantile(pairs: Pairs, alpha: float) -> tuple[float, list[float]]:
    below, weights = 0.0, [0.0] * len(pairs)
    for x, i, w in sorted((x, i, w) for i, (w, x) in enumerate(pairs) if w > 0):  # noqa: B007 — read after the loop
        below += w
        if below >= Quantile.level:
            break
    if x == NEVER:
        return NEVER, [w for w, _ in pairs]
    weights[i] = 1.0
    return x, weights
