"""Gymnasium's MountainCarContinuous-v0: the car in the valley, pushed by any force, with a prize at the flag.

The flag pays 100, once; a force f costs 0.1 f² a step. The valley itself pays nothing, so that the cheapest plan that
does not see the flag is to do nothing: a plan must look far enough ahead, and try forces that go together over time.

Size: states of 2 real numbers, actions of 1 real number.
Sources: Moore (1990), Efficient memory-based learning for robot control, PhD thesis, University of Cambridge,
https://www.cl.cam.ac.uk/techreports/UCAM-CL-TR-209.pdf;
https://gymnasium.farama.org/environments/classic_control/mountain_car_continuous/
"""

import math

import pyro
import torch
from pyro.distributions import Delta, Uniform
from torch import Tensor

LEFT, RIGHT, GOAL = -1.2, 0.6, 0.45  # positions, where the hill's height is sin(3 · position)
MAX_SPEED, MAX_FORCE = 0.07, 1.0
POWER, GRAVITY = 0.0015, 0.0025
PRIZE, COST = 100.0, 0.1  # at the flag; of a unit force, squared


def energy(state: Tensor) -> Tensor:
    """Return mechanical energy, the same for ever without a force: 0 at rest at the bottom, 1 at the flag."""
    position, velocity = state.unbind(-1)
    lift = math.sin(3 * GOAL) + 1  # of the hill's height
    return (velocity.square() * 1.5 / GRAVITY + (3 * position).sin() + 1) / lift


class MountainCarContinuous:
    """``state`` = position and velocity; ``force`` between -1 and 1.

    Args:
        horizon: T; Gymnasium's own time limit is 999.
        discount: the probability γ of surviving a step.
        guide: what mechanical energy pays besides, all the way from the bottom to the flag; a sum of differences of a
            potential (Ng, Harada & Russell 1999), which shows a plan too short to see the flag where to go.
    """

    stationary = True

    def __init__(self, horizon: int | None = 999, discount: float = 1.0, guide: float = 0.0) -> None:
        self.horizon, self.discount, self.guide = horizon, discount, guide

    def initial(self) -> Tensor:
        """Start at rest near the bottom of the valley; only the position is random."""
        place = pyro.sample("place", Uniform(torch.tensor(-0.6), torch.tensor(-0.4)))
        return pyro.sample("state", Delta(torch.stack((place, torch.zeros_like(place)), -1), event_dim=1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Push with any force that the engine has, either way."""
        most = state.new_full(state.shape[:-1], MAX_FORCE)
        return pyro.sample("force", Uniform(-most, most))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Roll on; the wall on the left stops the car. The prize is paid on arrival; a car at the flag stays there."""
        position, velocity = state.unbind(-1)
        force = action.clamp(-MAX_FORCE, MAX_FORCE)
        velocity = (velocity + (force * POWER - GRAVITY * (3 * position).cos())).clamp(-MAX_SPEED, MAX_SPEED)
        position = (position + velocity).clamp(LEFT, RIGHT)
        velocity = torch.where(position == LEFT, velocity.clamp(min=0), velocity)
        there = self.terminated(state)
        following = torch.where(there.unsqueeze(-1), state, torch.stack((position, velocity), -1))
        reward = PRIZE * self.terminated(following).to(state.dtype) - COST * action.square()
        if self.guide:
            reward = reward + self.guide * (energy(following) - energy(state))
        return pyro.sample("state", Delta(following, event_dim=1)), torch.where(there, 0.0, reward)

    def terminated(self, state: Tensor) -> Tensor:
        """Return whether the car is at the flag, and not rolling back. ``[*, 2] -> [*]``."""
        return (state[..., 0] >= GOAL) & (state[..., 1] >= 0)

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: the state itself. ``[*, 2] -> [*, 2]``."""
        return state
