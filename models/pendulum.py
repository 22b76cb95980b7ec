"""Gymnasium's Pendulum-v1: swing a pendulum up and hold it there, with a motor too weak to lift it at once.

State and action are real numbers and the physics is smooth, so that a reward can be differentiated all the way back to
the torques that earned it. It teaches that a good policy first goes the wrong way: it swings back and forth until
there is speed enough. The episode never ends early; upright and still costs nothing, hanging still π² a step.

Size: states of 2 real numbers, actions of 1 real number.
Source: https://gymnasium.farama.org/environments/classic_control/pendulum/ (Gymnasium cites no paper).
"""

import math

import pyro
import torch
from pyro.distributions import Delta, Uniform
from torch import Tensor

GRAVITY, MASS, LENGTH = 10.0, 1.0, 1.0  # m/s², kg, m
PULL = 3 * GRAVITY / (2 * LENGTH)  # rad/s² of a horizontal rod
LEVER = 3 / (MASS * LENGTH**2)  # rad/s² for each Nm
MAX_TORQUE, MAX_SPEED, TICK = 2.0, 8.0, 0.05  # Nm, rad/s, s


class Pendulum:
    """``state`` = angle (0 is upright; it counts whole turns) and angular velocity; ``torque`` between -2 and 2 Nm.

    Args:
        horizon: T; Gymnasium's own time limit is 200.
        discount: the probability γ of surviving a step.
    """

    stationary = True
    periodic = ("state[0]",)  # a grid of states goes round
    bounds = {"state[1]": (-MAX_SPEED, MAX_SPEED)}  # noqa: RUF012

    def __init__(self, horizon: int | None = 200, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start at any angle, turning at up to 1 rad/s."""
        far = torch.tensor([math.pi, 1.0])
        return pyro.sample("state", Uniform(-far, far).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Apply any torque that the motor can give."""
        most = state.new_full(state.shape[:-1], MAX_TORQUE)
        return pyro.sample("torque", Uniform(-most, most))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow the equation of motion for one tick; angle, velocity and torque have a cost."""
        angle, speed = state.unbind(-1)
        torque = action.clamp(-MAX_TORQUE, MAX_TORQUE)
        off = (angle + math.pi).remainder(2 * math.pi) - math.pi
        cost = off.square() + 0.1 * speed.square() + 0.001 * torque.square()
        faster = (speed + (PULL * angle.sin() + LEVER * torque) * TICK).clamp(-MAX_SPEED, MAX_SPEED)
        following = torch.stack((angle + faster * TICK, faster), -1)
        return pyro.sample("state", Delta(following, event_dim=1)), -cost

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: cosine and sine of the angle, and the angular velocity. ``[*, 2] -> [*, 3]``."""
        angle, speed = state.unbind(-1)
        return torch.stack((angle.cos(), angle.sin(), speed), -1)

    def state_of(self, observation: Tensor) -> Tensor:
        """Return the state that Gymnasium shows as ``features``, its angle within a turn. ``[*, 3] -> [*, 2]``."""
        cos, sin, speed = observation.unbind(-1)
        return torch.stack((torch.atan2(sin, cos), speed), -1)
