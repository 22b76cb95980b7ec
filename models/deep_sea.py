"""Deep Sea: dive N rows, one step right in each, to find the one treasure among 2^N dives.

The state has two named variables. The action that means "right" is random for each cell, so a learner cannot
generalise. Right costs a little, left is free. It teaches deep exploration: random actions need about 2^N dives to find
the treasure, a backward message finds it at once. The world is deterministic, so POSTERIOR and VARIATIONAL agree; with
``windy`` they differ.

Size: 100 states of 2 variables, 2 actions, 1 outcome.
Sources: Osband, Van Roy, Russo & Wen (2019), Deep exploration via randomized value functions; bsuite,
https://github.com/google-deepmind/bsuite/blob/main/bsuite/environments/deep_sea.py (without its reward noise).
"""

import numpy as np
import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class DeepSea:
    """The state is ``row`` and ``column``; ``thrust`` = 0 or 1 goes right where it equals the cell's own sign.

    Args:
        size: N rows, N columns and N steps.
        seed: of the action mapping, drawn as in bsuite; None makes action 1 go right everywhere.
        move_cost: the cost of going right all the way down.
        treasure: the reward for going right in the bottom right cell.
        windy: whether right fails with probability 1/N.
    """

    def __init__(
        self,
        size: int = 10,
        seed: int | None = 0,
        move_cost: float = 0.01,
        treasure: float = 1.0,
        windy: bool = False,
    ) -> None:
        if size < 2:
            raise cai.fault("DeepSea, size", f"{size}", "2 rows or more")
        self.size, self.horizon = size, size
        self.move_cost, self.treasure, self.windy = move_cost, treasure, windy
        signs = np.ones((size, size)) if seed is None else np.random.RandomState(seed).binomial(1, 0.5, [size, size])
        self.right = torch.as_tensor(signs).long()
        moves = ((-1.0, 1.0), (1.0, 1.0)) if seed is None else (None, None)
        self.layout = cai.Layout(torch.arange(size**2), (size, size), moves, {0: "S", size**2 - 1: "G"})

    def initial(self) -> dict[str, Tensor]:
        """Start at the top left."""
        return {name: pyro.sample(name, cai.Point(torch.tensor(0), self.size)) for name in ("row", "column")}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Push left or right with equal probability."""
        shape = torch.broadcast_shapes(state["row"].shape, state["column"].shape)
        return pyro.sample("thrust", Categorical(torch.ones(2).expand(*shape, 2)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Sink a row; the dive ends in the last row."""
        row, column = state["row"], state["column"]
        last, right = self.size - 1, action == self.right[row, column]
        moved = torch.where(right, 1, -1)
        if self.windy:
            gust = pyro.sample("gust", Categorical(torch.tensor([1 - 1 / self.size, 1 / self.size])))
            moved = torch.where(right & (gust == 1), 0, moved)
        below = {
            "row": pyro.sample("row", cai.Point((row + 1).clamp(max=last), self.size)),
            "column": pyro.sample("column", cai.Point((column + moved).clamp(0, last), self.size)),
        }
        found = torch.where((row == last) & (column == last), self.treasure, 0.0)
        return below, torch.where(right, found - self.move_cost / self.size, 0.0)
