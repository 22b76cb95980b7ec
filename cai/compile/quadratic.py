"""Quadratic functions and Gaussians: the values, measures and policies of linear-Gaussian worlds, and their algebra.

Shape letters: ``N`` coordinates, ``k`` coordinates of what is conditional, ``j`` of its noise, ``B`` batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.support.display import in_notebook

Self = TypeVar("Self", bound="Stacked")
Alike = TypeVar("Alike")


class Stacked:
    """Tensors that share leading axes, of a batch or of time, and are indexed, stacked and detached together."""

    def each(self: Self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with every tensor changed."""
        return replace(self, **{name: _changed(part, change) for name, part in _parts(self)})  # type: ignore[type-var]

    def at(self: Self, t: int, axis: int = 0) -> Self:
        """Return entry t of a leading axis."""
        return self.each(lambda x: x.select(axis, t))

    def __getitem__(self: Self, index: int) -> Self:
        return self.at(index)

    def detach(self: Self) -> Self:
        """Return the same, cut from autograd."""
        return self.each(Tensor.detach)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, in order."""
        nested = (part.tensors if isinstance(part, Stacked) else (part,) for _, part in _parts(self))
        return tuple(tensor for tensors in nested for tensor in tensors)

    @property
    def requires_grad(self) -> bool:
        """Whether any number requires a gradient."""
        return any(tensor.requires_grad for tensor in self.tensors)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return the tensors, and what is made of tensors, by name."""
    every = ((field.name, getattr(value, field.name)) for field in fields(value))
    return [(name, part) for name, part in every if isinstance(part, Tensor | Stacked)]


