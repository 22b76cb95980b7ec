"""RDDL's random variables over numbers, as distributions: what Pyro has of them, in RDDL's own parameters."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import AffineTransform

REAL_DRAWS: dict[str, Callable[..., Any]] = {
    "Normal": lambda mean, variance: dist.Normal(mean, variance.sqrt()),
    "Uniform": dist.Uniform,
    "Exponential": lambda scale: dist.Exponential(1 / scale),
    "Gamma": lambda shape, scale: dist.Gamma(shape, 1 / scale),
    "Weibull": lambda shape, scale: dist.Weibull(scale, shape),
    "Beta": dist.Beta,
    "Student": dist.StudentT,
    "Gumbel": dist.Gumbel,
    "Laplace": dist.Laplace,
    "Cauchy": dist.Cauchy,
    "ChiSquare": dist.Chi2,
    "Pareto": lambda shape, scale: _shifted(dist.Pareto(scale, shape), -scale),  # from 0 on, as numpy's is
    "Poisson": dist.Poisson,
    "Geometric": lambda p: _shifted(dist.Geometric(p), 1.0),  # trials, where torch counts failures
    "Binomial": dist.Binomial,
    "NegativeBinomial": lambda n, p: dist.NegativeBinomial(n, 1 - p),
}
"""By RDDL's name, from tensors of the arguments, in the order of pyRDDLGym (``Normal(mean, variance)``)."""


def _shifted(fn: Any, by: Tensor | float) -> Any:
    return dist.TransformedDistribution(fn, [AffineTransform(by, 1.0)])
