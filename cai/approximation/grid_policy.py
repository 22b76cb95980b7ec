"""The policy of a grid: one step of the world itself, then the value between the points of the grid."""

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from cai.approximation.discretise import Nodes, joined, rows
from cai.approximation.lattice import Lattice
from cai.approximation.quadrature import SiteNodes
from cai.compile.noise_program import NoiseProgram
from cai.errors import Finding, IntractableError
from cai.exact.rule_means import is_maximum
from cai.exact.rules import Rule
from cai.exact.tables.backup import Equation
from cai.policies.protocol import sampled, scored
from cai.world.distributions import Numbered
from cai.world.enumerate import base
from cai.world.noise import INSIDE, quantile
from cai.world.spaces import Values


@dataclass(frozen=True, repr=False, eq=False)
class GridPolicy:
    """A rule's policy at any state, on the grid or not.

    ``q(s, a) = mean over outcomes of r + v(s')`` at the nodes a of the action prior, with v interpolated. A soft rule
    draws a node's cell, in which the prior's quantile u is uniform: it has a density, and its KL to the prior is that
    of the table. A hard rule takes the best node itself.

    Attributes:
        program: the world.
        lattice: the grid.
        nodes: the quadrature.
        rule: how outcomes and actions are marginalised.
        alpha: α, reward units.
        v: reward units, ``[T+1, S]``; ``[S]`` for the infinite horizon.
    """

    program: NoiseProgram
    lattice: Lattice
    nodes: Nodes
    rule: Rule
    alpha: Tensor
    v: Tensor

    sample = sampled
    log_prob = scored

    def __repr__(self) -> str:
        return f"GridPolicy({' × '.join(map(str, self.lattice.points))} points, {self.rule})"

    def log_probs(self, s: Tensor, t: int) -> Tensor:
        """Return log π_t of the joint nodes of the action in states ``[*, d]``, nats, ``[*, A]``."""
        slice_ = rows(self.program, self.nodes, self.lattice, t - self.program.first, s.reshape(-1, s.shape[-1])).slice
        gamma = self.program.discount
        log_survival = s.new_tensor([gamma, 1 - gamma]).log()
        v_next = self.v if self.v.dim() == 1 else self.v[t - self.program.first + 1]
        values = Equation(self.rule, slice_, self.alpha, log_survival).back_up(v_next)
        log_pi = self.rule.over_actions.log_weights(values.q, slice_.log_prior, self.alpha[..., None], values.v)
        return log_pi.reshape(*s.shape[:-1], -1)

    def value(self, state: Values, t: int = 0) -> Tensor:
        """Return v_t between the points of the grid, reward units, ``[*]``: what ``cai.mpc(value=)`` asks for."""
        values = self.program.states.unpack(state)
        s = joined(self.program.states, values, tuple(self.program.spec.variables.batch_of(state)))
        corners, weights, _ = self.lattice.corners(s)
        v = self.v if self.v.dim() == 1 else self.v[t - self.program.first]
        return (weights * v[corners]).sum(-1)

    def act(self, state: Values, t: int) -> Values:
        """Sample the world's action sites, each given those before."""
        values = self.program.states.unpack(state)
        batch = self.program.spec.variables.batch_of(state)
        s = joined(self.program.states, values, tuple(batch))
        certain = is_maximum(self.rule.over_actions)
        with _Chosen(f"policy, t = {t}", self.nodes.act, self.log_probs(s, t), certain):
            action: Values = self.program.spec.world.act(state, t)
            return action


class _Chosen(Messenger):
    """Samples every site of the action prior from its share of joint log-probabilities ``[*, A]`` of the nodes."""

    def __init__(self, where: str, nodes: tuple[SiteNodes, ...], log_pi: Tensor, certain: bool) -> None:
        super().__init__()
        self.where, self.certain = where, certain
        self.left = list(nodes)
        if certain:
            log_pi = torch.where(log_pi == log_pi.amax(-1, keepdim=True), log_pi, -torch.inf)
        self.log_pi = log_pi
        self.law: Any = None

    def _pyro_sample(self, msg: Any) -> None:
        self.law = None
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        rule = self.left.pop(0)
        self.rest = self.log_pi.reshape(*self.log_pi.shape[:-1], rule.size, -1)
        where = f"{self.where}, variable '{msg['name']}'"
        self.law = msg["fn"] = _law(where, msg["fn"], rule, self.rest.logsumexp(-1), self.certain)

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.law is not None:  # the next sites, given what was chosen
            chosen = self.law.number(msg["value"]) if hasattr(self.law, "number") else msg["value"].long()
            number = chosen[..., None, None].expand(*self.rest.shape[:-2], 1, self.rest.shape[-1])
            left = self.rest.gather(-2, number).squeeze(-2)
            never = (left == -torch.inf).all(-1, keepdim=True)
            self.log_pi = torch.where(never, 0.0, left).log_softmax(-1)
            self.law = None


