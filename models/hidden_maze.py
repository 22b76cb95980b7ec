"""A maze in which the agent sees the walls beside it, but not its own position.

The 3 x 4 maze of Parr & Russell: a move goes ahead with probability 0.8 and to either side with 0.1. The agent senses
whether there is a wall to the left and to the right, and the two exits. Nine cells give only three different
observations, so the agent must infer its position from its moves. It teaches that a belief is a memory, and how much
full sight would be worth.

Size: 12 states, 4 actions, 3 outcomes.
Source: after Parr & Russell (1995), Approximating optimal policies for partially observable stochastic domains, IJCAI:
its walls, slips, sensor and rewards. Here the start is any free cell, and after an exit there are no more rewards.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

MAZE = ("...G", ".#.P", "....")
"""``.`` a free cell, ``#`` a wall, ``G`` the good exit, ``P`` the bad one."""


class HiddenMaze:
    """``cell`` counts row by row; ``move`` is left, down, right, up; ``slip`` is ahead, its left, its right.

    ``sight`` is what is seen: 0 no wall beside, 1 one on the left, 2 on the right, 3 on both, 4 good exit, 5 bad exit.

    Args:
        maze: rows of cells, see ``MAZE``.
        slip: the chance that a move goes astray, half of it to either side.
        step_reward: the reward of a step that enters no exit.
        exit_rewards: the rewards of entering the good exit and the bad one.
        horizon: T, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        maze: tuple[str, ...] = MAZE,
        slip: float = 0.2,
        step_reward: float = -0.04,
        exit_rewards: tuple[float, float] = (1.0, -1.0),
        horizon: int | None = 6,
        discount: float = 1.0,
    ) -> None:
        cells = "".join(maze)
        if len({len(row) for row in maze}) != 1 or set(cells) - set(".#GP") or "." not in cells:
            expected = "rows of one length, of the marks . # G P, with a free cell"
            raise cai.fault("HiddenMaze, maze", f"{maze}", expected)
        if not 0 <= slip <= 1:
            raise cai.fault("HiddenMaze, slip", f"{slip}", "a probability")
        self.rows, self.columns, self.n_cells = len(maze), len(maze[0]), len(cells)
        self.slip, self.step_reward, self.horizon, self.discount = slip, step_reward, horizon, discount
        marks = torch.tensor([".#GP".index(mark) for mark in cells])
        self.wall, self.exit = marks == 1, marks >= 2
        self.start = (marks == 0).double()
        self.entry = torch.tensor([step_reward, 0.0, *exit_rewards], dtype=torch.float64)[marks]
        self.sight = torch.where(self.exit, marks + 2, self._beside(-1) + 2 * self._beside(1))
        self.layout = self._map(cells)
        walls = ["no wall", "wall left", "wall right", "walls on both sides"]
        self.labels = {"move": ["left", "down", "right", "up"], "sight": [*walls, "good exit", "bad exit"]}

    def initial(self) -> Tensor:
        """Start on any free cell."""
        return pyro.sample("cell", Categorical(self.start))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Move in any direction with equal probability."""
        return pyro.sample("move", Categorical(torch.ones(4).expand(*state.shape, 4)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Slip, then move unless a wall stands in the way; after an exit the agent stays out."""
        chance = torch.tensor([1 - self.slip, self.slip / 2, self.slip / 2])
        slip = pyro.sample("slip", Categorical(logits=chance.log()))
        # Left of left is down, of down right, of right up: one on in the order of the moves; to the right, one back.
        heading = (action + slip + slip // 2) % 4
        down, right = torch.tensor([0, 1, 0, -1])[heading], torch.tensor([-1, 0, 1, 0])[heading]
        row = (state // self.columns + down).clamp(0, self.rows - 1)
        column = (state % self.columns + right).clamp(0, self.columns - 1)
        ahead = row * self.columns + column
        stuck = self.wall[ahead] | self.exit[state]
        cell = pyro.sample("cell", cai.Point(torch.where(stuck, state, ahead), self.n_cells))
        gain = self.entry[cell].to(torch.get_default_dtype())
        return cell, torch.where(self.exit[state], 0.0, gain)

    def observe(self, state: Tensor) -> Tensor:
        """See the walls on the left and on the right, and the exits."""
        return pyro.sample("sight", cai.Point(self.sight[state], 6))

    def _beside(self, right: int) -> Tensor:
        """Tell, as 0 or 1, which cells have a wall or the border on one side."""
        column = torch.arange(self.n_cells) % self.columns + right
        outside = (column < 0) | (column >= self.columns)
        return (outside | self.wall[(torch.arange(self.n_cells) + right) % self.n_cells]).long()

    def _map(self, cells: str) -> cai.Layout:
        marks = {cell: mark for cell, mark in enumerate(cells) if mark != "."}
        places = torch.where(self.wall, -1, torch.arange(self.n_cells))
        moves = ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0))
        return cai.Layout(places, (self.rows, self.columns), moves, marks)
