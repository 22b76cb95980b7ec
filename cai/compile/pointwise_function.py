"""A function of states and actions that can only be evaluated at points, such as the log of a sum of Gaussians."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pointwise:
    """Any function of rows, ``[*, N, d]`` to ``[*, N]``; it adds, subtracts and scales."""

    at: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the values at rows."""
        return self.at(x)

    def __add__(self, other: Callable[[Tensor], Tensor]) -> "Pointwise":
        return Pointwise(lambda x: self(x) + other(x))

    def __sub__(self, other: Callable[[Tensor], Tensor]) -> "Pointwise":
        return Pointwise(lambda x: self(x) - other(x))

    def __mul__(self, factor: float | Tensor) -> "Pointwise":
        return Pointwise(lambda x: factor * self(x))

    __rmul__ = __mul__