def _law(where: str, fn: Any, rule: SiteNodes, log_pi: Tensor, certain: bool) -> Any:
    if rule.finite:
        return Numbered(log_pi, fn.enumerate_support(expand=False).dtype)
    if certain or not rule.z.shape[-1]:
        best = log_pi.argmax(-1)
        value = quantile(where, fn)(rule.z[best])
        return Certain(value.to(fn.mean.dtype), best, len(fn.event_shape))
    inner = base(fn)
    if isinstance(inner, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        seen = f"{type(inner).__name__}, whose coordinates depend on each other"
        raise IntractableError([Finding(where, seen, "independent coordinates, or the rule HARD")])
    return ByCells(fn, rule, log_pi)


class Certain(dist.Delta):
    """A point mass at a node, which knows the node's number."""

    def __init__(self, value: Tensor, best: Tensor, event_dim: int) -> None:
        self.best = best
        super().__init__(value, event_dim=event_dim)  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Certain":
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return Certain(self.v.expand(shape + self.event_shape), self.best.expand(shape), len(self.event_shape))

    def number(self, value: Tensor) -> Tensor:
        """Return the node of a value."""
        return self.best


class ByCells(dist.TorchDistribution):
    """A distribution reweighted on cells of its quantile u: ``p(a) π_j/w_j`` where u(a) lies in the cell j of mass w_j.

    Args:
        fn: the distribution ``p``, its coordinates independent of each other.
        rule: the nodes; each has a cell, as large as its weight.
        log_pi: log-probabilities of the cells, nats, ``[*batch, n^k]``.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, fn: Any, rule: SiteNodes, log_pi: Tensor) -> None:
        self.fn, self.rule, self.log_pi = fn, rule, log_pi
        self.inner = base(fn)
        self.edges = torch.cat((log_pi.new_zeros(1), rule.each.cumsum(0)[:-1], log_pi.new_ones(1)))
        batch = torch.broadcast_shapes(fn.batch_shape, log_pi.shape[:-1])
        super().__init__(batch, fn.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the prior."""
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ByCells":
        """Expand to a larger batch shape."""
        shape = torch.Size(batch_shape)
        return ByCells(self.fn.expand(shape), self.rule, self.log_pi.expand(*shape, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a cell, then u in it."""
        shape = torch.Size(sample_shape) + self.batch_shape
        log_pi = self.log_pi.expand(*self.batch_shape, -1)
        cell = self._places(torch.distributions.Categorical(logits=log_pi).sample(torch.Size(sample_shape)))
        low, high = self.edges[cell], self.edges[cell + 1]
        u = (low + (high - low) * torch.rand_like(low)).clamp(INSIDE, 1 - INSIDE)
        value: Tensor = self.inner.icdf(u.reshape(shape + self.event_shape))
        return value

    def icdf(self, value: Tensor) -> Tensor:
        """Return the quantile of one real number: first the cell, then u in it."""
        if self.event_shape:
            raise NotImplementedError
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        pi = self.log_pi.softmax(-1).expand(*shape, -1)
        below, p = pi.cumsum(-1), value.expand(shape).unsqueeze(-1)
        cell = torch.searchsorted(below, p.contiguous()).clamp(max=pi.shape[-1] - 1)
        left = 1 - ((below.gather(-1, cell) - p) / pi.gather(-1, cell)).squeeze(-1).clamp(0, 1)
        low, high = self.edges[cell.squeeze(-1)], self.edges[cell.squeeze(-1) + 1]
        found: Tensor = self.inner.icdf((low + (high - low) * left).clamp(INSIDE, 1 - INSIDE))
        return found

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value) + log π_j/w_j, nats."""
        number = self.number(value)
        log_pi = self.log_pi.expand(*number.shape, self.log_pi.shape[-1])
        ratio = (log_pi - self.rule.log_w).gather(-1, number.unsqueeze(-1)).squeeze(-1)
        total: Tensor = self.fn.log_prob(value) + ratio
        return total

    def number(self, value: Tensor) -> Tensor:
        """Return the joint cell of a value."""
        u = self.inner.cdf(value).double()
        u = u.flatten(-len(self.event_shape)) if self.event_shape else u.unsqueeze(-1)
        cell = torch.searchsorted(self.edges, u.contiguous(), right=True).sub(1).clamp(0, len(self.edges) - 2)
        number = torch.zeros_like(cell[..., 0])
        for place in cell.unbind(-1):
            number = number * (len(self.edges) - 1) + place
        return number

    def _places(self, number: Tensor) -> Tensor:
        """Return the cell of each coordinate, ``[*, k]``."""
        k = self.rule.z.shape[-1]
        return torch.stack(torch.unravel_index(number, (len(self.edges) - 1,) * k), -1)
