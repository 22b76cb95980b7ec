"""Action heads: how the numbers of a function become an action, and what the action costs against the prior.

An action is carried as its ``code``: its number, or, for a continuous one, what stands before the tanh. The ratio
``log π(a|s) - log p(a|s)``, nats, is all that a learner needs: its gradient is that of log π, and its mean is the KL to
the prior. For a uniform prior over finitely many actions it is log π + log|A|.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from cai.errors import fault
from cai.learn.functions import Function
from cai.learn.learned_policies import DiscretePolicy, SampledPolicy, draw
from cai.learn.normal_head import CLAMPED, normal_head
from cai.policies.heads import MARGIN, tanh_gaussian
from cai.simulate.simulator import Simulator
from cai.simulate.worlds import one_action
from cai.world.enumerate import base


@runtime_checkable
class ActionHead(Protocol):
    """What stands between a function and the world's actions."""

    @property
    def width(self) -> int:
        """How many numbers it takes of a function."""

    def prior(self, state: Any, t: Any) -> Tensor:
        """Return what the actor must know of the action prior at a state."""

    def draw(self, out: Tensor, prior: Tensor) -> Tensor:
        """Draw a code."""

    def ratio(self, out: Tensor, prior: Tensor, code: Tensor) -> Tensor:
        """Return log π(a|s) - log p(a|s), nats."""

    def values(self, code: Tensor) -> Any:
        """Return the action that a code stands for."""

    def policy(self, function: Function, theta: Tensor, horizon: int | None) -> Any:
        """Return the policy of a function and its θ."""


@runtime_checkable
class Continuous(ActionHead, Protocol):
    """A head for real actions, whose draws are differentiable in the numbers."""

    @property
    def dimensions(self) -> int:
        """D."""

    def unit(self, code: Tensor) -> Tensor:
        """Return the action in units that suit a critic, ``[*, D]``."""


@dataclass(frozen=True)
class Discrete:
    """Finitely many actions: π(a|s) ∝ p(a|s) exp(f_a(s))."""

    simulator: Simulator

    @property
    def width(self) -> int:
        """A."""
        space = self.simulator.variables.action_space
        assert space is not None
        return space.size

    def prior(self, state: Any, t: Any) -> Tensor:
        """Return log p(a|s), nats."""
        return self.simulator.log_prior(state, t)

    def log_pi(self, out: Tensor, prior: Tensor) -> Tensor:
        """Return log π(a|s), nats."""
        return (prior + out).log_softmax(-1)

    def draw(self, out: Tensor, prior: Tensor) -> Tensor:
        """Draw a number."""
        return draw(prior + out)

    def ratio(self, out: Tensor, prior: Tensor, code: Tensor) -> Tensor:
        """Return log π(a|s) - log p(a|s) = f_a(s) - log Σ p exp f."""
        return (out.gather(-1, code.unsqueeze(-1)) - (prior + out).logsumexp(-1, keepdim=True)).squeeze(-1)

    def kl(self, out: Tensor, prior: Tensor) -> Tensor:
        """Return KL(π(·|s) ‖ p(·|s)), nats."""
        ratio = out - (prior + out).logsumexp(-1, keepdim=True)  # finite also where p = 0
        return (self.log_pi(out, prior).exp() * ratio).sum(-1)

    def values(self, code: Tensor) -> Any:
        """Return the numbered action."""
        space = self.simulator.variables.action_space
        assert space is not None
        return space.pack(space.split(code))

    def policy(self, function: Function, theta: Tensor, horizon: int | None) -> DiscretePolicy:
        """Return the policy."""
        return DiscretePolicy(self.simulator, partial(self._log_pi, function, theta), horizon)

    def _log_pi(self, function: Function, theta: Tensor, state: Any, t: Any) -> Tensor:
        return self.log_pi(function(theta, function.inputs(state, t)), self.prior(state, t))


