"""A quadrotor in an upright plane: two rotors, wind, and a goal to fly to and hover at.

It can push along its own axis alone, so that to move sideways it must tilt first, and tilt back to stop. There are two
controls for three degrees of freedom. The prior draws thrusts around hovering, and the wind blows on the way, so that
luck is worth something: the posterior counts on a good wind, and the best policy does not.

Size: states of 6 real numbers, actions of 2 real numbers.
Source: the planar quadrotor of Tedrake, Underactuated Robotics, chapter 3. Here with wind, in discrete time; masses,
lengths and costs are this library's own.
"""

import pyro
import torch
from pyro.distributions import Delta, Normal, Uniform
from torch import Tensor

import cai

GRAVITY, MASS, ARM, INERTIA = 9.81, 0.5, 0.1, 0.02  # m/s², kg, m, kg m²
MAX_THRUST = MASS * GRAVITY  # N of a rotor: at half of it the two hold the weight


class Quadrotor2D:
    """``state`` = x, y (m), tilt (rad, to the left) and their velocities; ``thrust`` of the left and right rotor, N.

    Args:
        goal: where to hover, m.
        wind: the standard deviation of a gust in each direction, N; 0 for no wind.
        tick: seconds.
        horizon: T ticks.
        discount: the probability γ of surviving a tick.
    """

    stationary = True

    def __init__(
        self,
        goal: tuple[float, float] = (0.0, 0.0),
        wind: float = 0.2,
        tick: float = 0.05,
        horizon: int | None = 40,
        discount: float = 1.0,
    ) -> None:
        if len(goal) != 2:
            raise cai.fault("Quadrotor2D, goal", f"{goal}", "two numbers, x and y")
        if not wind >= 0:
            raise cai.fault("Quadrotor2D, wind", f"{wind}", "a standard deviation, at least 0")
        if not tick > 0:
            raise cai.fault("Quadrotor2D, tick", f"{tick}", "a number of seconds above 0")
        self.goal, self.wind, self.tick = goal, wind, tick
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start around one metre to the left of the goal and half a metre below it, almost level and at rest."""
        x, y = self.goal
        middle = torch.tensor([x - 1.0, y - 0.5, 0.0, 0.0, 0.0, 0.0])
        return pyro.sample("state", Normal(middle, 0.1).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Push with any thrust that a rotor can give."""
        least = state.new_zeros(*state.shape[:-1], 2)
        return pyro.sample("thrust", Uniform(least, least + MAX_THRUST).to_event(1))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow Newton's law for a tick under the wind; distance, velocity and tilt have a cost."""
        place, speed = state[..., :3], state[..., 3:]
        left, right = action.unbind(-1)
        tilt, still = state[..., 2], state.new_zeros(*state.shape[:-1], 2)
        gust = pyro.sample("gust", Normal(still, self.wind).to_event(1)) if self.wind else still
        across = (gust[..., 0] - (left + right) * tilt.sin()) / MASS
        up = (gust[..., 1] + (left + right) * tilt.cos()) / MASS - GRAVITY
        turn = (right - left) * ARM / INERTIA
        faster = speed + self.tick * torch.stack((across, up, turn), -1)
        following = torch.cat((place + self.tick * faster, faster), -1)
        return pyro.sample("state", Delta(following, event_dim=1)), -self.cost(state)

    def terminal(self, state: Tensor) -> Tensor:
        """Pay ten times for the last state: it should hover there."""
        return -10 * self.cost(state)

    def cost(self, state: Tensor) -> Tensor:
        """Return the cost of a state, reward units, ``[*, 6] -> [*]``."""
        off = state[..., :2] - state.new_tensor(self.goal)
        speed, spin = state[..., 3:5], state[..., 5]
        level = 1 - state[..., 2].cos()
        return off.square().sum(-1) + 0.1 * speed.square().sum(-1) + 0.2 * level + 0.01 * spin.square()

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: offset, cosine and sine of the tilt, velocities. ``[*, 6] -> [*, 7]``."""
        off, tilt = state[..., :2] - state.new_tensor(self.goal), state[..., 2:3]
        return torch.cat((off, tilt.cos(), tilt.sin(), state[..., 3:]), -1)
