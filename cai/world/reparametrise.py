"""A Pyro messenger that runs a slice with every sample site a function of given noise: ``value = loc + scale z``."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints

from cai.errors import Finding, IntractableError, fault
from cai.world.coordinates import Coordinates
from cai.world.enumerate import base, require_plain
from cai.world.intervened import Intervened

GAUSSIAN = (dist.Normal, dist.MultivariateNormal, dist.LowRankMultivariateNormal)
"""The distributions that are a point plus standard normal noise times a scale."""
REAL = (*GAUSSIAN, dist.Delta, dist.ImproperUniform)
"""The distributions of the sites of a linear-Gaussian world."""
KNOWN = "Normal, MultivariateNormal, LowRankMultivariateNormal or Delta"


@dataclass(frozen=True)
class RealSite:
    """A site of real numbers: ``value = loc + scale z`` with z standard normal, or Lebesgue where ``flat``.

    Attributes:
        loc: ``[*batch, *event]``.
        scale: of each number, as ``loc``; a lower triangular matrix on the last axis where ``mixed``; None: no noise.
        shape: of an event.
        batch: the batch shape of the distribution.
        mixed: whether the noise of the last axis is correlated.
        flat: on which numbers of an event z has a flat prior.
    """

    loc: Tensor
    scale: Tensor | None
    shape: torch.Size
    batch: torch.Size
    flat: Tensor
    mixed: bool = False

    @property
    def noise(self) -> int:
        """How many coordinates of noise it takes."""
        return 0 if self.scale is None else self.shape.numel()

    @property
    def scales(self) -> Tensor | None:
        """The scale of each coordinate of noise; the sum of their logs is the site's log volume."""
        return self.scale.diagonal(dim1=-2, dim2=-1) if self.mixed and self.scale is not None else self.scale

    def at(self, z: Tensor) -> Tensor:
        """Return the value at noise ``[*batch, noise]``, as an object of its own: sites are told apart by identity."""
        if self.scale is None:
            return self.loc.expand(torch.broadcast_shapes(self.loc.shape, z.shape[:-1] + self.shape)).clone()
        z = z.reshape(z.shape[:-1] + self.shape)
        return self.loc + ((self.scale @ z.unsqueeze(-1)).squeeze(-1) if self.mixed else self.scale * z)

    def noise_at(self, value: Tensor) -> Tensor:
        """Return the noise that gives a value, ``[*batch, noise]``; 0 in a direction that takes none."""
        off = value - self.loc
        if self.scale is None:
            return off[..., :0].reshape((*off.shape[: off.dim() - len(self.shape)], 0))
        if self.mixed:
            z = (torch.linalg.pinv(self.scale) @ off.unsqueeze(-1)).squeeze(-1)
        else:
            z = torch.where(self.scale > 0, off / self.scale, 0.0)
        flat: Tensor = z.reshape((*z.shape[: z.dim() - len(self.shape)], self.noise))
        return flat


def real_site(where: str, fn: Any, *, flat: bool) -> RealSite:
    """Return a distribution as a point plus scaled noise.

    Args:
        where: the site, for the error.
        fn: the distribution.
        flat: whether a flat prior may stand here.

    Raises:
        IntractableError: it is no such distribution.
    """
    if isinstance(fn, Intervened):
        return _forced(real_site(where, fn.base_dist, flat=flat), fn.forced, fn.value)
    inner, event, batch = base(fn), torch.Size(fn.event_shape), torch.Size(fn.batch_shape)
    shape, proper = batch + event, torch.zeros(event, dtype=torch.bool)
    if isinstance(inner, dist.Delta):
        return RealSite(inner.v.expand(shape), None, event, batch, proper)
    if isinstance(inner, dist.Normal):
        return RealSite(inner.loc.expand(shape), inner.scale.expand(shape), event, batch, proper)
    if isinstance(inner, GAUSSIAN):
        root = inner.scale_tril.expand(shape + shape[-1:])
        return RealSite(inner.loc.expand(shape), root, event, batch, proper, mixed=True)
    if isinstance(inner, dist.ImproperUniform) and flat and _is_real(fn.support):
        return RealSite(torch.zeros(shape), torch.ones(shape), event, batch, ~proper)
    kind = type(inner).__name__
    seen = f"{kind}, which is not Gaussian"
    expected = KNOWN
    if isinstance(inner, dist.ImproperUniform):
        seen = f"ImproperUniform on {fn.support}" if flat else "ImproperUniform, a flat prior"
        expected = "ImproperUniform(constraints.real, …)" if flat else f"{KNOWN}: only actions may have a flat prior"
    raise IntractableError([Finding(where, seen, expected)])


