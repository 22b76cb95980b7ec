"""Exact evidence in a mean over normal coordinates z: it determines some of them, and restricts x by the rest.

The integral is over the plane ``R_x x + R_z z = h``. With the singular value decomposition R_z = U S V', as many
coordinates of V'z as there are singular values above 0 are determined by x:

    ∫ N(z) exp(g(x, z)/η) δ(R_x x + R_z z - h) dz = ∫ N(z(x, ω)) exp(g(x, z(x, ω))/η) dω / Π s

on the plane U₀'(R_x x - h) = 0,

where ω are the free coordinates and U₀ the rows that do not depend on z. So log Z is the log density of the evidence. A
maximum over z is one over ω, without the factor Π s.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.errors import ImpossibleError

SLIGHT = 1e-11
"""The share of the largest coefficient below which a coefficient of z counts as 0."""
CLOSE = 1e-9
"""How near the two sides of a row of zeros must be to each other, relative to the largest side."""


@dataclass(frozen=True)
class Absorbed:
    """A quadratic of (x, z) on a plane as one of (x, ω) without a plane: ``z = back (x, ω) + offset``.

    ω has as many coordinates as z. Those that are determined do not enter z, and are standard normal.

    Attributes:
        rest: of (x, ω), reward units, finite everywhere.
        back: ``[*B, k, n + k]``.
        offset: ``[*B, k]``.
        basis: V, in which the coordinates ω stand, ``[*B, k, k]``.
        bound: how many directions of z are determined, ``[*B]``.
        rows, sides: the plane that x is restricted to, ``[*B, R, n]`` and ``[*B, R]``; None where there is none.
    """

    rest: Quadratic
    back: Tensor
    offset: Tensor
    basis: Tensor
    bound: Tensor
    rows: Tensor | None
    sides: Tensor | None

    def restored(self, omega: ConditionalGaussian) -> ConditionalGaussian:
        """Return z given x, from ω given x."""
        n = self.rest.dimension - self.offset.shape[-1]
        of_x, of_omega = self.back[..., :n], self.back[..., n:]
        offset = self.offset + (of_omega @ omega.offset.unsqueeze(-1)).squeeze(-1)
        return ConditionalGaussian(of_x + of_omega @ omega.gain, offset, of_omega @ omega.scale)


def absorb(g: Quadratic, k: int, eta: Tensor, width: Tensor, *, density: bool) -> Absorbed:
    """Substitute into a quadratic of (x, z) what its plane determines of z, its last k coordinates.

    Args:
        g: reward units, on a plane of rows none of which follows from the others (``independent``).
        k: the coordinates of z.
        eta: what divides g in the exponent, reward units, ``[*B]``.
        width: 1 where a coordinate of z has the density N(0, 1), 0 where it has none, ``[*B, k]``.
        density: whether z is integrated, so that the volume counts; else it is a maximum.
    """
    assert g.rows is not None
    assert g.sides is not None
    n, batch, R = g.dimension - k, g.b.shape[:-1], g.rows.shape[-2]
    rows, sides = g.rows.expand(*batch, R, n + k), g.sides.expand(*batch, R)
    U, sizes, Vt = torch.linalg.svd(rows[..., n:].detach(), full_matrices=True)
    live = sizes > SLIGHT * _largest(rows)
    back, log_det = _determined(U.mT @ rows, (U.mT @ sides.unsqueeze(-1)).squeeze(-1), Vt.mT, live)
    here, offset = back[..., : n + k], back[..., n + k]
    one = torch.eye(n, n + k).to(back).expand(*batch, n, n + k)
    whole = torch.cat((one, here), -2), torch.cat((offset.new_zeros(*batch, n), offset), -1)
    dead = torch.nn.functional.pad(live, (0, k - live.shape[-1])).to(back)
    weight = _reweighed(width, dead, here, offset)
    if density:
        weight = replace(weight, c=weight.c - log_det - 0.5 * math.log(2 * math.pi) * dead.sum(-1))
    left = replace(g, rows=rows, sides=sides).after(*whole)
    rest = Quadratic(left.M, left.b, left.c) + weight * eta
    assert left.rows is not None
    assert left.sides is not None
    turned = (U.mT @ left.rows)[..., :n], (U.mT @ left.sides.unsqueeze(-1)).squeeze(-1)
    left_on_x = kept_rows(*turned, ~torch.nn.functional.pad(live, (0, R - live.shape[-1])))
    return Absorbed(rest, here, offset, Vt.mT, live.sum(-1), *left_on_x)


def _reweighed(width: Tensor, dead: Tensor, back: Tensor, offset: Tensor) -> Quadratic:
    """Return ``-½ z'Wz + ½ ω'Wω - ½ ω'Dω`` of (x, ω), nats, where z is ``back (x, ω) + offset``.

    It puts N(z) in place of N(ω), over which the mean is taken; W is the width, and D is 1 for what is determined.
    """
    n = back.shape[-1] - offset.shape[-1]
    of_z = Quadratic(-torch.diag_embed(width), 0 * width, 0 * width.sum(-1)).after(back, offset)
    return replace(of_z, M=of_z.M + torch.diag_embed(torch.nn.functional.pad(width - dead, (n, 0))))


def plane_on_x(g: Quadratic, k: int) -> tuple[Tensor | None, Tensor | None]:
    """Return the plane of x, where the last k coordinates, the noise, do not enter it.

    Raises:
        ImpossibleError: they do.
    """
    assert g.rows is not None
    n = g.dimension - k
    if bool((g.rows[..., n:].abs() > SLIGHT * _largest(g.rows).unsqueeze(-1)).any()):
        raise ImpossibleError("the evidence depends on noise: no policy makes it certain")
    return g.rows[..., :n], g.sides


def independent(rows: Tensor, sides: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return a plane by linearly independent rows; None where all rows are zero.

    A row that follows from those before it is certain, so its probability is 1 and it is left out.

    Args:
        rows: ``[*B, R, N]``.
        sides: ``[*B, R]``.

    Raises:
        ImpossibleError: a row contradicts those before it.
    """
    plain, right = rows.detach(), sides.detach()
    size = right.abs().amax(-1) if right.shape[-1] else right.sum(-1)
    basis, heights = plain[..., :0, :], right[..., :0]
    for i in range(rows.shape[-2]):
        left, height = plain[..., i, :], right[..., i]
        for _ in range(2):  # twice is enough: rounding, too, is then orthogonal (Giraud et al. 2005)
            shares = (basis @ left.unsqueeze(-1)).squeeze(-1)
            left, height = left - (shares.unsqueeze(-2) @ basis).squeeze(-2), height - (shares * heights).sum(-1)
        length = torch.linalg.vector_norm(left, dim=-1)
        new = length > SLIGHT * torch.linalg.vector_norm(plain[..., i, :], dim=-1)
        if bool((~new & (height.abs() > CLOSE * size)).any()):
            raise ImpossibleError("the evidence is zero: what was seen contradicts itself, or the system")
        scale = torch.where(new, 1 / torch.where(new, length, 1.0), 0.0)
        basis = torch.cat((basis, (left * scale.unsqueeze(-1)).unsqueeze(-2)), -2)
        heights = torch.cat((heights, (height * scale).unsqueeze(-1)), -1)
    return kept_rows(rows, sides, basis.abs().amax(-1) > 0 if basis.shape[-1] else heights.isnan())


