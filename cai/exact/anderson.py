"""Anderson's acceleration: the fixed point of a map in fewer steps. A few plain ones, then a mix of them, and again.

    x ← Σ w_i F(x_i),    w minimises |Σ w_i (F(x_i) - x_i)|  with  Σ w_i = 1

Anderson (1965); Walker & Ni (2011), SIAM J. Numer. Anal. 49(4); plain steps between the mixed ones as in Pratapa,
Suryanarayana & Pask (2016), J. Comput. Phys. 306.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EVERY = 4
"""Plain steps between two mixed ones."""
PATIENCE = 5
"""After so many rounds without gain their plain steps are doubled."""
WINDOW = 5
"""So many differences of neighbouring steps are mixed."""
ROOM = 2.0
"""A mixed step may come out so many times worse than the best so far; beyond, the plain step is taken."""


@dataclass(frozen=True)
class Point:
    """``x``, ``F(x)``, and the size of the largest entry of their difference."""

    x: Tensor
    fx: Tensor
    size: float

    @property
    def move(self) -> Tensor:
        """F(x) - x, flat."""
        return gap(self.fx, self.x).reshape(-1)


class Anderson:
    """The search for ``x = F(x)``; ``best`` is the point that F moves least.

    A mixed step that makes things much worse is replaced by a plain one, and as rounds gain nothing they get ever more
    plain steps: where those alone converge, so does the search. While entries turn to -inf all are plain.
    """

    def __init__(self, F: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.F = F
        self.points: list[Point] = []
        self.plain, self.idle, self.reached = 0, 0, float("inf")
        self.best = self.last = self._at(x)
        self._note()

    def advance(self) -> None:
        """Take one step: one evaluation of F, two where the mixed step is refused."""
        before = self.last
        if self.plain < EVERY << self.idle // PATIENCE or len(self.points) < 2:
            self.last = self._at(before.fx)
            self.plain += 1
        else:
            self.last = self._at(_mixed(self.points))
            self.plain = 0
            self.idle = 0 if self.best.size < self.reached else self.idle + 1
            self.reached = self.best.size
            if not self.last.size <= ROOM * self.best.size:
                self.last, self.points = self._at(before.fx), [before]
        self._note()

    def _at(self, x: Tensor) -> Point:
        fx = self.F(x)
        return Point(x, fx, float(gap(fx, x).abs().max()))

    def _note(self) -> None:
        self.points = [*self.points[-WINDOW:], self.last] if self.last.size < torch.inf else []
        if not self.best.size <= self.last.size:
            self.best = self.last


def _mixed(points: list[Point]) -> Tensor:
    """Return ``Σ w_i F(x_i)``, by least squares over the differences of neighbours."""
    moves = torch.stack([point.move for point in points])
    turns = moves.diff(dim=0)
    scale = turns.norm(dim=1, keepdim=True).clamp(min=torch.finfo(turns.dtype).tiny)
    turns = turns / scale
    slack = 8 * torch.finfo(turns.dtype).eps * torch.eye(len(turns), dtype=turns.dtype, device=turns.device)
    shares = torch.linalg.solve(turns @ turns.T + slack, turns @ moves[-1]) / scale.squeeze(-1)
    x = points[-1].fx
    for share, before, after in zip(shares, points, points[1:], strict=False):
        x = x - share * gap(after.fx, before.fx)
    return x


def gap(after: Tensor, before: Tensor) -> Tensor:
    """Return ``after - before``, 0 where they are equal, both -inf among it."""
    return torch.where(after == before, 0.0, after - before)
