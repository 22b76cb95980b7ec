"""A point mass crosses a field of soft obstacles to a goal, in gusts of wind: left or right of each obstacle?

An obstacle stands on the straight way, so that there are good ways on both sides of it and none through the middle: the
posterior over trajectories has a mode for each way. One Gaussian holds one of them, or their mean, which runs into the
obstacle. Weighted samples show them all. In wind it pays to choose a side late.

Size: states of 4 real numbers, actions of 2 real numbers.
Source: the choice between two ways is that of Kappen (2005), Path integrals and symmetry breaking for optimal control
theory, Journal of Statistical Mechanics P11011. The field is this library's own.
"""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Delta, Normal
from torch import Tensor

import cai

FIELD = ((0.0, 0.0, 0.7), (2.0, 1.4, 0.5), (2.0, -1.4, 0.5))
"""One obstacle on the straight way, and a gate behind it: x, y and radius of each, m."""


class ObstacleField:
    """``position`` (m) and ``velocity`` (m/s) in the plane; ``force`` in N, on a mass of 1 kg; ``gust`` in N.

    Args:
        obstacles: x, y and radius of each, m. Its cost falls as a bell, of a deviation of half a radius.
        height: the cost of a tick in the middle of an obstacle.
        goal: where to be at the end, m.
        wind: the standard deviation of a gust in each direction, N; 0 for no wind.
        push: the standard deviation of the action prior in each direction, N.
        tick: seconds.
        horizon: T ticks.
        discount: the probability γ of surviving a tick.
    """

    def __init__(
        self,
        obstacles: Sequence[tuple[float, float, float]] = FIELD,
        height: float = 10.0,
        goal: tuple[float, float] = (3.0, 0.0),
        wind: float = 0.5,
        push: float = 2.0,
        tick: float = 0.2,
        horizon: int | None = 25,
        discount: float = 1.0,
    ) -> None:
        if not obstacles or any(len(one) != 3 or not one[2] > 0 for one in obstacles):
            raise cai.fault(
                "ObstacleField, obstacles", f"{obstacles}", "x, y and a radius above 0 for each, one or more"
            )
        if len(goal) != 2:
            raise cai.fault("ObstacleField, goal", f"{goal}", "two numbers, x and y")
        if not (wind >= 0 and push > 0 and tick > 0):
            raise cai.fault(
                "ObstacleField", f"wind {wind}, push {push}, tick {tick}", "push, tick above 0, wind at least 0"
            )
        self.obstacles, self.height, self.goal = tuple(obstacles), height, goal
        self.wind, self.push, self.tick = wind, push, tick
        self.horizon, self.discount = horizon, discount

    def initial(self) -> dict[str, Tensor]:
        """Start three metres before the field's middle, almost at rest."""
        position = pyro.sample("position", Normal(torch.tensor([-3.0, 0.0]), 0.1).to_event(1))
        return {"position": position, "velocity": pyro.sample("velocity", Normal(torch.zeros(2), 0.1).to_event(1))}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Push in any direction, at random."""
        return pyro.sample("force", Normal(torch.zeros_like(state["velocity"]), self.push).to_event(1))

    def step(self, state: dict[str, Tensor], force: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Move for a tick under a constant force; obstacles and, a little, the distance to the goal have a cost."""
        position, velocity = state["position"], state["velocity"]
        still = torch.zeros_like(velocity)
        gust = pyro.sample("gust", Normal(still, self.wind).to_event(1)) if self.wind else still
        speeding = self.tick * (force + gust)
        moved = position + self.tick * (velocity + speeding / 2)
        following = {
            "position": pyro.sample("position", Delta(moved, event_dim=1)),
            "velocity": pyro.sample("velocity", Delta(velocity + speeding, event_dim=1)),
        }
        return following, -self.blocked(position) - 0.02 * self.missed(position)

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        """Pay for the distance to the goal and for the velocity at the end."""
        return -5 * self.missed(state["position"]) - state["velocity"].square().sum(-1)

    def blocked(self, position: Tensor) -> Tensor:
        """Return the cost of the obstacles at a position, reward units, ``[*, 2] -> [*]``."""
        field = position.new_tensor(self.obstacles)
        apart = (position.unsqueeze(-2) - field[:, :2]).square().sum(-1)
        return self.height * torch.exp(-apart / (2 * (field[:, 2] / 2).square())).sum(-1)

    def missed(self, position: Tensor) -> Tensor:
        """Return the squared distance to the goal, m², ``[*, 2] -> [*]``."""
        return (position - position.new_tensor(self.goal)).square().sum(-1)
