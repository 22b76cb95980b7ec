"""Heads: from a prior distribution and the numbers of a network to the policy's own distribution on the same support.

At zero a head is the prior (or a Gaussian of its mean and deviation, or near-uniform on an interval), so that a new
policy starts with little KL, and what the prior forbids stays forbidden.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import AffineTransform, TanhTransform

from cai.errors import fault
from cai.world.distributions import Numbered
from cai.world.enumerate import base
from cai.world.spaces import Variable

MARGIN = 1e-6  # tanh saturates in floating point, and a bound itself may lie outside the prior's support


def width(variable: Variable) -> int:
    """Return how many numbers a head takes: a logit a value, or a mean and a deviation for each dimension."""
    return variable.size if variable.size is not None else 2 * variable.shape.numel()


def head(variable: Variable, prior: Any, x: Tensor) -> Any:
    """Return the policy's distribution of one action variable.

    Args:
        variable: which one.
        prior: its distribution under the action prior, given the state and the earlier action variables.
        x: the network's numbers, ``[*, width]``.

    Raises:
        WorldError: the prior's support is neither finite, nor the real numbers, nor an interval.
    """
    if variable.size is not None:
        return categorical(prior, x)
    loc, log_scale = (part.reshape((*x.shape[:-1], *variable.shape)) for part in x.chunk(2, -1))
    support = prior.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real or support is constraints.real_vector:
        return gaussian(prior, loc, log_scale)
    if isinstance(support, constraints.interval | constraints.half_open_interval):
        return tanh_gaussian(support.lower_bound, support.upper_bound, loc, log_scale, len(variable.shape))
    seen = f"a prior on {support}"
    raise fault(f"policy, variable '{variable.name}'", seen, "one on finitely many values, the reals, or an interval")


def categorical(prior: Any, x: Tensor) -> Any:
    """Return p(a) exp(x_a), normalised."""
    support = prior.enumerate_support(expand=False)
    logits = prior.log_prob(support).movedim(0, -1) + x
    return Numbered(logits, support.dtype)


def gaussian(prior: Any, loc: Tensor, log_scale: Tensor) -> Any:
    """Return N(μ_p + σ_p x, (σ_p e^y)²) of the prior's mean and deviation, 0 and 1 where it has none."""
    mean, deviation = moments(prior)
    return dist.Normal(mean + deviation * loc, deviation * log_scale.exp()).to_event(len(prior.event_shape))


def moments(prior: Any) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each number, 0 and 1 where it has none: of a flat prior, or a Cauchy's."""
    if isinstance(base(prior), dist.ImproperUniform):
        zero = torch.zeros(prior.shape())
        return zero, torch.ones_like(zero)
    mean, deviation = prior.mean, prior.variance.sqrt()
    usual = mean.isfinite() & deviation.isfinite()
    return torch.where(usual, mean, 0.0), torch.where(usual, deviation, 1.0)


class _Tanh(TanhTransform):
    """tanh, whose inverse is finite at a bound and beyond it, where the action of an ended trajectory may lie."""

    def _inverse(self, y: Tensor) -> Tensor:
        edge = 1 - torch.finfo(y.dtype).eps
        return y.clamp(-edge, edge).atanh()


def tanh_gaussian(low: Any, high: Any, loc: Tensor, log_scale: Tensor, event_dim: int) -> Any:
    """Return a Gaussian squashed into the open interval by tanh (Haarnoja et al. 2018, appendix C).

    ``a = middle + half-width · tanh(u)``, u ~ N(x, (0.9 e^y)²): at zero close to uniform.
    """
    low, high = torch.as_tensor(low).to(loc.dtype), torch.as_tensor(high).to(loc.dtype)
    middle, half = (low + high) / 2, (high - low) / 2 * (1 - MARGIN)
    # The caches let log_prob of a drawn value reuse u, where atanh would lose its digits.
    squash = [_Tanh(cache_size=1), AffineTransform(middle, half, cache_size=1)]
    squashed = dist.TransformedDistribution(dist.Normal(loc, 0.9 * log_scale.exp()), squash)
    return squashed.to_event(event_dim)
