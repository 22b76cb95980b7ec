"""A rule's mean of a quadratic over its last coordinates, which are standard normal, or flat: one integral for all.

    η log ∫ N(z; 0, I) exp(g(x, z)/η) dz,     E g(x, z),     max_z g(x, z),     max_z (α log N(z; 0, I) + g(x, z))

each a quadratic of x. The noise of a slice, an action with a Gaussian prior and the start are marginalised by it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Quadratic, symmetric
from cai.errors import Finding, IntractableError, NotConvergedError
from cai.exact.gaussian.evidence import absorb, independent, plane_on_x
from cai.exact.rule_means import Assumption, Mean, assumption
from cai.exact.rules import Rule

FLAT = 256
"""Units in the last place of the largest curvature below which a direction counts as flat."""


@dataclass(frozen=True)
class Marginalised:
    """The mean of a quadratic over coordinates z, and z under the rule.

    Attributes:
        value: the mean, a quadratic of x, reward units.
        tilted: how z is distributed under the rule, given x.
        curvature: its least eigenvalue must be above 0 for the mean to be finite: the precision of z, ``[*B, k, k]``;
            None for an average, which always is.
        finite: whether it is, ``[*B]``.
        bound: how many directions of z exact evidence determines, ``[*B]``; None for none.
    """

    value: Quadratic
    tilted: ConditionalGaussian
    curvature: Tensor | None
    finite: Tensor
    bound: Tensor | None = None


def assumption_of(mean: Mean) -> Assumption:
    """Return the assumption of a mean: linear in exp(x/η), an average or a maximum.

    Raises:
        IntractableError: it has none, so its mean of a quadratic is not known.
    """
    said = assumption(mean)
    if said is None:
        seen = f"the mean {mean!r}, which has no assumption()"
        raise IntractableError([Finding("rule", seen, "a mean that is linear in exp(x/η), an average or a maximum")])
    return said


def over_normal(mean: Mean, g: Quadratic, k: int, alpha: Tensor, flat: Tensor, log_volume: Tensor) -> Marginalised:
    """Take a mean over the last k coordinates z of a quadratic ``g(x, z)``.

    Args:
        mean: one with an ``assumption()``.
        g: reward units.
        k: the number of coordinates z.
        alpha: the temperature, reward units, ``[*B]``.
        flat: the coordinates with Lebesgue measure in place of N(0, 1), ``[*B, k]``.
        log_volume: log of the volume of what z stands for, over that of z: a density is that much lower, ``[*B]``.

    Raises:
        ImpossibleError: exact evidence contradicts itself, or restricts z where the mean is an average.
    """
    said = assumption_of(mean)
    if g.rows is not None:
        return _on_plane(mean, g, k, alpha, flat, log_volume)
    if said.kind == "averaged":
        return _average(g, k)
    width = torch.where(flat, 0.0, 1.0).to(g.b)
    normal = 0.5 * math.log(2 * math.pi) * width.sum(-1)
    if said.kind == "linear":
        eta = alpha if said.eta is None else alpha.new_tensor(said.eta)
        square = _square(g, k, eta, width)
        taken = square.completed(*torch.linalg.cholesky_ex(square.precision))
        volume = 0.5 * math.log(2 * math.pi) * k - square.log_root(taken)
        return _plus(taken, eta * (volume - normal))
    square = _square(g, k, alpha, width if said.paid else 0 * width)
    taken = _certain(square.completed(*_root_or_ties(square)))
    if said.paid:
        return _plus(taken, -alpha * (normal + log_volume))
    return replace(taken, value=_without_residue(taken.value, square.rest))


def _without_residue(value: Quadratic, rest: Quadratic) -> Quadratic:
    """Return a maximum with 0 where all but rounding cancelled: there the best action leaves nothing to be gained.

    Before it, no action matters; what rounding left would choose one, or be a curvature of the wrong sign.
    """
    scale = rest.M.detach().diagonal(dim1=-2, dim2=-1).abs().sqrt()
    least = FLAT * torch.finfo(rest.b.dtype).eps

    def kept(x: Tensor, size: Tensor) -> Tensor:
        return torch.where(x.detach().abs() <= least * size, x - x.detach(), x)

    M = kept(value.M, scale.unsqueeze(-1) * scale.unsqueeze(-2))
    return replace(value, M=M, b=kept(value.b, rest.b.detach().abs()))


def _on_plane(mean: Mean, g: Quadratic, k: int, alpha: Tensor, flat: Tensor, log_volume: Tensor) -> Marginalised:
    """Take the mean where exact evidence restricts (x, z) to a plane: over ω, its free coordinates; see ``absorb``."""
    assert g.rows is not None
    assert g.sides is not None
    batch, said = g.b.shape[:-1], assumption_of(mean)
    rows, sides = independent(g.rows.expand(*batch, *g.rows.shape[-2:]), g.sides.expand(*batch, -1))
    g, free = replace(g, rows=rows, sides=sides), replace(g, rows=None, sides=None)
    if rows is None:
        return over_normal(mean, free, k, alpha, flat, log_volume)
    if said.kind == "averaged" or (said.eta is not None and said.eta < 0):
        rows, sides = plane_on_x(g, k)
        taken = over_normal(mean, free, k, alpha, flat, log_volume)
        return replace(taken, value=replace(taken.value, rows=rows, sides=sides))
    eta = alpha if said.eta is None else alpha.new_tensor(said.eta).expand(alpha.shape)
    counts = said.kind == "linear" or said.paid
    width = torch.where(flat, 0.0, 1.0).to(g.b).expand(*g.b.shape[:-1], k) * counts
    plane = absorb(g, k, eta, width, density=said.kind == "linear")
    taken = over_normal(mean, plane.rest, k, alpha, flat, log_volume)
    assert taken.curvature is not None
    return Marginalised(
        value=replace(taken.value, rows=plane.rows, sides=plane.sides),
        tilted=plane.restored(taken.tilted),
        curvature=plane.basis @ taken.curvature @ plane.basis.mT,
        finite=taken.finite,
        bound=plane.bound,
    )


def _average(g: Quadratic, k: int) -> Marginalised:
    """Return ``E g(x, z) = g(x, 0) + ½ tr G_zz``."""
    n = g.dimension - k
    trace = g.M[..., n:, n:].diagonal(dim1=-2, dim2=-1).sum(-1)
    value = Quadratic(g.M[..., :n, :n], g.b[..., :n], g.c + 0.5 * trace, g.rows, g.sides)
    batch = g.c.shape
    still = ConditionalGaussian(
        g.b.new_zeros(*batch, k, n), g.b.new_zeros(*batch, k), torch.eye(k).to(g.b).expand(*batch, k, k)
    )
    return Marginalised(value, still, None, torch.ones_like(g.c, dtype=torch.bool))


@dataclass(frozen=True)
class _Square:
    """The square in z to be completed: ``η (-½ z'Λz + h(x)'z)`` with Λ = width - G_zz/η and h = (G_zx x + b_z)/η.

    Attributes:
        rest: g at z = 0.
        precision: Λ.
        slope: h as a matrix of (x, 1), ``[*B, k, n+1]``.
        eta: η, ``[*B, 1, 1]``.
    """

    rest: Quadratic
    precision: Tensor
    slope: Tensor
    eta: Tensor

    def completed(self, root: Tensor, info: Tensor) -> Marginalised:
        """Return ``g(x, 0) + ½ η h(x)'Λ⁻¹h(x)``, the maximum over z, and N(Λ⁻¹h, Λ⁻¹), from a Cholesky root of Λ."""
        n, k = self.rest.dimension, root.shape[-1]
        best = torch.cholesky_solve(self.slope, root)
        square = self.slope.mT @ best * self.eta
        rest = self.rest
        value = Quadratic(
            symmetric(rest.M + square[..., :n, :n]), rest.b + square[..., :n, n], rest.c + 0.5 * square[..., n, n]
        )
        one = torch.eye(k, dtype=root.dtype, device=root.device).expand_as(root)
        spread = torch.linalg.solve_triangular(root.mT, one, upper=True)
        tilted = ConditionalGaussian(best[..., :n], best[..., n], spread)
        return Marginalised(value, tilted, self.precision, info == 0)

    @staticmethod
    def log_root(taken: Marginalised) -> Tensor:
        """Return ½ log det Λ."""
        return -taken.tilted.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _square(g: Quadratic, k: int, eta: Tensor, width: Tensor) -> _Square:
    n, e = g.dimension - k, eta[..., None, None]
    slope = torch.cat((g.M[..., n:, :n], g.b[..., n:, None]), -1) / e
    rest = Quadratic(g.M[..., :n, :n], g.b[..., :n], g.c)
    return _Square(rest, torch.diag_embed(width) - g.M[..., n:, n:] / e, slope, e)