def _forced(site: RealSite, forced: Tensor, value: Tensor) -> RealSite:
    """Return a site with some numbers forced, and the others as they were."""
    loc = torch.where(forced, value, site.loc)
    if site.scale is None:
        return replace(site, loc=loc)
    if not site.mixed:
        return replace(site, loc=loc, scale=torch.where(forced, 0.0, site.scale), flat=site.flat & ~forced)
    free = torch.where(forced.unsqueeze(-1), 0.0, site.scale)
    root = torch.linalg.cholesky(free @ free.mT + torch.diag_embed(forced.to(free)))
    return replace(site, loc=loc, scale=torch.where(forced.unsqueeze(-1), 0.0, root))


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.real))


class Reparametrise(Messenger):
    """Runs a piece of a world with every site as a function of earlier sites and of noise.

    Args:
        where: which method runs, and when, for the errors.
        noise: of all sites, side by side in the order in which they are sampled, ``[*batch, k]``; None for zeros.
        flat: whether a site may have a flat prior.

    Attributes:
        sites: the sites by name.
        used: how many coordinates of noise were used.
    """

    def __init__(self, where: str, noise: Tensor | None = None, *, flat: bool = False) -> None:
        super().__init__()
        self.where, self.noise, self.flat = where, noise, flat
        self.sites: dict[str, RealSite] = {}
        self.values: dict[str, Tensor] = {}
        self.used = 0

    @property
    def space(self) -> Coordinates:
        """The sites side by side."""
        return Coordinates(tuple(self.sites), tuple(site.shape for site in self.sites.values()))

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, where = msg["name"], f"{self.where}, variable '{msg['name']}'"
        require_plain(where, msg, self.values)
        site = real_site(where, msg["fn"], flat=self.flat)
        if self.noise is None:
            require_numbers(where, site, msg["fn"])
        elif site.batch and not _fits(site.batch, self.noise.shape[:-1]):
            seen = f"a batch of shape {tuple(site.batch)} on a batch of states of shape {tuple(self.noise.shape[:-1])}"
            raise fault(where, seen, "one event for each state: .to_event(1) makes a vector one event")
        z = torch.zeros(site.noise) if self.noise is None else self.noise[..., self.used : self.used + site.noise]
        self.used += site.noise
        msg["value"], msg["done"] = site.at(z), True
        self.sites[name], self.values[name] = site, msg["value"]


def _fits(batch: torch.Size, whole: torch.Size) -> bool:
    try:
        return bool(torch.broadcast_shapes(batch, whole) == whole)
    except RuntimeError:
        return False


def require_numbers(where: str, site: RealSite, fn: Any) -> None:
    """Raise a ``WorldError`` where a site on a single state is no event of real numbers with noise that makes sense."""
    if site.batch:
        seen = f"a batch of shape {tuple(site.batch)} on a single state"
        raise fault(where, seen, "one event for each state: .to_event(1) makes a vector one event")
    for seen, expected in _faults(site, fn):
        raise fault(where, seen, expected)


def _faults(site: RealSite, fn: Any) -> Iterator[tuple[str, str]]:
    for part in (site.loc, site.scale):
        if part is not None and part.dtype != torch.get_default_dtype():
            yield narrow(part.dtype)
    if not bool(site.loc.isfinite().all()):
        yield f"a mean of {_first(site.loc, ~site.loc.isfinite())}", "finite numbers"
    log_density = getattr(base(fn), "log_density", None)
    if isinstance(log_density, Tensor) and bool((log_density != 0).any()):
        yield "a Delta with a log_density", "a plain Delta: fold the factor into the reward"
    if site.scale is None or site.scales is None:
        return
    if not bool(site.scale.isfinite().all()):
        yield f"noise of scale {_first(site.scale, ~site.scale.isfinite())}", "finite numbers, at least 0"
    elif bool((site.scales < 0).any()):
        yield f"noise of scale {_first(site.scales, site.scales < 0)}", "a scale of at least 0"


def narrow(dtype: torch.dtype) -> tuple[str, str]:
    """Return what was seen, and what is expected, where the program makes numbers of another dtype."""
    own = str(torch.get_default_dtype()).removeprefix("torch.")
    return f"{str(dtype).removeprefix('torch.')} numbers", f"{own}: make the world's own tensors with dtype=torch.{own}"


def _first(values: Tensor, wrong: Tensor) -> str:
    return f"{float(values[wrong].flatten()[0]):g}"
