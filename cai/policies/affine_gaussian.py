"""A policy on real actions, Gaussian with a mean that is affine in the state: ``a = gain s + offset + scale ξ``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cai.compile.quadratic import ConditionalGaussian
from cai.errors import require_time
from cai.policies.gaussian_action import GaussianAction, gaussian_action
from cai.support.display import in_notebook
from cai.support.wording import listed
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

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        when = "the same at all times" if self.horizon is None else f"T = {self.horizon}"
        over = f"{listed(self.actions.labels)} given {listed(self.states.labels)}"
        return f"AffineGaussianPolicy({over}, {when}; read it with .at(t, {self.states.names[0]}=…))"

    def at(self, t: int, /, **state: Any) -> GaussianAction:
        """Return what is done at time t by name, ``policy.at(0, position=1.0, velocity=0.0)``: mean, deviation, gains.

        What is left out stays free: ``policy.at(0)`` has the gains and the offset.

        Args:
            t: the time; any for a policy that is the same at all times.
            state: variables of the state by name; a vector as a list, or ``**{"state[0]": 1.0}`` for one coordinate.

        Raises:
            WorldError: there is no such time or variable, a value is no number, or the policy is a batch.
        """
        require_time("at, t", t, self.horizon)
        return gaussian_action(self.conditional(t), t, self.states, self.actions, state)