def kept_rows(rows: Tensor, sides: Tensor, kept: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the rows with ``kept [*B, R]`` first; the others are zero, or are left out."""
    most = int(kept.sum(-1).max()) if kept.numel() else 0
    if not most:
        return None, None
    first = kept.long().argsort(dim=-1, descending=True, stable=True)[..., :most]
    still = kept.gather(-1, first).to(rows)
    rows = rows.gather(-2, first.unsqueeze(-1).expand(*first.shape, rows.shape[-1]))
    return rows * still.unsqueeze(-1), sides.gather(-1, first) * still


def _determined(rows: Tensor, sides: Tensor, V: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Return z as a function of (x, ω, 1), ``[*B, k, n + k + 1]``, and log Π s.

    The basis V and the rotation of the rows are taken as given: the derivative is that of solving the rows.
    """
    k, q = V.shape[-1], live.shape[-1]
    n = rows.shape[-1] - k
    by_omega, mask = rows[..., n:] @ V, live.to(rows)
    free = 1 - torch.nn.functional.pad(mask, (0, k - q))
    square = by_omega[..., :q, :q] * mask.unsqueeze(-1) * mask.unsqueeze(-2) + torch.diag_embed(1 - mask)
    known = (-rows[..., :q, :n], -by_omega[..., :q, :] * free.unsqueeze(-2), sides[..., :q, None])
    solved = torch.linalg.solve(square, torch.cat(known, -1) * mask.unsqueeze(-1))
    solved = torch.nn.functional.pad(solved, (0, 0, 0, k - q))
    inner = torch.nn.functional.pad(torch.diag_embed(free), (n, 1)) + solved
    return V @ inner, torch.linalg.slogdet(square).logabsdet


def _largest(rows: Tensor) -> Tensor:
    """Return the size of the largest coefficient, ``[*B, 1]``; 0 where there is none."""
    if not rows.shape[-1]:
        return rows.new_zeros(*rows.shape[:-2], 1)
    return rows.detach().abs().amax((-2, -1)).unsqueeze(-1)