def _root_or_ties(square: _Square) -> tuple[Tensor, Tensor]:
    """Return a Cholesky root of Λ and where there is none; directions in which g is constant get the precision 1.

    In such a direction every z is a maximum: z = 0, the prior's mean, is taken.
    """
    root, info = torch.linalg.cholesky_ex(square.precision)
    if not bool(info.any()):
        return root, info
    sizes, vectors = torch.linalg.eigh(square.precision.detach())
    slope, eps = square.slope.detach(), FLAT * torch.finfo(sizes.dtype).eps
    least = eps * sizes.abs().amax(-1, keepdim=True)
    pull, most = (vectors.mT @ slope).abs().amax(-1), slope.abs().amax((-2, -1)).unsqueeze(-1)
    ties = (sizes.abs() <= least) & (pull <= eps * most)
    whole = square.precision + (vectors * ties.unsqueeze(-2)) @ vectors.mT
    root, _ = torch.linalg.cholesky_ex(whole)
    return root, torch.where(((sizes > least) | ties).all(-1), 0, info)


def _plus(taken: Marginalised, constant: Tensor) -> Marginalised:
    value = taken.value
    return Marginalised(Quadratic(value.M, value.b, value.c + constant), taken.tilted, taken.curvature, taken.finite)


def _certain(taken: Marginalised) -> Marginalised:
    """Return the same with z at its best value alone."""
    tilted = taken.tilted
    certain = ConditionalGaussian(tilted.gain, tilted.offset, tilted.scale[..., :0])
    return Marginalised(taken.value, certain, taken.curvature, taken.finite)


