"""The means that rules are made of: over outcomes, and over actions.

A mean reduces the last axis of ``x`` (reward units) under log-weights ``log_w`` (nats). All share four small methods:

* ``value(x, log_w, alpha)`` is the mean, reward units; no possible entry gives -inf, never NaN. It never falls where an
  x rises: bounds that are proved rely on it;
* ``log_weights(x, log_w, alpha, value)`` is the tilted distribution ``log ∂value/∂x``, normalised: the policy, and the
  tilted dynamics. Where the value is -inf it is ``log_w``;
* ``by_log_w`` and ``by_alpha`` are the derivatives with respect to the log-weights and to α.

``alpha`` has the shape of the value, or broadcasts to it. A mean of your own needs nothing else. With a method
``assumption()`` it allows faster forms; without one the plain equation is used.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

TIE = 32
"""Units in the last place of the best score by which a choice may fall short of it and still be tied.

Choices that are equal by symmetry differ by the rounding of sums in another order. It adds up over the steps to go:
measured on mirrored grids of 36 cells, by up to 14 units in 1,000 steps, 568 in 10,000, and 2,900 where γ = 0.999 and
the horizon is infinite; ``rounding.tied_from`` counts that in. There is no least slack: a reward of 1e-14 is a
preference like any other.
"""


@dataclass(frozen=True)
class Assumption:
    """What a fast form may assume of a mean.

    Attributes:
        kind: "linear" is ``η log Σ w exp(x/η)``, linear in exp(x/η); "averaged" is ``Σ w x``; "maximum" is
            ``max x`` over w > 0.
        eta: η of a linear mean, reward units; None where it is α.
        paid: whether a maximum is one of ``α log w + x``.
    """

    kind: Literal["linear", "averaged", "maximum"]
    eta: float | None = None
    paid: bool = False


@runtime_checkable
class Mean(Protocol):
    """A way to take the mean over the last axis; see the module's words."""

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return the mean."""

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return the logarithm of the tilted weights."""

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return ∂value/∂log_w."""

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return ∂value/∂α."""


def assumption(mean: Mean) -> Assumption | None:
    """Return what a fast form may assume of a mean; None where it says nothing.

    A class speaks for itself alone: what inherits from a mean may have changed it.
    """
    said = vars(type(mean)).get("assumption")
    known: Assumption | None = None if said is None else said(mean)
    return known


def is_maximum(mean: Mean) -> bool:
    """Return whether a mean says that it is a maximum."""
    said = assumption(mean)
    return said is not None and said.kind == "maximum"


