"""A grid over a box of states, with multilinear interpolation between its points (Davies 1997)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.errors import fault

NEAR = 1e-9
"""A part of a step by which a state may miss a point of the grid and still lie on it."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points of a box of d dimensions, numbered row-major.

    Attributes:
        labels: the names of the coordinates.
        low, high: the box, ``[d]``.
        points: how many points each coordinate has, both ends among them.
        periodic: which coordinates go round: there ``high`` is ``low`` again, and no point.
        finite: which coordinates are finite variables: their points are all their values.
    """

    labels: tuple[str, ...]
    low: Tensor
    high: Tensor
    points: tuple[int, ...]
    periodic: tuple[bool, ...]
    finite: tuple[bool, ...]

    @property
    def size(self) -> int:
        """S, the number of points."""
        return math.prod(self.points)

    @property
    def step(self) -> Tensor:
        """The distance h of neighbours, ``[d]``."""
        cells = [n if round_ else max(n - 1, 1) for n, round_ in zip(self.points, self.periodic, strict=True)]
        step = (self.high - self.low) / torch.tensor(cells, dtype=torch.float64)
        return torch.where(step > 0, step, 1.0)

    def states(self, low: int, high: int) -> Tensor:
        """Return the points with the numbers low … high-1, ``[high - low, d]``."""
        place = torch.stack(torch.unravel_index(torch.arange(low, high), self.points), -1)
        return self.low + place * self.step

    def corners(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the corners of the cells in which states lie, and their weights: ``Σ w v(corner)`` interpolates v.

        A state outside the box is put on its edge.

        Args:
            x: states, ``[*, d]``.

        Returns:
            the numbers and the weights of the corners, ``[*, 2^d]``; and which states lay outside, ``[*]``.
        """
        if bool(x.isnan().any()):
            name = self.labels[int(x.isnan().reshape(-1, len(self.labels)).any(0).nonzero()[0])]
            raise fault(f"grid, state '{name}'", "NaN as a next state", "a number")
        position = (x - self.low) / self.step
        whole = position.round()
        position = torch.where((position - whole).abs() < NEAR, whole, position)
        number, weight = torch.zeros(*x.shape[:-1], 1, dtype=torch.long), x.new_ones(*x.shape[:-1], 1)
        outside = torch.zeros(x.shape[:-1], dtype=torch.bool)
        for at, n, goes_round in zip(position.unbind(-1), self.points, self.periodic, strict=True):
            if goes_round:
                cell = at.floor()
                part = at - cell
                before = cell.long().remainder(n)
                after = (before + 1).remainder(n)
            else:
                outside |= (at < 0) | (at > n - 1)
                at = at.clamp(0, n - 1)
                before = at.floor().long().clamp(max=max(n - 2, 0))
                part = at - before
                after = (before + 1).clamp(max=n - 1)
            number = torch.cat((number * n + before.unsqueeze(-1), number * n + after.unsqueeze(-1)), -1)
            weight = torch.cat((weight * (1 - part).unsqueeze(-1), weight * part.unsqueeze(-1)), -1)
        return number, weight, outside

    def halved(self) -> "Lattice | None":
        """Return the same box with about twice the step; None where a coordinate has too few points for it."""
        kinds = zip(self.points, self.periodic, self.finite, strict=True)
        points = tuple(n if fixed else n // 2 if goes_round else (n + 1) // 2 for n, goes_round, fixed in kinds)
        if all(self.finite) or min(n for n, fixed in zip(points, self.finite, strict=True) if not fixed) < 3:
            return None
        return Lattice(self.labels, self.low, self.high, points, self.periodic, self.finite)