def _changed(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return part.each(change) if isinstance(part, Stacked) else change(part)


def stacked(each: Sequence[Alike], axis: int = 0) -> Alike:
    """Stack alike values, or tensors, along a new leading axis."""
    first: Any = each[0]
    if isinstance(first, Tensor):
        return torch.stack(list(each), axis)  # type: ignore[arg-type, return-value]
    along = {name: stacked([getattr(one, name) for one in each], axis) for name, _ in _parts(first)}
    same: Alike = replace(first, **along)
    return same


@dataclass(frozen=True)
class Quadratic(Stacked):
    """The function ``½ x'Mx + b'x + c``, on all of R^N or on the plane ``rows x = sides``, -inf off it.

    Attributes:
        M: symmetric, ``[*B, N, N]``.
        b: ``[*B, N]``.
        c: ``[*B]``.
        rows: the linear functions of x that exact evidence fixes, ``[*B, R, N]``; a row of zeros fixes nothing. None:
            the function is finite everywhere.
        sides: the values of these functions, ``[*B, R]``.
    """

    M: Float[Tensor, "*B N N"]
    b: Float[Tensor, "*B N"]
    c: Float[Tensor, "*B"]
    rows: Float[Tensor, "*B R N"] | None = None
    sides: Float[Tensor, "*B R"] | None = None

    @classmethod
    def zero(cls, N: int, like: Tensor, batch: tuple[int, ...] = ()) -> "Quadratic":
        """Return 0, in the dtype and on the device of ``like``."""
        return cls(like.new_zeros(*batch, N, N), like.new_zeros(*batch, N), like.new_zeros(batch))

    @property
    def dimension(self) -> int:
        """N."""
        return self.b.shape[-1]

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Quadratic):
            return NotImplemented
        rows, sides = self.rows, self.sides
        if other.rows is not None and other.sides is not None:
            rows = other.rows if rows is None else _side_by_side(rows, other.rows, 2)
            sides = other.sides if sides is None else _side_by_side(sides, other.sides, 1)
        return Quadratic(self.M + other.M, self.b + other.b, self.c + other.c, rows, sides)

    def __neg__(self) -> "Quadratic":
        return replace(self, M=-self.M, b=-self.b, c=-self.c)

    def __sub__(self, other: Any) -> Any:
        """Return the difference on the plane of ``self``; inf off it, also where both are infinite."""
        if not isinstance(other, Quadratic):
            return NotImplemented
        c = torch.where(self.c == torch.inf, torch.inf, self.c - other.c)
        return replace(self, M=self.M - other.M, b=self.b - other.b, c=c)

    def __mul__(self, factor: float | Tensor) -> "Quadratic":
        """Return the function times a number, or one number for each entry of the batch."""
        k = torch.as_tensor(factor, dtype=self.b.dtype, device=self.b.device)
        return replace(self, M=self.M * k[..., None, None], b=self.b * k[..., None], c=self.c * k)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> "Quadratic":
        return self * (1 / torch.as_tensor(divisor, dtype=self.b.dtype, device=self.b.device))

    def __call__(self, x: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
        """Return ``½ x'Mx + b'x + c`` at a point, also off the plane."""
        return 0.5 * (x * _apply(self.M, x)).sum(-1) + (self.b * x).sum(-1) + self.c

    def after(self, F: Float[Tensor, "*B N L"], d: Float[Tensor, "*B N"]) -> "Quadratic":
        """Return ``y -> self(F y + d)``."""
        slope = self.b + _apply(self.M, d)
        rows = None if self.rows is None else self.rows @ F
        sides = None if self.sides is None or self.rows is None else self.sides - _apply(self.rows, d)
        b, c = _apply(F.mT, slope), 0.5 * ((self.b + slope) * d).sum(-1) + self.c
        return Quadratic(symmetric(F.mT @ self.M @ F), b, c, rows, sides)

    def lifted(self, more: int) -> "Quadratic":
        """Return the same function with more coordinates at the end, on which it does not depend."""
        rows = None if self.rows is None else torch.nn.functional.pad(self.rows, (0, more))
        M = torch.nn.functional.pad(self.M, (0, more, 0, more))
        return replace(self, M=M, b=torch.nn.functional.pad(self.b, (0, more)), rows=rows)


@dataclass(frozen=True)
class Gaussian(Stacked):
    """A measure: ``mass`` times N(mean, covariance); for a sum of Gaussians the moments of the sum.

    Attributes:
        mean: ``[*B, N]``.
        covariance: positive semi-definite, ``[*B, N, N]``.
        mass: ``[*B]``; below 1 where trajectories have ended.
    """

    mean: Float[Tensor, "*B N"]
    covariance: Float[Tensor, "*B N N"]
    mass: Float[Tensor, "*B"]

    _repr_html_ = in_notebook

    @property
    def deviation(self) -> Float[Tensor, "*B N"]:
        """The standard deviation of each coordinate."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()

    def expect(self, f: Quadratic) -> Float[Tensor, "*B"]:
        """Return ``mass · E f``: ``½ tr(M S) + f(mean)``; 0 where the mass is, also of an f that is infinite."""
        mean = 0.5 * (f.M * self.covariance).sum((-2, -1)) + f(self.mean)
        return torch.where(self.mass == 0, 0.0, self.mass * mean)

    def of(self, coordinates: list[int]) -> "Gaussian":
        """Return the marginal of some coordinates, in the order given."""
        picked = torch.as_tensor(coordinates, device=self.mean.device)
        covariance = self.covariance.index_select(-1, picked).index_select(-2, picked)
        return replace(self, mean=self.mean.index_select(-1, picked), covariance=covariance)

    def through(self, F: Float[Tensor, "*B L N"], d: Float[Tensor, "*B L"]) -> "Gaussian":
        """Return the measure of ``F x + d``."""
        return replace(self, mean=_apply(F, self.mean) + d, covariance=symmetric(F @ self.covariance @ F.mT))


@dataclass(frozen=True)
class ConditionalGaussian(Stacked):
    """A distribution of u given x: ``u = gain x + offset + scale ξ``, ξ standard normal; a policy, or dynamics.

    Attributes:
        gain: ``[*B, k, N]``.
        offset: ``[*B, k]``.
        scale: any factor of the covariance, ``[*B, k, j]``; singular where u is certain in some direction.
    """

    gain: Float[Tensor, "*B k N"]
    offset: Float[Tensor, "*B k"]
    scale: Float[Tensor, "*B k j"]

    @property
    def covariance(self) -> Float[Tensor, "*B k k"]:
        """The covariance of u given x, the same at every x."""
        return self.scale @ self.scale.mT

    def mean(self, x: Float[Tensor, "*B N"]) -> Float[Tensor, "*B k"]:
        """Return E[u | x]."""
        return _apply(self.gain, x) + self.offset

    def draw(self, x: Float[Tensor, "*B N"], noise: Float[Tensor, "*B j"]) -> Float[Tensor, "*B k"]:
        """Return u at standard normal noise."""
        return self.mean(x) + _apply(self.scale, noise)

    def driven(self, noise: "ConditionalGaussian") -> "ConditionalGaussian":
        """Return u where its noise ξ is no longer standard normal, but itself a Gaussian given x."""
        offset = self.offset + _apply(self.scale, noise.offset)
        return ConditionalGaussian(self.gain + self.scale @ noise.gain, offset, self.scale @ noise.scale)

    def joint(self, mu: Gaussian) -> Gaussian:
        """Return the measure of (x, u)."""
        cross = mu.covariance @ self.gain.mT
        below = symmetric(self.gain @ cross) + self.covariance
        covariance = torch.cat((torch.cat((mu.covariance, cross), -1), torch.cat((cross.mT, below), -1)), -2)
        return replace(mu, mean=torch.cat((mu.mean, self.mean(mu.mean)), -1), covariance=covariance)

    def push(self, mu: Gaussian) -> Gaussian:
        """Return the measure of u."""
        pushed = mu.through(self.gain, self.offset)
        return replace(pushed, covariance=pushed.covariance + self.covariance)

    def log_density(self) -> Quadratic:
        """Return log p(u|x) as a function of (x, u), nats; a density over the directions in which u varies.

        It does not depend on the directions in which u is certain.
        """
        precision, log_volume, rank = _precision(self.scale)
        slope = torch.cat((-self.gain, torch.eye(self.gain.shape[-2]).to(precision).expand_as(precision)), -1)
        here = _apply(precision, self.offset)
        c = -0.5 * (here * self.offset).sum(-1) - 0.5 * rank * math.log(2 * math.pi) - log_volume
        return Quadratic(-symmetric(slope.mT @ precision @ slope), _apply(slope.mT, here), c)

    @property
    def rank(self) -> Tensor:
        """The rank of the covariance of u, ``[*B]``."""
        return _precision(self.scale)[2]


def symmetric(M: Tensor) -> Tensor:
    """Return the symmetric part, ``½ (M + M')``, so that rounding errors do not grow from time to time."""
    return 0.5 * (M + M.mT)


def _apply(M: Tensor, x: Tensor) -> Tensor:
    return (M @ x.unsqueeze(-1)).squeeze(-1)


def _precision(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inverse of ``scale scale'`` on its range, half the log of its determinant there, and its rank."""
    size = float(scale.detach().abs().amax()) if scale.numel() else 0.0
    if scale.shape[-1] == scale.shape[-2] and scale.numel():
        pivots = torch.linalg.slogdet(scale)
        whole = torch.linalg.cond(scale.detach()) < 1 / (64 * torch.finfo(scale.dtype).eps)
        if bool(whole.all()):
            inverse = torch.linalg.inv(scale)
            rank = scale.new_full(scale.shape[:-2], scale.shape[-1])
            return symmetric(inverse.mT @ inverse), pivots.logabsdet, rank
    U, sizes, _ = torch.linalg.svd(scale, full_matrices=False)
    live = sizes > 64 * torch.finfo(scale.dtype).eps * size
    weights = torch.where(live, 1 / torch.where(live, sizes, 1.0).square(), 0.0)
    log_volume = torch.where(live, torch.where(live, sizes, 1.0).log(), 0.0).sum(-1)
    return symmetric((U * weights.unsqueeze(-2)) @ U.mT), log_volume, live.sum(-1).to(scale.dtype)


def log_volume_of(scales: Tensor) -> Tensor:
    """Return ``log_volume`` of a diagonal or triangular factor from its diagonal: ``Σ log scale``."""
    return torch.where(scales > 0, torch.where(scales > 0, scales, 1.0).log(), -0.5 * math.log(2 * math.pi)).sum()


def log_volume(scale: Tensor) -> Tensor:
    """Return the log volume of ``scale z`` relative to z, ``[*B]``: log p(scale z) is log p(z) less this number.

    Both are taken at the likeliest z. A direction that ``scale`` maps to 0 adds -½ log 2π, so that its density is 1.
    """
    _, volume, rank = _precision(scale)
    return volume - 0.5 * math.log(2 * math.pi) * (scale.shape[-1] - rank)


def aligned(each: Sequence[Self]) -> list[Self]:
    """Return the same values with as many rows of evidence each; a row of zeros fixes nothing."""
    most = max((x.rows.shape[-2] for x in each if isinstance(x, Quadratic) and x.rows is not None), default=0)
    return [_with_rows(x, most) if isinstance(x, Quadratic) and most else x for x in each]  # type: ignore[misc]


def _with_rows(f: Quadratic, most: int) -> Quadratic:
    rows = f.b.new_zeros(*f.b.shape[:-1], 0, f.dimension) if f.rows is None else f.rows
    sides = f.b.new_zeros(*f.b.shape[:-1], 0) if f.sides is None else f.sides
    more = most - rows.shape[-2]
    pad = torch.nn.functional.pad
    return replace(f, rows=pad(rows, (0, 0, 0, more)), sides=pad(sides, (0, more)))


def _side_by_side(first: Tensor, second: Tensor, trailing: int) -> Tensor:
    batch = torch.broadcast_shapes(first.shape[:-trailing], second.shape[:-trailing])
    shapes = (batch + part.shape[len(part.shape) - trailing :] for part in (first, second))
    return torch.cat([part.expand(shape) for part, shape in zip((first, second), shapes, strict=True)], -trailing)