def require_finite(taken: Marginalised, rule: Rule, t: int, over: str) -> Marginalised:
    """Return a mean that is finite.

    Args:
        taken: the mean.
        rule: the rule that it is of.
        t: the time.
        over: what it is over, in words.

    Raises:
        NotConvergedError: it is not finite.
        IntractableError: it is beyond the range of its dtype.
    """
    if bool(taken.finite.all()):
        return taken
    assert taken.curvature is not None
    wrong = taken.curvature.detach()[~taken.finite]
    if not bool(wrong.isfinite().all()):
        seen = "numbers beyond the range of the dtype: the value of later times grows without bound"
        raise IntractableError([Finding(f"{rule}, t = {t}", seen, "a shorter horizon, or actions that hold the state")])
    least = float(torch.linalg.eigvalsh(wrong).amin())
    why = _why(rule, over)
    raise NotConvergedError(f"{rule}, t = {t}: {why} (curvature {least:.3g}, where more than 0 is needed)")


def _why(rule: Rule, over: str) -> str:
    if "action" in over:
        return f"there is no best value of {over}, nor a finite mean over it"
    if (assumption_of(rule.over_outcomes).eta or 1.0) > 0:
        return f"the value is inf: the reward to come grows faster than {over} becomes unlikely"
    return f"the value is -inf: the reward to come falls faster than {over} becomes unlikely"
