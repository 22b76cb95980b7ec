"""Quadrature over the sites of a world: each site takes finitely many values with weights, in place of random ones.

A finite site takes all its values with their probabilities: exact. A bounded one takes Gauss-Lobatto nodes in
``u = F(value)``, both ends among them. Any other takes Gauss-Hermite nodes in ``z = Φ⁻¹(F(value))``.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.polynomial import hermite_e, legendre
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints
from torch.special import ndtri

from cai.compile.noise_program import RUNS
from cai.support.process import precision
from cai.world.distributions import exact
from cai.world.enumerate import base, require_plain, run_under
from cai.world.noise import noise_of, quantile


@dataclass(frozen=True, eq=False)
class SiteNodes:
    """The nodes of one site.

    Attributes:
        z: standard normal noise, ``[n, k]``.
        log_w: weights, nats, ``[n]``.
        each: weights of the nodes of one coordinate; n is their number to the power of k.
        finite: whether the site takes all its values instead, with their own probabilities.
    """

    z: Tensor
    log_w: Tensor
    each: Tensor
    finite: bool = False

    @property
    def size(self) -> int:
        """How many nodes."""
        return len(self.log_w)


@cache
def _hermite(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of N(0, 1)."""
    z, w = hermite_e.hermegauss(n)
    return torch.tensor(z), torch.tensor(w / w.sum())


@cache
def _lobatto(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the uniform distribution, as the noise that leads to them."""
    if n == 1:
        return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    last = legendre.Legendre.basis(n - 1)
    x = np.concatenate(([-1.0], np.sort(last.deriv().roots().real), [1.0]))
    w = 1 / (n * (n - 1) * last(x) ** 2)
    return ndtri(torch.tensor((1 + x) / 2)), torch.tensor(w / w.sum())


def rule_of(fn: Any, n: int) -> SiteNodes:
    """Return the nodes of a distribution, n for each of its coordinates unless it is finite."""
    k = noise_of(fn)
    if k and fn.has_enumerate_support and not fn.event_shape:
        n = fn.enumerate_support(expand=False).shape[0]
        flat = torch.zeros(n, dtype=torch.float64)
        return SiteNodes(flat.unsqueeze(-1), flat, flat, finite=True)
    inner = base(fn)
    bounded = isinstance(inner, dist.Uniform) or isinstance(getattr(inner, "support", None), constraints.interval)
    z, w = _lobatto(n) if bounded else _hermite(n)
    places = torch.cartesian_prod(*[torch.arange(n)] * k).reshape(-1, k) if k else torch.zeros(1, 0, dtype=torch.long)
    return SiteNodes(z[places], w[places].log().sum(-1), w)


class ReadRules(Messenger):
    """Reads the rule of every site of a piece of a world, n nodes for each coordinate."""

    def __init__(self, where: str, n: int) -> None:
        super().__init__()
        self.where, self.n = where, n
        self.rules: list[SiteNodes] = []

    def _pyro_sample(self, msg: Any) -> None:
        if _is_site(msg):
            fn = msg["fn"]
            self.rules.append(rule_of(fn, self.n))
            at = quantile(f"{self.where}, variable '{msg['name']}'", fn)
            msg["value"], msg["done"] = at(torch.zeros(noise_of(fn), dtype=torch.float64)), True


class FromNodes(Messenger):
    """Runs a piece of a world with every site at the nodes of its rule: joint nodes on the last axis of the batch.

    Args:
        where: which method runs, and when, for the errors.
        rules: of the sites in order.
        batch: the batch, the joint nodes last.

    Attributes:
        log_w: of the joint nodes, nats, ``[*batch]``.
    """

    def __init__(self, where: str, rules: tuple[SiteNodes, ...], batch: torch.Size) -> None:
        super().__init__()
        self.where, self.batch = where, batch
        sizes = [rule.size for rule in rules]
        place = torch.arange(batch[-1])
        self.left = list(zip(rules, torch.unravel_index(place, sizes) if sizes else (), strict=True))
        self.values: dict[str, Tensor] = {}
        self.log_w = torch.zeros(batch, dtype=torch.float64)

    def _pyro_sample(self, msg: Any) -> None:
        if not _is_site(msg):
            return
        (rule, j), fn = self.left.pop(0), msg["fn"]
        where = f"{self.where}, variable '{msg['name']}'"
        require_plain(where, msg, self.values)
        if rule.finite:
            support = fn.enumerate_support(expand=False)
            log_p = exact(fn).log_prob(support).movedim(0, -1).double().expand(*self.batch, rule.size)
            value = support.flatten()[j].expand(self.batch)
            self.log_w = self.log_w + log_p.gather(-1, j.expand(self.batch).unsqueeze(-1)).squeeze(-1)
        else:
            value = quantile(where, fn)(rule.z[j].expand(*self.batch, -1))
            self.log_w = self.log_w + rule.log_w[j]
        msg["value"], msg["done"] = value, True
        self.values[msg["name"]] = value


def _is_site(msg: Any) -> bool:
    return not (site_is_subsample(msg) or msg["infer"].get("_deterministic"))


def rules_of(where: str, n: int, piece: Any, *args: Any) -> tuple[tuple[SiteNodes, ...], Any]:
    """Return the rules of the sites of a piece of a world, and what it returned."""
    reading = ReadRules(where, n)
    with precision(torch.float64), pyro.validation_enabled(False):
        returned = run_under(reading, where, RUNS, piece, *args)
    return tuple(reading.rules), returned


def at_nodes(
    where: str, rules: tuple[SiteNodes, ...], batch: tuple[int, ...], piece: Any, *args: Any
) -> tuple[Any, Tensor]:
    """Return what a piece returns at all joint nodes, and their log-weights, nats, ``[*batch, N]``."""
    nodes = FromNodes(where, rules, torch.Size((*batch, joint_size(rules))))
    with precision(torch.float64), pyro.validation_enabled(False):
        returned = run_under(nodes, where, RUNS, piece, *args)
    return returned, nodes.log_w


def joint_size(rules: tuple[SiteNodes, ...]) -> int:
    """Return N, how many joint nodes there are."""
    return math.prod(rule.size for rule in rules)
