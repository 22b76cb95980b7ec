"""A grid of any size with walls, goals and slippery floor: a good first world, and one to copy.

A move goes ahead, or with probability ``slip`` to its left or to its right; walls and the border stop it. The next
cell is computed, not looked up, so a million cells tabulate in seconds. With ``rows=3, columns=4, walls=[(1, 1)],
goals=[(0, 3, 1), (1, 3, -1)], slip=0.2, step_reward=-0.04`` it is the 4×3 world of Russell & Norvig.

Size: 25 states, 5 actions, 3 outcomes.
Source: after Russell & Norvig (2010), Artificial Intelligence: A Modern Approach, section 17.1.
"""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Grid:
    """``cell`` counts row by row; ``move`` is left, down, right, up, stay; ``slip`` is ahead, its left, its right.

    A goal pays on entry and is then absorbing, without any further reward; its entry costs the step's reward, too.

    Args:
        rows, columns: the size of the grid.
        walls: the (row, column) of cells that cannot be entered.
        goals: (row, column, reward) of each goal; the bottom right for a reward of 1 unless given.
        start: the (row, column) of s_0.
        slip: the chance that a move goes astray, half of it to either side; staying never slips.
        step_reward: the reward of each step until a goal is entered.
        horizon: T, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        rows: int = 5,
        columns: int = 5,
        walls: Sequence[tuple[int, int]] = (),
        goals: Sequence[tuple[int, int, float]] | None = None,
        start: tuple[int, int] = (0, 0),
        slip: float = 0.2,
        step_reward: float = 0.0,
        horizon: int | None = 100,
        discount: float = 1.0,
    ) -> None:
        if rows < 1 or columns < 1 or rows * columns < 2:
            raise cai.fault("Grid, rows and columns", f"{rows} x {columns}", "2 cells or more")
        if not 0 <= slip <= 1:
            raise cai.fault("Grid, slip", f"{slip}", "a probability")
        goals = [(rows - 1, columns - 1, 1.0)] if goals is None else goals
        self.rows, self.columns, self.n_cells = rows, columns, rows * columns
        self.slip, self.step_reward = slip, step_reward
        self.horizon, self.discount = horizon, discount
        self.start = self._cell("start", *start)
        self.wall = torch.zeros(self.n_cells, dtype=torch.bool)
        self.goal = torch.zeros(self.n_cells, dtype=torch.bool)
        self.entry = torch.zeros(self.n_cells, dtype=torch.float64)
        for wall in walls:
            self.wall[self._cell("walls", *wall)] = True
        for row, column, reward in goals:
            self.goal[self._cell("goals", row, column)] = True
            self.entry[self._cell("goals", row, column)] = reward
        if self.wall[self.start] or (self.wall & self.goal).any():
            expected = "start and goals on free cells"
            raise cai.fault("Grid, walls", "a wall on the start or a goal", expected)
        self.layout = self._map()
        self.labels = {
            "move": ["left", "down", "right", "up", "stay"],
            "slip": ["ahead", "to its left", "to its right"],
        }

    def initial(self) -> Tensor:
        """Start in the one start cell."""
        return pyro.sample("cell", cai.Point(torch.tensor(self.start), self.n_cells))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Move in any direction or stay, with equal probability."""
        return pyro.sample("move", Categorical(torch.ones(5).expand(*state.shape, 5)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Slip, then move unless something stands in the way."""
        chance = torch.tensor([1 - self.slip, self.slip / 2, self.slip / 2])
        slip = pyro.sample("slip", Categorical(logits=chance.log()))
        # Left of left is down, of down right, of right up: one on in the order of the moves; to the right, one back.
        heading = torch.where(action < 4, (action + slip + slip // 2) % 4, 4)
        down = torch.tensor([0, 1, 0, -1, 0])[heading]
        right = torch.tensor([-1, 0, 1, 0, 0])[heading]
        row = (state // self.columns + down).clamp(0, self.rows - 1)
        column = (state % self.columns + right).clamp(0, self.columns - 1)
        ahead = row * self.columns + column
        stuck = self.wall[ahead] | self.goal[state]
        cell = pyro.sample("cell", cai.Point(torch.where(stuck, state, ahead), self.n_cells))
        gain = self.step_reward + self.entry[cell].to(torch.get_default_dtype())
        return cell, torch.where(self.goal[state], 0.0, gain)

    def _cell(self, where: str, row: int, column: int) -> int:
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            expected = f"a cell of the {self.rows} x {self.columns} grid"
            raise cai.fault(f"Grid, {where}", f"({row}, {column})", expected)
        return row * self.columns + column

    def _map(self) -> cai.Layout:
        marks = {int(cell): "#" for cell in self.wall.nonzero()}
        marks |= {int(cell): "G" for cell in self.goal.nonzero()}
        marks[self.start] = "S"
        cells = torch.where(self.wall, -1, torch.arange(self.n_cells))
        moves = ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0), None)
        return cai.Layout(cells, (self.rows, self.columns), moves, marks)
