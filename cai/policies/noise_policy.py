"""A policy as other noise in the action prior: ``a = act(s, w)`` with ``w ~ N(m_t(s), Σ_t)`` in place of N(0, I)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import CumulativeDistributionTransform
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions.transforms import ReshapeTransform
from torch.special import ndtr, ndtri

from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import ConditionalGaussian
from cai.policies.protocol import sampled, scored
from cai.support.numerics import log
from cai.world.definition import Point
from cai.world.distributions import Numbered, exact
from cai.world.enumerate import base
from cai.world.noise import has_one_noise, noise_at, noise_of
from cai.world.reparametrise import GAUSSIAN, real_site
from cai.world.spaces import Values


@dataclass(frozen=True, repr=False)
class NoisePolicy:
    """A policy that draws the noise of the action prior from a Gaussian given the state.

    An action is possible under it only where it is under the prior: bounds hold, forbidden actions stay forbidden.
    The noise of an action variable is drawn given that of those before it, but for finite ones: their value does not
    tell their noise, so that what covaries with it is left out.

    Attributes:
        program: the world.
        noise: maps t, counted from the first step of the program, to p(w_t|s_t) over vectors of states.
    """

    program: NoiseProgram
    noise: Callable[[int], ConditionalGaussian]

    sample = sampled
    log_prob = scored

    def __repr__(self) -> str:
        program = self.program
        return f"NoisePolicy({program.act_noise} numbers of noise, t = {program.first} … {self.end - 1})"

    @property
    def end(self) -> int:
        """The first time at which it has nothing to say."""
        return self.program.first + self.program.horizon

    def act(self, state: Values, t: int) -> Values:
        """Sample the world's action sites, each given those before."""
        s, law = self._joined(state), self.noise(t - self.program.first)
        with _Driven(f"policy, t = {t}", law.mean(s), law.covariance):
            action: Values = self.program.spec.world.act(state, t)
            return action

    def median(self, state: Values, t: int) -> Values:
        """Return the action at the mean of the noise: of a single real variable the median."""
        s, step = self._joined(state), t - self.program.first
        return self.program.action(self.program.act(step, s, self.noise(step).mean(s)))

    def _joined(self, state: Values) -> Tensor:
        values = self.program.states.unpack(state)
        return self.program.states.join({name: value.to(torch.float64) for name, value in values.items()})


class _Driven(Messenger):
    """Samples each site of the action prior from other noise, N(mean, covariance), given that of the sites before."""

    def __init__(self, where: str, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.where, self.mean, self.covariance, self.used = where, mean, covariance, 0
        self.known, self.off = list[int](), mean[..., :0]
        self.prior: Any = None

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        self.prior = msg["fn"]
        self.own = slice(self.used, self.used + noise_of(self.prior))
        self.used = self.own.stop
        mean, covariance = self.mean[..., self.own], self.covariance[self.own, self.own]
        if self.known:
            S, known = self.covariance, self.known
            gain = torch.linalg.solve(S[known][:, known], S[known, self.own]).mT
            mean, covariance = mean + self.off @ gain.mT, covariance - gain @ S[known, self.own]
        root = torch.linalg.cholesky(covariance)
        msg["fn"] = driven(f"{self.where}, variable '{msg['name']}'", self.prior, mean, root)

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        last = self.own.stop == len(self.covariance)
        if not last and self.own.start < self.own.stop and has_one_noise(self.prior):
            noise = noise_at(f"{self.where}, variable '{msg['name']}'", self.prior, msg["value"])
            off = noise - self.mean[..., self.own]
            lead = torch.broadcast_shapes(self.off.shape[:-1], off.shape[:-1])
            self.off = torch.cat((self.off.expand(*lead, -1), off.expand(*lead, -1)), -1)
            self.known.extend(range(self.own.start, self.own.stop))


def driven(where: str, fn: Any, mean: Tensor, root: Tensor) -> Any:
    """Return the law of ``F⁻¹(Φ(w))`` where w ~ N(mean, root root'), and F is the distribution ``fn``.

    Args:
        where: the site, for the error.
        fn: the distribution of a site.
        mean: ``[*batch, k]``.
        root: lower triangular, ``[k, k]``.

    Raises:
        IntractableError: the distribution is neither Gaussian nor finite, nor has a quantile function.
    """
    inner, event = base(fn), torch.Size(fn.event_shape)
    if isinstance(inner, Point | dist.Delta):
        return fn
    if isinstance(inner, GAUSSIAN):
        return _gaussian(where, fn, mean, root)
    if fn.has_enumerate_support and not event:
        return _finite(fn, mean.squeeze(-1), root[0, 0])
    noise = _shaped(mean, root, event)
    through = [CumulativeDistributionTransform(STANDARD), CumulativeDistributionTransform(inner).inv]
    return dist.TransformedDistribution(noise, through)


STANDARD = dist.Normal(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))


def _shaped(mean: Tensor, root: Tensor, event: torch.Size) -> Any:
    """Return N(mean, root root') over events of a shape."""
    if not event:
        return dist.Normal(mean.squeeze(-1), root[..., 0, 0])
    if bool((root == root.diagonal(dim1=-2, dim2=-1).diag_embed()).all()):
        scale = root.diagonal(dim1=-2, dim2=-1).reshape(root.shape[:-2] + event)
        return dist.Normal(mean.reshape(mean.shape[:-1] + event), scale).to_event(len(event))
    flat = dist.MultivariateNormal(mean, scale_tril=root)
    if len(event) == 1:
        return flat
    return dist.TransformedDistribution(flat, [ReshapeTransform(torch.Size([event.numel()]), event)])


def _gaussian(where: str, fn: Any, mean: Tensor, root: Tensor) -> Any:
    """Return N(loc + S mean, S root root' S') where the site is N(loc, SS')."""
    site = real_site(where, fn, flat=False)
    loc, event, scale = site.at(mean), site.shape, torch.as_tensor(site.scale).to(root)
    scales = scale if site.mixed else scale.reshape(*site.batch, -1).diag_embed()
    if site.mixed and len(event) > 1:
        scales = torch.block_diag(*scales.reshape(-1, *scales.shape[-2:]))
    return _shaped(loc.reshape(*loc.shape[: loc.dim() - len(event)], -1), scales @ root, event)


def _finite(fn: Any, mean: Tensor, scale: Tensor) -> Any:
    """Return the probabilities that the noise lies between the edges at which ``F⁻¹(Φ(·))`` jumps."""
    values = fn.enumerate_support(expand=False)
    probabilities = exact(fn).log_prob(values).exp().movedim(0, -1)
    edges = ndtri(probabilities.cumsum(-1)[..., :-1].clamp(0, 1))
    z = (edges - mean.unsqueeze(-1)) / scale
    infinite = torch.full_like(z[..., :1], torch.inf)
    low, high = torch.cat((-infinite, z), -1), torch.cat((z, infinite), -1)
    above = low > 0  # in the upper tail Φ has no digits left, in the lower one it has
    between = torch.where(above, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    return Numbered(log(torch.where(probabilities > 0, between, 0.0)), values.dtype)
