"""Values, measures and policies of mixed worlds: one or more quadratics, Gaussians or conditionals for each mode.

A point is a row: the number of its mode, then its real coordinates.

Shape letters: ``C`` components, each of one mode; ``I`` modes; ``d`` real coordinates.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.compile.pointwise_function import Pointwise
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic, Stacked, symmetric

Each = TypeVar("Each", bound=Stacked)


def picked(each: Each, index: Tensor) -> Each:
    """Return some entries of the first leading axis."""
    return each.each(lambda x: x[index])


@dataclass(frozen=True)
class QuadraticsByMode:
    """A function of the mode i and real coordinates: ``η log Σ exp(f_c(x)/η)`` over its components c, or their maximum.

    Attributes:
        modes: of each component, ``[C]``.
        each: the quadratics f_c, ``[C]``.
        eta: η, reward units; None for the maximum, or for one component a mode.
        switch: the switch that follows in each component, ``[C]``.
        tail: the component of the value one step later that each continues with, ``[C]``; the number of these
            components where the trajectory has ended.
    """

    modes: Int[Tensor, " C"]
    each: Quadratic
    eta: Tensor | None = None
    switch: Int[Tensor, " C"] | None = None
    tail: Int[Tensor, " C"] | None = None

    def __len__(self) -> int:
        return len(self.modes)

    @property
    def is_single(self) -> bool:
        """Whether each mode has one component, in order: the function is a quadratic in each mode."""
        return torch.equal(self.modes, torch.arange(len(self.modes)).to(self.modes))

    def lifted(self, more: int) -> "QuadraticsByMode":
        """Return the same function with more coordinates at the end, on which it does not depend."""
        return replace(self, each=self.each.lifted(more))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, QuadraticsByMode) and other.is_single:
            return replace(self, each=self.each + picked(other.each, self.modes))
        return Pointwise(self) + other

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, QuadraticsByMode) and other.is_single:
            return self + other * -1.0
        return Pointwise(self) - other

    def __mul__(self, factor: float | Tensor) -> Any:
        return replace(self, each=self.each * factor) if self.is_single else Pointwise(self) * factor

    __rmul__ = __mul__

    def scores(self, y: Float[Tensor, "*N d1"]) -> Float[Tensor, "*N C"]:
        """Return f_c(x) of the components of the mode of each row, -inf for those of other modes."""
        f, i, x = self.each, y[..., 0].round().long(), y[..., 1:]
        squares = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        values = 0.5 * squares @ f.M.flatten(-2).mT + x @ f.b.mT + f.c
        return torch.where(self.modes == i.unsqueeze(-1), values, -torch.inf)

    def __call__(self, y: Float[Tensor, "*N d1"]) -> Float[Tensor, "*N"]:
        """Return the value at rows."""
        scores = self.scores(y)
        return scores.amax(-1) if self.eta is None else self.eta * torch.logsumexp(scores / self.eta, -1)

    def log_weights(self, y: Float[Tensor, "*N d1"]) -> Float[Tensor, "*N C"]:
        """Return the normalised log-weight of each component at rows; 0 and -inf under a maximum."""
        scores = self.scores(y)
        if self.eta is not None:
            return torch.log_softmax(scores / self.eta, -1)
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, best, 0.0)


@dataclass(frozen=True)
class ConditionalsByMode:
    """A distribution of u given the mode and x: a mixture of affine Gaussians.

    Attributes:
        weights: the functions f_c whose ``log_weights`` at (i, x) are those of the mixture.
        each: p(u|x) of each component, ``[C]``.
    """

    weights: QuadraticsByMode
    each: ConditionalGaussian

    @property
    def is_affine(self) -> bool:
        """Whether each mode has one component, in order."""
        return self.weights.is_single

    def log_density(self, y: Float[Tensor, "*N d1"]) -> Float[Tensor, "*N"]:
        """Return log p(u|i, x) at rows y = (i, x, u), nats."""
        seen, each = y[..., : 1 + self.each.gain.shape[-1]], replace(self.weights, each=self.each.log_density())
        return torch.logsumexp(self.weights.log_weights(seen) + each.scores(y), -1)


@dataclass(frozen=True)
class GaussiansByMode:
    """A measure over modes and real coordinates: Gaussians, each of one mode.

    Where several Gaussians of a mode were merged into one, it has their mass, mean and covariance, so expectations of
    quadratics are exact.

    Attributes:
        modes: of each component, ``[C]``.
        each: the Gaussians, ``[C]``, with their masses.
        count: I.
        follows: the component of the value that each belongs to, ``[C]``: a sequence of future modes.
    """

    modes: Int[Tensor, " C"]
    each: Gaussian
    count: int
    follows: Int[Tensor, " C"] | None = None

    @property
    def mode_mass(self) -> Float[Tensor, " I"]:
        """The probability of each mode, alive."""
        mass = self.each.mass
        return mass.new_zeros(self.count).index_add(0, self.modes, mass)

    @property
    def merged(self) -> "GaussiansByMode":
        """The moments of each mode, exactly: one component a mode."""
        each = _moments(self.each, self.modes, self.count)
        return GaussiansByMode(torch.arange(self.count, device=self.modes.device), each, self.count)

    @property
    def moments(self) -> Gaussian:
        """Mass, mean and covariance of the real coordinates, all modes together."""
        return _moments(self.each, torch.zeros_like(self.modes), 1)[0]

    def of(self, coordinates: list[int]) -> "GaussiansByMode":
        """Return the marginal of some real coordinates."""
        return replace(self, each=self.each.of(coordinates))

    def expect(self, f: QuadraticsByMode) -> Tensor:
        """Return ``Σ mass E f`` of a function with one component a mode."""
        return self.each.expect(picked(f.each, self.modes)).sum()


def _moments(each: Gaussian, group: Tensor, count: int) -> Gaussian:
    """Return mass, mean and covariance of the mixture of each group, ``[count]``."""

    def summed(x: Tensor) -> Tensor:
        return x.new_zeros(count, *x.shape[1:]).index_add(0, group, x)

    mass = summed(each.mass)
    share = each.mass / torch.where(mass == 0, 1.0, mass)[group]
    mean = summed(share[:, None] * each.mean)
    away = each.mean - mean[group]
    spread = each.covariance + away.unsqueeze(-1) * away.unsqueeze(-2)
    return Gaussian(mean, symmetric(summed(share[:, None, None] * spread)), mass)
