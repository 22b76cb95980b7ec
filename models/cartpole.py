"""Gymnasium's CartPole-v1: keep a pole upright by pushing the cart that it stands on.

The state is a vector of real numbers, so there is no table: ``cai.solve`` refuses this world, and its policies are
learned from roll-outs. It teaches survival: a step with the pole up pays 1, so the return is the number of steps before
it falls: about 22 under the prior, and the whole horizon under a good policy. The physics is deterministic; only the
start is random.

Size: states of 4 real numbers, 2 actions.
Sources: Barto, Sutton & Anderson (1983), Neuronlike adaptive elements that can solve difficult learning control
problems, IEEE Transactions on Systems, Man, and Cybernetics 13(5);
https://gymnasium.farama.org/environments/classic_control/cart_pole/
"""

import math

import pyro
import torch
from pyro.distributions import Categorical, Delta, Uniform
from torch import Tensor

GRAVITY = 9.8  # m/s²
POLE, MASS = 0.1, 1.1  # kg: the pole, and the pole with its cart
LENGTH = 0.5  # m, half of the pole
MOMENT = POLE * LENGTH
FORCE, TICK = 10.0, 0.02  # N, s
EDGE, TILT = 2.4, math.radians(12)  # m, rad: beyond either the episode is over


class CartPole:
    """``state`` = position, velocity, angle (0 is upright), angular velocity; ``push`` = 0 left or 1 right.

    Args:
        horizon: T; Gymnasium's own time limit is 500.
        discount: the probability γ of surviving a step.
    """

    stationary = True

    def __init__(self, horizon: int | None = 500, discount: float = 1.0) -> None:
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start almost at rest, almost upright."""
        near = torch.full((4,), 0.05)
        return pyro.sample("state", Uniform(-near, near).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Push left or right with equal probability."""
        return pyro.sample("push", Categorical(state.new_ones(2).expand(*state.shape[:-1], 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow the equations of motion for one tick of Euler's method; a fallen pole stays as it is."""
        _, velocity, angle, spin = state.unbind(-1)
        sin, cos = angle.sin(), angle.cos()
        force = (2 * action.to(state.dtype) - 1) * FORCE
        drive = (force + MOMENT * spin.square() * sin) / MASS
        spin_rate = (GRAVITY * sin - cos * drive) / (LENGTH * (4 / 3 - POLE * cos.square() / MASS))
        velocity_rate = drive - MOMENT * spin_rate * cos / MASS
        # Actions may have more batch dimensions than states, where they are enumerated.
        rates = torch.stack(torch.broadcast_tensors(velocity, velocity_rate, spin, spin_rate), -1)
        fallen = self.terminated(state)
        following = torch.where(fallen.unsqueeze(-1), state, state + TICK * rates)
        return pyro.sample("state", Delta(following, event_dim=1)), (~fallen).to(state.dtype)

    def terminated(self, state: Tensor) -> Tensor:
        """Return whether the cart has left the track or the pole leans more than 12 degrees. ``[*, 4] -> [*]``."""
        return (state[..., 0].abs() > EDGE) | (state[..., 2].abs() > TILT)

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: the state itself. ``[*, 4] -> [*, 4]``."""
        return state
