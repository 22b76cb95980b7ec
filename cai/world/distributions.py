"""Probabilities of exactly zero, kept at zero.

torch's distributions clamp ``probs`` to the machine's epsilon before they take the logarithm, so an impossible value
gets probability 2e-16. At a low temperature the posterior would then count on it. ``exact`` gives the same distribution
without the clamp.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from cai.support.numerics import log


def exact(fn: Any) -> Any:
    """Return the distribution with -inf for every value of probability 0, no narrower than torch's default dtype."""
    if type(fn) not in _EXACT:
        return fn
    fn = _in_default_dtype(fn)
    if fn._param is not fn.__dict__.get("probs"):
        return fn
    p: Tensor = fn.probs
    if not bool(((p == 0) | (p == 1)).any()):
        return fn
    return _EXACT[type(fn)](fn)  # type: ignore[no-untyped-call]


def _in_default_dtype(fn: Any) -> Any:
    """Return the distribution in torch's default dtype where its own is narrower: log p then keeps p's digits."""
    kind = torch.promote_types(fn._param.dtype, torch.get_default_dtype())
    if kind == fn._param.dtype:
        return fn
    name = "probs" if fn._param is fn.__dict__.get("probs") else "logits"
    count = {"total_count": fn.total_count} if isinstance(fn, dist.Binomial) else {}
    return type(fn)(**count, **{name: getattr(fn, name).to(kind)})


class Numbered(dist.Categorical):
    """A Categorical over 0 … n-1, in the dtype in which the program sees it: a Bernoulli's values are floats."""

    def __init__(self, logits: Tensor, dtype: torch.dtype, validate_args: bool | None = None) -> None:
        self.values_in = dtype
        wide = torch.promote_types(logits.dtype, torch.get_default_dtype())  # a narrow policy in a wide program
        super().__init__(logits=logits.to(wide), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Numbered":
        """Expand to a larger batch shape."""
        return Numbered(self.logits.expand(*torch.Size(batch_shape), -1), self.values_in, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw values."""
        drawn: Tensor = super().sample(torch.Size(sample_shape))  # type: ignore[no-untyped-call]
        return drawn.to(self.values_in)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value)."""
        log_p: Tensor = super().log_prob(value.long())  # type: ignore[no-untyped-call]
        return log_p

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return 0 … n-1 on a new leading dimension."""
        values: Tensor = super().enumerate_support(expand)  # type: ignore[no-untyped-call]
        return values.to(self.values_in)


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
