"""A policy on real actions, Gaussian with a mean that is affine in the state: ``a = gain s + offset + scale ξ``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyro
import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions.transforms import ReshapeTransform
from torch.linalg import solve_triangular

from cai.compile.quadratic import ConditionalGaussian
from cai.errors import Finding, IntractableError, require_time
from cai.policies.gaussian_action import GaussianAction, gaussian_action, require_single
from cai.policies.protocol import Policy, sampled, scored
from cai.support.display import in_notebook
from cai.support.wording import listed
from cai.world.coordinates import Coordinates
from cai.world.spaces import Values


@runtime_checkable
class Conditional(Policy, Protocol):
    """A policy that is a Gaussian given the state at every time, by ``conditional``."""

    @property
    def states(self) -> Coordinates:
        """The variables of the state."""

    @property
    def actions(self) -> Coordinates:
        """The variables of the action."""

    @property
    def horizon(self) -> int | None:
        """The T of its times, or None for a policy that is the same at all times."""

    def conditional(self, t: int) -> ConditionalGaussian:
        """Return p(a|s) of time t."""


def sample_gaussian(policy: Conditional, state: Values, t: int) -> Values:
    """Sample the action variables one after the other, each given those before: the chain rule of a Gaussian.

    With ``a = mean + L ξ`` and L lower triangular, the variables before give the first numbers of ξ.

    Raises:
        IntractableError: a variable is certain in one direction and not in another.
    """
    x, act = _at(policy, state, t)
    mean, L, chosen = act.mean(x), _lower(act.scale), dict[str, Tensor]()
    noise = mean.new_zeros(*mean.shape[:-1], 0)
    for (name, own), shape in zip(policy.actions.slices.items(), policy.actions.shapes, strict=True):
        loc = mean[..., own] + (L[own, : own.start] @ noise.unsqueeze(-1)).squeeze(-1)
        root = L[own, own]
        chosen[name] = pyro.sample(name, _site(name, loc, root, shape))
        if own.stop < len(L):
            off = chosen[name].reshape((*chosen[name].shape[: chosen[name].dim() - len(shape)], -1)) - loc
            known = solve_triangular(root, off.unsqueeze(-1), upper=False).squeeze(-1) if root.any() else off
            noise = torch.cat((noise.expand(*known.shape[:-1], -1), known), -1)
    return policy.actions.pack(chosen)


def mean_action(policy: Conditional, state: Values, t: int = 0) -> Values:
    """Return the most probable action: the mean."""
    x, act = _at(policy, state, t)
    return policy.actions.pack(policy.actions.split(act.mean(x)))


@dataclass(frozen=True, repr=False)
class AffineGaussianPolicy:
    """A policy that is affine-Gaussian at every time.

    Attributes:
        conditional: maps t to p(a|s) of time t; not a local function, so that the policy can be pickled.
        states, actions: the variables, laid out as coordinates.
        horizon: the T of its times, or None for a policy that is the same at all times.
    """

    conditional: Callable[[int], ConditionalGaussian]
    states: Coordinates
    actions: Coordinates
    horizon: int | None = None

    act = sample_gaussian
    mode = mean_action
    sample = sampled
    log_prob = scored
    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        when = "the same at all times" if self.horizon is None else f"T = {self.horizon}"
        over = f"{listed(self.actions.labels)} given {listed(self.states.labels)}"
        return f"AffineGaussianPolicy({over}, {when}; read it with .at(t, {self.states.names[0]}=…))"

    def at(self, t: int, /, **state: Any) -> GaussianAction:
        """Return the action of time t by name, ``policy.at(0, position=1.0, velocity=0.0)``: mean, deviation, gains.

        Variables may be left out: ``policy.at(0)`` has the gains and the offset.

        Args:
            t: the time; any for a policy that is the same at all times.
            state: variables of the state by name; a vector as a list, or ``**{"state[0]": 1.0}`` for one coordinate.

        Raises:
            WorldError: there is no such time or variable, a value is no number, or the policy is a batch.
        """
        require_time("at, t", t, self.horizon)
        return gaussian_action(self.conditional(t), t, self.states, self.actions, state)


def _at(policy: Conditional, state: Values, t: int) -> tuple[Tensor, ConditionalGaussian]:
    """Return the state as a vector, ``[*, n]``, and the policy in its dtype."""
    x, act = policy.states.join(policy.states.unpack(state)), policy.conditional(t)
    require_single("policy", act)
    return x, act.each(lambda part: part.to(x))


def _lower(scale: Tensor) -> Tensor:
    """Return L, lower triangular, ``[m, m]``, with LL' = scale scale'."""
    m, j = scale.shape
    L = torch.linalg.qr(torch.nn.functional.pad(scale, (0, max(m - j, 0))).mT).R.mT
    signed: Tensor = L * torch.where(L.diagonal() < 0, -1.0, 1.0).to(L)
    return signed


def _site(name: str, loc: Tensor, root: Tensor, shape: Size) -> Any:
    """Return N(loc, root root') of one variable; a point mass where it is certain."""
    values = loc.reshape((*loc.shape[:-1], *shape))
    if not bool(root.any()):
        return dist.Delta(values, event_dim=len(shape))
    if bool((root.diagonal() == 0).any()):
        seen = "certain in one direction, and not in another"
        raise IntractableError([Finding(f"policy, variable '{name}'", seen, "a density, or a point")])
    if not shape:
        return dist.Normal(values, root[0, 0])
    fn = dist.MultivariateNormal(loc, scale_tril=root)
    return fn if len(shape) == 1 else dist.TransformedDistribution(fn, [ReshapeTransform(Size([shape.numel()]), shape)])