@dataclass(frozen=True)
class Squashed:
    """Continuous actions on an interval, uniform a priori: a = middle + half-width · tanh(u), u ~ N(x, (0.9 e^y)²).

    Haarnoja et al. 2018, appendix C; ``cai.policies.NeuralPolicy`` has the same head.
    """

    simulator: Simulator
    low: Tensor
    high: Tensor

    @property
    def dimensions(self) -> int:
        """D."""
        return self.low.numel()

    @property
    def width(self) -> int:
        """A mean and a deviation for each dimension."""
        return 2 * self.dimensions

    def prior(self, state: Any, t: Any) -> Tensor:
        """Return nothing: the prior is the same everywhere."""
        return torch.zeros(())

    def draw(self, out: Tensor, prior: Tensor) -> Tensor:
        """Draw u, differentiable in ``out``."""
        mean, scale = self._split(out)
        return mean + scale * torch.randn_like(mean)

    def ratio(self, out: Tensor, prior: Tensor, code: Tensor) -> Tensor:
        """Return log N(u) - Σ log(1 - tanh² u) + Σ log 2, nats: the widths of the interval cancel."""
        mean, scale = self._split(out)
        log_n = -0.5 * ((code - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - code - softplus(-2 * code))  # log(1 - tanh²), without cancellation
        return (log_n - log_slope + math.log(2)).sum(-1)

    def values(self, code: Tensor) -> Tensor:
        """Return the action in the world's units."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2 * (1 - MARGIN)
        return middle + half * code.tanh().reshape(*code.shape[:-1], *self.low.shape)

    def unit(self, code: Tensor) -> Tensor:
        """Return the action between -1 and 1, ``[*, D]``: what a critic is fed."""
        return code.tanh()

    def policy(self, function: Function, theta: Tensor, horizon: int | None) -> SampledPolicy:
        """Return the policy; its mode is the tanh of the mean."""
        distribution, mode = (partial(method, function, theta) for method in (self._distribution, self._mode))
        return SampledPolicy(self.simulator, distribution, mode)

    def _distribution(self, function: Function, theta: Tensor, state: Any, t: Any) -> Any:
        out = function(theta, function.inputs(state, t))
        loc, log_scale = out.chunk(2, -1)
        shape = (*out.shape[:-1], *self.low.shape)
        halves = loc.reshape(shape), log_scale.clamp(*CLAMPED).reshape(shape)
        return tanh_gaussian(self.low, self.high, *halves, self.low.dim())

    def _mode(self, function: Function, theta: Tensor, state: Any, t: Any) -> Tensor:
        return self.values(function(theta, function.inputs(state, t)).chunk(2, -1)[0])

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = out.chunk(2, -1)
        return mean, 0.9 * log_scale.clamp(*CLAMPED).exp()


def actor_of(simulator: Simulator) -> ActionHead:
    """Return the actor for a simulator's actions.

    Raises:
        WorldError: the actions are neither finite nor one variable that is Gaussian, flat, or uniform on an interval.
    """
    if simulator.variables.action_space is not None:
        return Discrete(simulator)
    names = [variable.name for variable in simulator.variables.actions]
    prior = one_action(simulator) if len(names) == 1 else None
    actor = None if prior is None else _squashed(simulator, base(prior)) or normal_head(simulator, prior)
    if actor is not None:
        return actor
    expected = "finitely many actions, or one variable: Gaussian, flat, or uniform on one interval"
    seen = f"{names}" if prior is None else f"{names}, a {type(base(prior)).__name__}"
    raise fault("learner, action prior", seen, expected)


def _squashed(simulator: Simulator, prior: Any) -> Squashed | None:
    if not isinstance(prior, dist.Uniform):
        return None
    shape = simulator.variables.actions[0].shape
    rows = [bound.reshape(-1, *shape) for bound in (prior.low, prior.high)]
    if any(bool((row != row[0]).any()) for row in rows):
        expected = "one interval for all states"
        raise fault("learner, action prior", "an interval that differs between states", expected)
    low, high = (row[0] for row in rows)
    return Squashed(simulator, low.to(torch.get_default_dtype()), high.to(torch.get_default_dtype()))
