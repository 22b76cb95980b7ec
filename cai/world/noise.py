"""A Pyro messenger that runs a slice with every site a function of standard normal noise: ``value = F⁻¹(Φ(z))``.

Standard normal noise gives a site its own law, whatever that is. Noise of another law q gives another law of the value,
and where F⁻¹(Φ(·)) is one-to-one, ``KL(q(value) ‖ p(value)) = KL(q(z) ‖ N(0, I))``.
"""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.special import ndtr, ndtri

from cai.errors import Finding, IntractableError
from cai.world.definition import Point
from cai.world.distributions import exact
from cai.world.enumerate import base, require_plain
from cai.world.reparametrise import GAUSSIAN, real_site

INSIDE = 1e-16
"""How near to 0 and 1 a probability may come before it is put into a quantile function."""


def noise_of(fn: Any) -> int:
    """Return how many coordinates of noise a site takes: none for a certain value."""
    return 0 if isinstance(base(fn), dist.Delta | Point) else int(torch.Size(fn.event_shape).numel())


def quantile(where: str, fn: Any) -> Callable[[Tensor], Tensor]:
    """Return the function from a site's standard normal noise ``[*batch, k]`` to its value ``[*batch, *event]``.

    Args:
        where: the site, for the error.
        fn: its distribution.

    Raises:
        IntractableError: the distribution has no quantile function.
    """
    inner, event = base(fn), torch.Size(fn.event_shape)
    if isinstance(inner, Point):
        return lambda z: inner.value.expand(torch.broadcast_shapes(inner.value.shape, z.shape[:-1])).clone()
    if isinstance(inner, (dist.Delta, *GAUSSIAN)):
        return real_site(where, fn, flat=False).at
    if fn.has_enumerate_support and not event:
        return lambda z: _counted(fn, z.squeeze(-1))
    if isinstance(inner, dist.Uniform):
        low, width = inner.low, inner.high - inner.low
        return lambda z: low + width * ndtr(z.reshape(z.shape[:-1] + event))
    try:
        inner.icdf(torch.tensor(0.5))
    except NotImplementedError:
        seen = f"{type(inner).__name__}, which has no quantile function"
        raise IntractableError([Finding(where, seen, "a distribution with icdf, a Gaussian or a finite one")]) from None
    return lambda z: inner.icdf(ndtr(z.reshape(z.shape[:-1] + event)).clamp(INSIDE, 1 - INSIDE))


def has_one_noise(fn: Any) -> bool:
    """Say whether noise and value are one-to-one: not where a site is finite, many noises give one value."""
    return bool(torch.Size(fn.event_shape)) or not fn.has_enumerate_support


def noise_at(where: str, fn: Any, value: Tensor) -> Tensor:
    """Return the noise ``[*batch, k]`` that gives a value, the inverse of ``quantile``.

    Args:
        where: the site, for the error.
        fn: its distribution, ``has_one_noise``.
        value: ``[*batch, *event]``.
    """
    inner, event = base(fn), torch.Size(fn.event_shape)
    if isinstance(inner, GAUSSIAN):
        return real_site(where, fn, flat=False).noise_at(value)
    z = ndtri(inner.cdf(value).clamp(INSIDE, 1 - INSIDE))
    flat: Tensor = z.reshape((*z.shape[: z.dim() - len(event)], event.numel()))
    return flat


def _counted(fn: Any, z: Tensor) -> Tensor:
    """Return the value of a finite distribution whose cumulated probability first reaches Φ(z)."""
    values, inner = fn.enumerate_support(expand=False), base(fn)
    if type(inner) is dist.Categorical and inner is fn:
        probabilities = fn.probs  # as they are: no clamp, and no branch on values
    else:
        probabilities = exact(fn).log_prob(values).exp().movedim(0, -1)
    u = ndtr(z).unsqueeze(-1).clamp(min=torch.finfo(z.dtype).tiny)  # so that a first value of probability 0 is passed
    number = (probabilities.cumsum(-1) < u).sum(-1)
    last = (probabilities > 0).cumsum(-1).argmax(-1)  # cumulated probabilities may round to less than 1
    chosen: Tensor = values.flatten()[number.minimum(last)]
    return chosen


class FromNoise(Messenger):
    """Runs a piece of a world with every site a function of earlier sites and of its own noise.

    Args:
        where: which method runs, and when, for the errors.
        noise: of all sites, side by side in the order in which they are sampled, ``[*batch, k]``; None for zeros.

    Attributes:
        values: the sites by name.
        used: how many coordinates of noise were used.
    """

    def __init__(self, where: str, noise: Tensor | None = None) -> None:
        super().__init__()
        self.where, self.noise = where, noise
        self.values: dict[str, Tensor] = {}
        self.used = 0

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        where, k = f"{self.where}, variable '{name}'", noise_of(fn)
        require_plain(where, msg, self.values)
        z = torch.zeros(k) if self.noise is None else self.noise[..., self.used : self.used + k]
        self.used += k
        msg["value"], msg["done"] = quantile(where, fn)(z), True
        self.values[name] = msg["value"]


LOG_ROOT = 0.5 * math.log(2 * math.pi)


def log_normal(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) over the last axis, nats, ``[*]``."""
    return -(0.5 * z.square() + LOG_ROOT).sum(-1)
