"""A policy on real actions, Gaussian with a mean that is affine in the state: ``a = gain s + offset + scale ξ``."""

from collections.abc import Callable
from dataclasses import dataclass

from cai.compile.quadratic import ConditionalGaussian
from cai.world.coordinates import Coordinates


@dataclass(frozen=True, repr=False)
class AffineGaussianPolicy:
    """A policy that is affine-Gaussian at every time.

    Attributes:
        conditional: maps t to p(a|s) of time t; not a local function, so that the policy can be pickled.
        states, actions: the variables that the coordinates stand for.
        horizon: the T of its times, or None for a policy that is the same at all times.
    """

    conditional: Callable[[int], ConditionalGaussian]
    states: Coordinates
    actions: Coordinates
    horizon: int | None = None
