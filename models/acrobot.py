"""Gymnasium's Acrobot-v1: two links hang from a bar, driven at the joint between them; swing the free end up.

Every step costs 1 until the free end is a link's length above the bar. It teaches what a sparse reward does to
learning: under the prior almost all trajectories have the same return of -500, so a learner gets information only from
a rare success.

Size: states of 4 real numbers, 3 actions.
Sources: Sutton (1996), Generalization in reinforcement learning: successful examples using sparse coarse coding,
Advances in Neural Information Processing Systems 8; Sutton & Barto (2018), Reinforcement Learning, whose equations
Gymnasium takes; https://gymnasium.farama.org/environments/classic_control/acrobot/
"""

import math

import pyro
import torch
from pyro.distributions import Categorical, Delta, Uniform
from torch import Tensor

GRAVITY = 9.8  # m/s²; each link has 1 m, 1 kg, its centre of mass in its middle and a moment of inertia of 1 kg m²
MAX_SPEEDS = (4 * math.pi, 9 * math.pi)  # rad/s
TICK = 0.2  # s


class Acrobot:
    """``state`` = the first link's angle (0 hangs down), the second's relative to it, and their angular velocities.

    ``torque`` = 0, 1 or 2 is -1, 0 or 1 Nm on the joint between the links.

    Args:
        horizon: T; Gymnasium's own time limit is 500.
        discount: the probability γ of surviving a step.
    """

    stationary = True

    def __init__(self, horizon: int | None = 500, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start almost at rest, hanging almost straight down."""
        near = torch.full((4,), 0.1)
        return pyro.sample("state", Uniform(-near, near).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Apply one of the three torques with equal probability."""
        return pyro.sample("torque", Categorical(state.new_ones(3).expand(*state.shape[:-1], 3)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow the equations of motion for one tick; a raised end stays up and costs nothing."""
        moved = runge_kutta(state, action.to(state.dtype) - 1)
        first, second, first_speed, second_speed = moved.unbind(-1)
        speeds = [x.clamp(-m, m) for x, m in zip((first_speed, second_speed), MAX_SPEEDS, strict=True)]
        moved = torch.stack((wrap(first), wrap(second), *speeds), -1)
        following = torch.where(self.terminated(state).unsqueeze(-1), state, moved)
        reward = self.terminated(following).to(state.dtype) - 1  # the step that gets there is free as well
        return pyro.sample("state", Delta(following, event_dim=1)), reward

    def terminated(self, state: Tensor) -> Tensor:
        """Return whether the free end is more than 1 m above the bar. ``[*, 4] -> [*]``."""
        first, second = state[..., 0], state[..., 1]
        return -first.cos() - (first + second).cos() > 1

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: cosine and sine of both angles, and both velocities. ``[*, 4] -> [*, 6]``."""
        first, second, first_speed, second_speed = state.unbind(-1)
        return torch.stack((first.cos(), first.sin(), second.cos(), second.sin(), first_speed, second_speed), -1)


def runge_kutta(state: Tensor, torque: Tensor) -> Tensor:
    """Integrate the equations of motion over one tick, by one step of the classic method of order four."""
    k1 = rates(state, torque)
    k2 = rates(state + TICK / 2 * k1, torque)
    k3 = rates(state + TICK / 2 * k2, torque)
    k4 = rates(state + TICK * k3, torque)
    return state + TICK / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def rates(state: Tensor, torque: Tensor) -> Tensor:
    """Return the derivative of the state in time: the book's equations for links of 1 m and 1 kg."""
    first, second, first_speed, second_speed = state.unbind(-1)
    sin, cos = second.sin(), second.cos()
    d1, d2 = 3.5 + cos, 1.25 + 0.5 * cos
    phi2 = 0.5 * GRAVITY * (first + second).sin()
    phi1 = phi2 + 1.5 * GRAVITY * first.sin() - (0.5 * second_speed + first_speed) * second_speed * sin
    ratio = d2 / d1
    second_rate = (torque + ratio * phi1 - 0.5 * first_speed.square() * sin - phi2) / (1.25 - ratio * d2)
    first_rate = -(d2 * second_rate + phi1) / d1
    # Torques may have more batch dimensions than states, where actions are enumerated.
    return torch.stack(torch.broadcast_tensors(first_speed, second_speed, first_rate, second_rate), -1)


def wrap(angle: Tensor) -> Tensor:
    """Return the same direction within -π … π; an angle within these bounds is returned unchanged."""
    return angle - 2 * math.pi * (angle / (2 * math.pi)).round()
