"""The rules: how a backward sweep takes the mean over outcomes and over actions, as values handed to it.

A mean reduces the last axis of ``x`` (reward units) under log-weights ``log_w`` (nats). All share four small methods:

* ``value(x, log_w, alpha)`` is the mean, reward units; no possible entry gives -inf, never NaN;
* ``log_weights(x, log_w, alpha, value)`` is the tilted distribution ``log ∂value/∂x``: the policy, the bent dynamics.
  Where the value is -inf nothing is possible and it falls back to ``log_w``;
* ``by_log_w`` and ``by_alpha`` are the derivatives with respect to the log-weights and to α.

``alpha`` has the shape of the value, or broadcasts to it.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.errors import fault
from cai.names import RULES


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


@dataclass(frozen=True)
class Soft:
    """The log-mean-exp ``η log Σ w exp(x/η)``; η is α unless given, η < 0 is risk-averse."""

    eta: float | None = None

    def _eta(self, alpha: Tensor) -> Tensor:
        return alpha if self.eta is None else alpha.new_tensor(self.eta)

    def _logits(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        logits = log_w + x / self._eta(alpha).unsqueeze(-1)
        if self.eta is not None and self.eta < 0:  # x = -inf turns to +inf: an entry of weight zero must stay out
            logits = torch.where(log_w == -torch.inf, log_w, logits)
        return logits

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return η log Σ w exp(x/η)."""
        eta = self._eta(alpha)
        value = eta * torch.logsumexp(self._logits(x, log_w, alpha), -1)
        hot = eta.abs() > 4 * torch.where(value == -torch.inf, 0.0, value).abs().max()
        return _warm(value, x, log_w, eta) if bool(hot.any()) else value

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log w + (x - value)/η: the posterior over entries."""
        # Differences with -inf are kept out of the arithmetic, so that autograd never meets inf - inf.
        nothing = (value == -torch.inf).unsqueeze(-1)
        barred = (x == -torch.inf) & ~nothing
        plain = torch.where(nothing, 0.0, value.unsqueeze(-1))
        gain = torch.where(nothing | barred, 0.0, x) - torch.where(barred, 0.0, plain)
        return torch.where(barred, -torch.inf, self._logits(gain, log_w, alpha))

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return η times the weights."""
        return self._eta(alpha).unsqueeze(-1) * weights

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return (value - Σ weights · x)/α where η is α, else 0."""
        if self.eta is not None:
            return torch.zeros_like(value)
        return torch.where(value == -torch.inf, 0.0, (value - _times(weights, x).sum(-1)) / alpha)


@dataclass(frozen=True)
class Expect:
    """The expectation ``Σ w x``."""

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


@dataclass(frozen=True)
class Rule:
    """A rule of inference.

    Attributes:
        name: what it is called.
        over_outcomes: the mean over outcomes, over the start, and over survival.
        over_actions: the mean over actions.
    """

    name: str
    over_outcomes: Mean
    over_actions: Mean

    def __str__(self) -> str:
        return self.name


POSTERIOR = Rule("POSTERIOR", Soft(), Soft())
"""Exact β-messages of p(τ|O=1) (Levine 2018, section 2.3): v = α log β; optimistic where dynamics are stochastic."""
VARIATIONAL = Rule("VARIATIONAL", Expect(), Soft())
"""Max-ent control (Levine 2018, section 3): the best ELBO over policies with the dynamics held fixed."""
HARD = Rule("HARD", Expect(), Best())
"""Bellman optimality: the limit α → 0 of VARIATIONAL."""
PLANNING = Rule("PLANNING", Soft(), Viterbi())
"""The best α log E exp(return/α), each action's prior paid (Lázaro-Gredilla et al. 2024); optimistic about luck."""
MAP = Rule("MAP", Viterbi(), Viterbi())
"""The most probable trajectory (Viterbi), each slice's latents included: two outcomes with one successor compete."""

NAMED: dict[str, Rule] = dict(zip(RULES, (POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING), strict=True))
"""The rules that a name alone says."""


def RISK(eta: float) -> Rule:  # noqa: N802 — a rule, written as the design writes it
    """Return the rule ``η log Σ p exp((r+v')/η)`` over outcomes: η = α is POSTERIOR, η → ±∞ VARIATIONAL, η < 0 averse.

    Args:
        eta: η in reward units; ±inf gives the expectation itself.

    Raises:
        WorldError: η is 0 or NaN.
    """
    if isinstance(eta, bool) or not isinstance(eta, int | float) or eta == 0 or eta != eta:
        raise fault("RISK, eta", f"{eta!r}", "a number other than 0")
    over_outcomes: Mean = Expect() if abs(eta) == float("inf") else Soft(float(eta))
    return Rule(f"RISK({eta:g})", over_outcomes, Soft())


def _warm(value: Tensor, x: Tensor, log_w: Tensor, eta: Tensor) -> Tensor:
    """Return η log Σ w exp(x/η) for |η| beyond the spread of x, where the logarithm is of a number near 1.

    ``m + η log1p(Σ w expm1((x - m)/η))`` keeps the digits that η times a rounded logarithm loses; ``value``
    stands where the sum is not near 1 after all.
    """
    w = log_w.exp()
    m = torch.where((x == -torch.inf) | (log_w == -torch.inf), -torch.inf, x).amax(-1, keepdim=True)
    near = _times(w, torch.expm1((x - m) / eta.unsqueeze(-1))).sum(-1)
    defect = w.sum(-1) - 1  # 0 for a distribution, rounding apart; a derivative may ask what weights beside it give
    near = near + torch.where(defect.abs() < 64 * torch.finfo(w.dtype).eps, 0.0, defect)
    return torch.where(near.abs() < 0.5, m.squeeze(-1) + eta * torch.log1p(near), value)


def _times(w: Tensor, x: Tensor) -> Tensor:
    return torch.where(w == 0, 0.0, w * x)


def _finite(x: Tensor) -> Tensor:
    return torch.where(x == -torch.inf, 0.0, x)


def _on_maximisers(scores: Tensor, log_w: Tensor, value: Tensor) -> Tensor:
    # Symmetric choices differ by rounding; a gap below 256 ulp is a tie.
    slack = 256 * torch.finfo(value.dtype).eps * value.abs().clamp(min=1)
    kept = (scores >= (value - slack).unsqueeze(-1)) & (log_w > -torch.inf)
    chosen = torch.where(kept, log_w, -torch.inf)
    chosen = chosen - chosen.logsumexp(-1, keepdim=True)
    return torch.where((value == -torch.inf).unsqueeze(-1), log_w.expand_as(chosen), chosen)
