"""A policy on mixed worlds: in each mode a mixture of affine Gaussians; a single one where outcomes are averaged."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ReshapeTransform
from torch import Size, Tensor

from cai.compile.by_mode import ConditionalsByMode
from cai.errors import Finding, NoClosedFormError, require_time
from cai.policies.gaussian_action import GaussianAction, gaussian_action
from cai.policies.protocol import scored
from cai.world.coordinates import Coordinates
from cai.world.mixed import MixedSpace
from cai.world.spaces import Values


@dataclass(frozen=True, repr=False)
class SwitchingPolicy:
    """A mixture of affine Gaussians whose weights depend on the state.

    Attributes:
        conditional: maps t to p(a|s) of time t; not a local function, so that the policy can be pickled.
        states: modes and real coordinates.
        actions: the action variables, laid out as coordinates.
        horizon: the T of its times, or None for a policy that is the same at all times.
    """

    conditional: Callable[[int], ConditionalsByMode]
    states: MixedSpace
    actions: Coordinates
    horizon: int | None = None

    def __repr__(self) -> str:
        times = "" if self.horizon is None else f", T = {self.horizon}"
        return f"SwitchingPolicy({', '.join(self.actions.names)}{times})"

    def act(self, state: Values, t: int) -> Values:
        """Sample a_t given s_t, one action variable after the other."""
        s = self.states.join(self.states.unpack(state))
        law = _law(self.conditional(t), self.states, s.reshape(-1, self.states.dimension))
        chosen: dict[str, Tensor] = {}
        for name, shape in zip(self.actions.names, self.actions.shapes, strict=True):
            k = shape.numel()
            value = pyro.sample(name, law.first(k, s.shape[:-1], shape))
            law = law.given(value.reshape(-1, k))
            chosen[name] = value
        return self.actions.pack(chosen)

    def at(self, t: int, /, **state: Any) -> GaussianAction:
        """Return the action of time t in a mode, by name, ``policy.at(0, road="icy", offset=1.0)``: mean, gains.

        Args:
            t: the time; any for a policy that is the same at all times.
            state: every finite variable, by number or by name, and any of the real ones.

        Raises:
            WorldError: there is no such time or variable, a finite one is missing, or a value is not valid.
            IntractableError: the policy is a mixture in a mode, as POSTERIOR's.
        """
        require_time("at, t", t, self.horizon)
        finite = {name: value for name, value in state.items() if name not in self.states.reals.slices}
        acts, i = self.conditional(t), self.states.modes.number(finite, "at")
        if not acts.is_affine:
            own = int((acts.weights.modes == i).sum())
            seen = f"a mixture of {own:,} Gaussians, one for each sequence of modes to come"
            raise NoClosedFormError([Finding("at", seen, "act and log_prob, or the policy of VARIATIONAL or HARD")])
        real = {name: value for name, value in state.items() if name not in finite}
        return gaussian_action(acts.each.at(i), t, self.states.reals, self.actions, real)

    def log_prob(self, state: Any, action: Any, t: int = 0) -> Tensor:
        """Return log π_t(a|s), nats, a density, of the broadcast shape of state and action."""
        s, a = self.states.join(self.states.unpack(state)), self.actions.join(self.actions.unpack(action))
        batch = torch.broadcast_shapes(s.shape[:-1], a.shape[:-1])
        states = self.states.split(s.expand(*batch, -1))
        return scored(self, states, self.actions.pack(self.actions.split(a.expand(*batch, -1))), t)


@dataclass(frozen=True)
class _Mixture:
    """A mixture of Gaussians for each of N states.

    Attributes:
        log_w: ``[N, C]``.
        mean: ``[N, C, m]``.
        covariance: ``[N, C, m, m]``, or one for all states.
    """

    log_w: Tensor
    mean: Tensor
    covariance: Tensor

    def first(self, k: int, batch: Size, shape: Size) -> Any:
        """Return the distribution of the first k coordinates, as a variable of the given shape."""
        mean, covariance = self.mean[..., :k], self.covariance[..., :k, :k]
        if not bool(covariance.any()):  # certain: of several components the likeliest
            best = self.log_w.argmax(-1)[:, None, None].expand(-1, 1, k)
            return dist.Delta(mean.gather(1, best).reshape(Size((*batch, *shape))), event_dim=len(shape))
        C = self.log_w.shape[-1]
        mean = mean.reshape(*batch, C, k)
        covariance = covariance.expand(len(self.log_w), C, k, k).reshape(*batch, C, k, k)
        if shape:
            each: Any = dist.MultivariateNormal(mean, covariance)
            if len(shape) > 1:
                each = dist.TransformedDistribution(each, [ReshapeTransform(Size((k,)), shape)])
        else:
            each = dist.Normal(mean[..., 0], covariance[..., 0, 0].sqrt())
        weights = dist.Categorical(logits=self.log_w.reshape(*batch, C))
        return dist.MixtureSameFamily(weights, each)

    def given(self, value: Tensor) -> "_Mixture":
        """Return the distribution of the other coordinates, given the first."""
        k = value.shape[-1]
        rest = self.covariance[..., k:, :k]
        if k == self.mean.shape[-1] or not bool(self.covariance[..., :k, :k].any()):
            return replace(self, mean=self.mean[..., k:], covariance=self.covariance[..., k:, k:])
        away = value.unsqueeze(1) - self.mean[..., :k]
        first = dist.MultivariateNormal(torch.zeros_like(away), self.covariance[..., :k, :k])
        gain = torch.linalg.solve(self.covariance[..., :k, :k], rest, left=False)
        mean = self.mean[..., k:] + (gain @ away.unsqueeze(-1)).squeeze(-1)
        log_w = torch.log_softmax(self.log_w + first.log_prob(away), -1)
        return _Mixture(log_w, mean, self.covariance[..., k:, k:] - gain @ rest.mT)


def _law(acts: ConditionalsByMode, space: MixedSpace, s: Tensor) -> _Mixture:
    """Return the distribution of the action in states ``s [N, 1 + n]``."""
    each, i, x = acts.each, space.mode(s), space.real(s)
    if acts.is_affine:
        mean = (each.gain[i] @ x.unsqueeze(-1)).squeeze(-1) + each.offset[i]
        return _Mixture(x.new_zeros(len(i), 1), mean.unsqueeze(1), each.covariance[i].unsqueeze(1))
    mean = torch.einsum("nj,cmj->ncm", x, each.gain) + each.offset
    return _Mixture(acts.weights.log_weights(s), mean, each.covariance)