@dataclass(frozen=True)
class Soft:
    """The log-mean-exp ``η log Σ w exp(x/η)``; η is α unless given, η < 0 is risk-averse."""

    eta: float | None = None

    def assumption(self) -> Assumption:
        """Say that it is linear in exp(x/η)."""
        return Assumption("linear", self.eta)

    def _eta(self, alpha: Tensor) -> Tensor:
        return alpha if self.eta is None else alpha.new_tensor(self.eta)

    def _from_best(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the x that counts most, ``(x - best)/η`` and ``log Σ w exp((x - best)/η)``, which no x overflows.

        It is the largest x of positive weight, the least where η < 0: then one of -inf rules, ``best`` is -inf, and so
        is the value. It is infinite also where nothing is possible.
        """
        eta, sign = self._eta(alpha), 1.0 if self.eta is None or self.eta > 0 else -1.0
        x = torch.where(log_w == -torch.inf, -sign * torch.inf, x)
        best = sign * (sign * x.detach()).amax(-1, keepdim=True)
        ruled, out = best.isinf(), x.isinf()
        gain = torch.where(out | ruled, 0.0, x) - torch.where(out | ruled, 0.0, best)
        gain = torch.where(out, -torch.inf, gain / eta.unsqueeze(-1))
        total = torch.where(ruled, 0.0, log_w + gain).logsumexp(-1)
        ruled, best = ruled.squeeze(-1), best.squeeze(-1)
        hot = eta.abs() > 4 * torch.where(ruled, 0.0, best + eta * total).abs()
        if bool((hot & ((gain < 0) & ~out).any(-1)).any()):  # exact where all x are equal
            total = _warm(total, gain, log_w)
        return best, gain, total

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return η log Σ w exp(x/η)."""
        best, _, total = self._from_best(x, log_w, alpha)
        ruled = best.isinf()
        return torch.where(ruled, -torch.inf, torch.where(ruled, 0.0, best) + self._eta(alpha) * total)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log w + (x - value)/η, the posterior over entries: normalised, however cold.

        The sum is taken anew: (x - value)/η has the rounding of the value in it, which at a value of 1e10 and a
        temperature of 1e-6 is a nat.
        """
        _, gain, total = self._from_best(x, log_w, alpha)
        nothing = (value == -torch.inf).unsqueeze(-1)
        return torch.where(nothing, log_w, log_w + gain - total.unsqueeze(-1))

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return η times the weights."""
        return self._eta(alpha).unsqueeze(-1) * weights

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return (value - Σ weights · x)/α where η is α, else 0: minus the KL divergence of the weights from w."""
        if self.eta is not None:
            return torch.zeros_like(value)
        _, gain, total = self._from_best(x, log_w, alpha)
        return torch.where(value == -torch.inf, 0.0, -_times(weights, gain - total.unsqueeze(-1)).sum(-1))


@dataclass(frozen=True)
class Expect:
    """The expectation ``Σ w x``."""

    def assumption(self) -> Assumption:
        """Say that it is an average."""
        return Assumption("averaged")

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return Σ w x; an entry of weight zero does not count, whatever its x."""
        return _times(log_w.exp(), x).sum(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log w: nothing is tilted."""
        return log_w.expand(torch.broadcast_shapes(x.shape, log_w.shape))

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return w x."""
        return _times(weights, _finite(x))

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(value)


@dataclass(frozen=True)
class Best:
    """The maximum of x over the support of w; ties share the weight as w does."""

    def assumption(self) -> Assumption:
        """Say that it is a maximum."""
        return Assumption("maximum")

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return max x where w > 0."""
        return torch.where(log_w == -torch.inf, -torch.inf, x).amax(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log w restricted to the maximisers, normalised: the limit of the soft policy as α → 0."""
        return _on_maximisers(torch.where(log_w == -torch.inf, -torch.inf, x), log_w, value)

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(weights)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(value)


@dataclass(frozen=True)
class Viterbi:
    """The maximum of ``α log w + x``; ties share the weight as w does."""

    def assumption(self) -> Assumption:
        """Say that it is a maximum of ``α log w + x``."""
        return Assumption("maximum", paid=True)

    def _scores(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        return alpha.unsqueeze(-1) * log_w + x

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return max (α log w + x)."""
        return self._scores(x, log_w, alpha).amax(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log w restricted to the maximisers, normalised."""
        return _on_maximisers(self._scores(x, log_w, alpha), log_w, value)

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return α times the weights."""
        return alpha.unsqueeze(-1) * weights

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return Σ weights · log w."""
        return _times(weights, log_w).sum(-1)


def _warm(total: Tensor, gain: Tensor, log_w: Tensor) -> Tensor:
    """Return log Σ w exp(gain), gain <= 0, where the sum is near 1 and its rounded logarithm would lose the digits.

    ``log1p(Σ w expm1(gain))`` keeps them; ``total`` stands where the sum is not near 1 after all.
    """
    w = log_w.exp()
    near = _times(w, torch.expm1(gain)).sum(-1)
    defect = w.sum(-1) - 1  # 0 for a distribution, rounding apart; a derivative may ask what weights beside it give
    near = near + torch.where(defect.abs() < 64 * torch.finfo(w.dtype).eps, 0.0, defect)
    return torch.where(near.abs() < 0.5, torch.log1p(near), total)


def _times(w: Tensor, x: Tensor) -> Tensor:
    return torch.where(w == 0, 0.0, w * x)


def _finite(x: Tensor) -> Tensor:
    return torch.where(x == -torch.inf, 0.0, x)


def _on_maximisers(scores: Tensor, log_w: Tensor, value: Tensor) -> Tensor:
    slack = TIE * torch.finfo(value.dtype).eps * value.abs()
    kept = (scores >= (value - slack).unsqueeze(-1)) & (log_w > -torch.inf)
    chosen = torch.where(kept, log_w, -torch.inf)
    chosen = chosen - chosen.logsumexp(-1, keepdim=True)
    return torch.where((value == -torch.inf).unsqueeze(-1), log_w.expand_as(chosen), chosen)
