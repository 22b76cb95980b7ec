"""The head of real actions that are Gaussian or flat a priori; an affine function makes an affine-Gaussian policy."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.linalg import solve_triangular

from cai.compile.quadratic import ConditionalGaussian
from cai.learn.functions import Affine, Function
from cai.learn.learned_policies import SampledPolicy
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.policies.heads import moments
from cai.simulate.simulator import Simulator
from cai.simulate.worlds import action_at
from cai.world.coordinates import Coordinates
from cai.world.enumerate import base

CLAMPED = (-5, 2)
"""The log-deviations that a head takes, in units of its own at zero."""


@dataclass(frozen=True)
class NormalHead:
    """Real actions, Gaussian or flat a priori: a = μ + L u, u ~ N(x, diag e^2y), where N(μ, LL') is the prior.

    At zero it is the prior; of a flat one, whose density is 1, μ = 0 and L = 1. The code is the action itself.

    Attributes:
        simulator: gives the prior at a state.
        shape: of an action.
        flat: whether the prior is flat.
        centre, spread: the mean and the deviation of the prior at some state, ``[D]``: the critic's units.
    """

    simulator: Simulator
    shape: torch.Size
    flat: bool
    centre: Tensor
    spread: Tensor

    @property
    def dimensions(self) -> int:
        """D."""
        return self.shape.numel()

    @property
    def width(self) -> int:
        """A mean and a deviation for each dimension."""
        return 2 * self.dimensions

    def prior(self, state: Any, t: Any) -> Tensor:
        """Return μ and L at states, side by side, ``[*, D + D²]``."""
        batch = self.simulator.variables.batch_of(state)
        mean, factor = _moments(action_at(self.simulator, state, t), self.shape)
        both = torch.cat((mean, factor.flatten(-2)), -1)
        return both.expand(*batch, both.shape[-1]).to(self.simulator.dtype)

    def draw(self, out: Tensor, prior: Tensor) -> Tensor:
        """Draw a, differentiable in ``out``."""
        drawn: Tensor = self.gaussian(out, prior).rsample()
        return drawn

    def gaussian(self, out: Tensor, prior: Tensor) -> dist.MultivariateNormal:
        """Return π, over ``[*, D]``."""
        (loc, scale), (mean, factor) = _halves(out), self._split(prior)
        moved = mean + (factor @ loc.unsqueeze(-1)).squeeze(-1)
        return dist.MultivariateNormal(moved, scale_tril=factor * scale.unsqueeze(-2), validate_args=False)

    def ratio(self, out: Tensor, prior: Tensor, code: Tensor) -> Tensor:
        """Return log N(u; x, e^2y) - log N(u; 0, 1), nats: the volume of L cancels; the first alone if p is flat."""
        (loc, scale), (mean, factor) = _halves(out), self._split(prior)
        u = solve_triangular(factor, (code - mean).unsqueeze(-1), upper=False).squeeze(-1)
        log_pi = -0.5 * ((u - loc) / scale) ** 2 - scale.log()
        log_p = 0.5 * math.log(2 * math.pi) if self.flat else -0.5 * u**2
        ratio: Tensor = (log_pi - log_p).sum(-1)
        return ratio

    def values(self, code: Tensor) -> Tensor:
        """Return the action, in its own shape."""
        return code.reshape(*code.shape[:-1], *self.shape)

    def unit(self, code: Tensor) -> Tensor:
        """Return the action, less the prior's mean, in its deviations, ``[*, D]``."""
        return (code - self.centre) / self.spread

    def policy(self, function: Function, theta: Tensor, horizon: int | None) -> Any:
        """Return the policy; it is affine-Gaussian where the function is affine and the prior is."""
        if isinstance(function, Affine):
            actions = Coordinates.of(self.simulator.variables.actions, named=False)
            return AffineGaussianPolicy(partial(self._affine, function, theta), function.states, actions, horizon)
        distribution, mode = (partial(method, function, theta) for method in (self._distribution, self._mode))
        return SampledPolicy(self.simulator, distribution, mode)

    def _affine(self, function: Affine, theta: Tensor, t: int) -> ConditionalGaussian:
        """Return π of time t: an affine mean is known by its values at the origin and one step along each axis."""
        states = function.states
        axes = torch.cat((theta.new_zeros(1, states.dimension), torch.eye(states.dimension).to(theta)))
        each = self._at(function, theta, states.pack(states.split(axes)), t)
        offset = each.loc[0]
        return ConditionalGaussian((each.loc[1:] - offset).mT, offset, each.scale_tril[0])

    def _at(self, function: Function, theta: Tensor, state: Any, t: Any) -> dist.MultivariateNormal:
        return self.gaussian(function(theta, function.inputs(state, t)), self.prior(state, t))

    def _distribution(self, function: Function, theta: Tensor, state: Any, t: Any) -> Any:
        each = self._at(function, theta, state, t)
        if len(self.shape) == 1:
            return each
        return dist.Normal(self.values(each.loc), self.values(each.stddev)).to_event(len(self.shape))

    def _mode(self, function: Function, theta: Tensor, state: Any, t: Any) -> Tensor:
        return self.values(self._at(function, theta, state, t).loc)

    def _split(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        D = self.dimensions
        return prior[..., :D], prior[..., D:].unflatten(-1, (D, D))


def _halves(out: Tensor) -> tuple[Tensor, Tensor]:
    loc, log_scale = out.chunk(2, -1)
    return loc, log_scale.clamp(*CLAMPED).exp()


def normal_head(simulator: Simulator, prior: Any) -> NormalHead | None:
    """Return the head for a prior of one action variable at some states; None where it is neither Gaussian nor flat."""
    flat = isinstance(base(prior), dist.ImproperUniform)
    if not (flat or isinstance(base(prior), dist.Normal | dist.MultivariateNormal)):
        return None
    shape = simulator.variables.actions[0].shape
    mean, factor = _moments(prior, shape)
    spread = factor.square().sum(-1).sqrt()
    first = (part.reshape(-1, shape.numel())[0].to(simulator.dtype) for part in (mean, spread))
    return NormalHead(simulator, shape, flat, *first)


def _moments(prior: Any, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return the mean, ``[*, D]``, and the Cholesky factor of the covariance, ``[*, D, D]``; 0 and 1 of a flat one."""
    mean, deviation = (x.reshape(*x.shape[: x.dim() - len(shape)], shape.numel()) for x in moments(prior))
    own = base(prior)
    factor = own.scale_tril if isinstance(own, dist.MultivariateNormal) else deviation.diag_embed()
    return mean, factor.expand(*mean.shape, mean.shape[-1])
