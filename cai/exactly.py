"""Probabilities of exactly zero, kept at zero.

torch's distributions clamp ``probs`` to the machine's epsilon before they take the logarithm, so that an impossible
value passes as one of probability 2e-16: at a low temperature that is the likeliest miracle of all. ``exact`` gives the
same distribution without the clamp.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


def exact(fn: Any) -> Any:
    """Return the distribution with -inf for every value of probability 0; itself, where there is none."""
    if type(fn) not in _EXACT or fn._param is not fn.__dict__.get("probs"):
        return fn
    p: Tensor = fn.probs
    if not bool(((p == 0) | (p == 1)).any()):
        return fn
    return _EXACT[type(fn)](fn)  # type: ignore[no-untyped-call]


def log(p: Tensor) -> Tensor:
    """Return log p, -inf at 0 without an infinite derivative there."""
    return torch.where(p > 0, torch.where(p > 0, p, 1.0).log(), -torch.inf)


class _Bernoulli(dist.Bernoulli):  # type: ignore[misc]
    def log_prob(self, value: Tensor) -> Tensor:
        return log(torch.where(value > 0, self.probs, 1 - self.probs))


class _Binomial(dist.Binomial):
    def log_prob(self, value: Tensor) -> Tensor:
        p, n = self.probs, self.total_count
        impossible = ((p == 0) & (value > 0)) | ((p == 1) & (value < n))
        return torch.where(impossible, -torch.inf, super().log_prob(value))  # type: ignore[no-untyped-call]


_EXACT = {
    dist.Categorical: lambda fn: dist.Categorical(logits=log(fn.probs)),
    dist.Bernoulli: lambda fn: _Bernoulli(probs=fn.probs),
    dist.Binomial: lambda fn: _Binomial(fn.total_count, probs=fn.probs),
}
