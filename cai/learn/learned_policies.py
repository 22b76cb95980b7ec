"""Learned policies: what a function and its θ say, as a policy at the world's own action sites."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault
from cai.policies.action_programs import finite_spaces
from cai.policies.protocol import probabilities, sample_joint, scored
from cai.policies.readable import in_state
from cai.simulate.simulator import Simulator

LogPi = Callable[[Any, Any], Tensor]
"""A function ``(state, t) -> log π_t(a|s)``, ``[*, A]``, nats."""


class DiscretePolicy:
    """A policy over numbered actions, by its log-probabilities at any batch of states."""

    log_prob = scored
    probs = probabilities
    at = in_state

    def __init__(self, simulator: Simulator, log_pi: LogPi, horizon: int | None = None) -> None:
        self.simulator, self.log_pi, self.horizon = simulator, log_pi, horizon
        self.spaces = simulator.variables.spaces

    def act(self, state: Any, t: int) -> Any:
        """Sample the action variables one after the other."""
        space = self.simulator.variables.action_space
        assert space is not None
        return sample_joint(space, self._log_pi(state, t))

    def sample(self, state: Any, t: int = 0) -> Any:
        """Draw a_t given s_t, outside of any trace."""
        return self._values(draw(self._log_pi(state, t)))

    def mode(self, state: Any, t: int = 0) -> Any:
        """Return the most probable action."""
        return self._values(self._log_pi(state, t).argmax(-1))

    def log_probs(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s) of all states, nats.

        Raises:
            IntractableError: the states are not finite.
        """
        states, _ = finite_spaces(self.spaces)
        return self._log_pi(states.pack(states.split(torch.arange(states.size))), t)

    def _log_pi(self, state: Any, t: int) -> Tensor:
        with torch.no_grad():
            log_pi = self.log_pi(state, t)
        if bool(log_pi.isnan().any()):
            raise fault(
                f"learned policy, t = {t}", "a probability that is NaN", "finite parameters: a smaller step size?"
            )
        return log_pi

    def _values(self, number: Tensor) -> Any:
        space = self.simulator.variables.action_space
        assert space is not None
        return space.pack(space.split(number))


class SampledPolicy:
    """A policy over continuous actions, by its distribution at any batch of states."""

    log_prob = scored

    def __init__(
        self, simulator: Simulator, distribution: Callable[[Any, Any], Any], mode: Callable[[Any, Any], Any]
    ) -> None:
        self.simulator, self.distribution, self._mode = simulator, distribution, mode
        self.site = simulator.variables.actions[0].name

    def act(self, state: Any, t: int) -> Any:
        """Sample the action."""
        return pyro.sample(self.site, self.distribution(state, t))

    def sample(self, state: Any, t: int = 0) -> Any:
        """Draw a_t given s_t, outside of any trace."""
        with torch.no_grad():
            return self.distribution(state, t).sample()

    def mode(self, state: Any, t: int = 0) -> Any:
        """Return the most probable action, before it was squashed."""
        with torch.no_grad():
            return self._mode(state, t)


def draw(log_pi: Tensor) -> Tensor:
    """Draw numbers from ``log_pi [*, A]``: argmax log π + Gumbel noise."""
    noise = torch.empty_like(log_pi).exponential_().log()
    return (log_pi - noise).argmax(-1)
