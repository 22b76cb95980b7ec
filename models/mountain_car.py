"""Gymnasium's MountainCar-v0: a car in a valley, too weak to drive straight up, must swing itself out.

Every step costs 1 until the car reaches the flag on the right hill, which the prior almost never does within the
horizon. It teaches exploration: the way out first leads away from the goal, and no reward shows it before the flag is
reached once.

Size: states of 2 real numbers, 3 actions.
Sources: Moore (1990), Efficient memory-based learning for robot control, PhD thesis, University of Cambridge,
https://www.cl.cam.ac.uk/techreports/UCAM-CL-TR-209.pdf;
https://gymnasium.farama.org/environments/classic_control/mountain_car/
"""

import pyro
import torch
from pyro.distributions import Categorical, Delta, Uniform
from torch import Tensor

LEFT, RIGHT, GOAL = -1.2, 0.6, 0.5  # positions, where the hill's height is sin(3 · position)
MAX_SPEED = 0.07
FORCE, GRAVITY = 0.001, 0.0025


class MountainCar:
    """``state`` = position and velocity; ``push`` = 0 left, 1 none or 2 right.

    Args:
        horizon: T; Gymnasium's own time limit is 200.
        discount: the probability γ of surviving a step.
    """

    stationary = True

    def __init__(self, horizon: int | None = 200, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start at rest near the bottom of the valley; only the position is random."""
        place = pyro.sample("place", Uniform(torch.tensor(-0.6), torch.tensor(-0.4)))
        return pyro.sample("state", Delta(torch.stack((place, torch.zeros_like(place)), -1), event_dim=1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Push left, not at all or right, with equal probability."""
        return pyro.sample("push", Categorical(state.new_ones(3).expand(*state.shape[:-1], 3)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Roll on; the wall on the left stops the car. A car at the flag stays there and costs nothing."""
        position, velocity = state.unbind(-1)
        push = (action.to(state.dtype) - 1) * FORCE
        velocity = (velocity + (push - (3 * position).cos() * GRAVITY)).clamp(-MAX_SPEED, MAX_SPEED)
        position = (position + velocity).clamp(LEFT, RIGHT)
        velocity = torch.where(position == LEFT, velocity.clamp(min=0), velocity)
        there = self.terminated(state)
        following = torch.where(there.unsqueeze(-1), state, torch.stack((position, velocity), -1))
        return pyro.sample("state", Delta(following, event_dim=1)), there.to(state.dtype) - 1

    def terminated(self, state: Tensor) -> Tensor:
        """Return whether the car is at the flag, and not rolling back. ``[*, 2] -> [*]``."""
        return (state[..., 0] >= GOAL) & (state[..., 1] >= 0)

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: the state itself. ``[*, 2] -> [*, 2]``."""
        return state
