"""A road of cells with traffic lights: keep the cars moving, and the queues in the side streets short.

A car moves on where the next cell is free, unless its light is red (rule 184, the simplest cell transmission). A light
that is red for the road is green for a side street, where one car of the queue crosses. The action is one light for
each crossing. So state and action are both factored, and each variable depends on its neighbours only.

Size: 48 states of 5 variables, 2 actions, 4 outcomes.
Source: after Daganzo (1994), The cell transmission model, Transportation Research B 28, with whole cars; and the
``Traffic`` domain of the International Probabilistic Planning Competition 2011, which is made of the same.
"""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Traffic:
    """``car_i`` = 1 where cell i has one; ``queue_j`` = how many wait in the side street of crossing j.

    ``light_j`` = 0 green for the road, 1 green for the side street; ``enters`` = 1 where a car wants onto the road,
    ``comes_j`` = 1 where one joins queue j.

    Args:
        n: how many cells the road has.
        crossings: the cells at whose end a light stands.
        places: how many cars fit into a queue; more go elsewhere.
        arrival: the chance of a new car, at the road's begin and in each queue.
        ring: whether the last cell leads to the first; then no car enters, and every other cell has one at the start.
        waiting: the cost of each queued car, a step; a car that moves on earns 1.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        n: int = 4,
        crossings: Sequence[int] = (1,),
        places: int = 2,
        arrival: float = 0.3,
        ring: bool = False,
        waiting: float = 1.0,
        horizon: int | None = 40,
        discount: float = 1.0,
    ) -> None:
        if n < 3:
            raise cai.fault("Traffic, n", f"{n}", "3 cells or more")
        if not crossings or len(set(crossings)) < len(crossings) or not set(crossings) <= set(range(n)):
            expected = f"cells 0 … {n - 1}, each once, and one at least"
            raise cai.fault("Traffic, crossings", f"{crossings}", expected)
        if places < 1:
            raise cai.fault("Traffic, places", f"{places}", "1 place or more")
        if not 0 <= arrival <= 1:
            raise cai.fault("Traffic, arrival", f"{arrival}", "a probability")
        self.n, self.light = n, {cell: f"light_{j}" for j, cell in enumerate(crossings)}
        self.places, self.arrival, self.ring, self.waiting = places, arrival, ring, waiting
        self.horizon, self.discount = horizon, discount
        self.labels = {name: ["road", "side street"] for name in self.light.values()}  # for whom it is green
        self.labels |= {f"car_{i}": ["free", "taken"] for i in range(n)}

    def initial(self) -> dict[str, Tensor]:
        """An empty road, or a ring that is half full; nobody waits."""
        full = [i % 2 if self.ring else 0 for i in range(self.n)]
        cars = {f"car_{i}": pyro.sample(f"car_{i}", cai.Point(torch.tensor(full[i]), 2)) for i in range(self.n)}
        queues = [f"queue_{j}" for j in range(len(self.light))]
        return cars | {name: pyro.sample(name, cai.Point(torch.tensor(0), self.places + 1)) for name in queues}

    def act(self, state: dict[str, Tensor], t: int) -> dict[str, Tensor]:
        """Set each light with equal probability."""
        even = torch.ones(2).expand(*state["car_0"].shape, 2)
        return {name: pyro.sample(name, Categorical(even)) for name in self.light.values()}

    def step(self, state: dict[str, Tensor], action: dict[str, Tensor], t: int) -> tuple[dict[str, Tensor], Tensor]:
        """All cars move at once, given the state before the step; then new ones come."""
        moves, following = [self._moves(state, action, i) for i in range(self.n)], {}
        arrives = torch.tensor([1 - self.arrival, self.arrival]).log()
        if self.ring:
            entered = moves[-1]
        else:
            enters = pyro.sample("enters", Categorical(logits=arrives))
            entered = (enters == 1) & (state["car_0"] == 0)
        for i in range(self.n):
            stays = (state[f"car_{i}"] == 1) & ~moves[i]
            car = torch.where(stays | (moves[i - 1] if i > 0 else entered), 1, 0)
            following[f"car_{i}"] = pyro.sample(f"car_{i}", cai.Point(car, 2))
        for j, light in enumerate(self.light.values()):
            comes = pyro.sample(f"comes_{j}", Categorical(logits=arrives))
            left = (state[f"queue_{j}"] - action[light]).clamp(min=0)
            queue = (left + comes).clamp(max=self.places)
            following[f"queue_{j}"] = pyro.sample(f"queue_{j}", cai.Point(queue, self.places + 1))
        # A term for each cell, over two cells and a light, and one for each queue: added up they stay apart.
        flow = sum(torch.where(move, 1.0, 0.0) for move in moves)
        return following, flow - sum(self.waiting * state[f"queue_{j}"] for j in range(len(self.light)))

    def _moves(self, state: dict[str, Tensor], action: dict[str, Tensor], i: int) -> Tensor:
        """Return where the car of cell i moves on: the next cell is free, and a light at its end is green."""
        moves = state[f"car_{i}"] == 1
        if self.ring or i < self.n - 1:
            moves = moves & (state[f"car_{(i + 1) % self.n}"] == 0)
        return moves & (action[self.light[i]] == 0) if i in self.light else moves
