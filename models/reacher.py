"""An arm of two links in a horizontal plane, with a motor at each joint: bring the hand to a target and hold it there.

The two joints drive each other: a torque at one turns both, by how much depends on the bend. Two postures reach a
target, with the elbow on one side or the other, so that the posterior over final postures can have two modes. No noise
moves the arm: the posterior's policy and the best policy are the same.

Size: states of 4 real numbers, actions of 2 real numbers.
Source: the task is that of Gymnasium's Reacher; the equation of motion that of Murray, Li & Sastry (1994), A
Mathematical Introduction to Robotic Manipulation, chapter 4, with uniform links and friction in the joints.
"""

import pyro
import torch
from pyro.distributions import Delta, Normal
from torch import Tensor

import cai

MASS, LENGTH = (1.0, 1.0), (0.5, 0.5)  # kg, m of each link
FRICTION = 0.5  # Nm for each rad/s


class Reacher:
    """``state`` = the angles of shoulder and elbow (rad; straight at 0) and their velocities; ``torque``, Nm.

    Args:
        target: where the hand should be, m from the shoulder.
        push: the standard deviation of each torque of the action prior, Nm.
        friction: in the joints, Nm for each rad/s.
        tick: seconds.
        horizon: T ticks.
        discount: the probability γ of surviving a tick.
    """

    stationary = True

    def __init__(
        self,
        target: tuple[float, float] = (0.3, 0.6),
        push: float = 1.0,
        friction: float = FRICTION,
        tick: float = 0.05,
        horizon: int | None = 40,
        discount: float = 1.0,
    ) -> None:
        if len(target) != 2:
            raise cai.fault("Reacher, target", f"{target}", "two numbers, x and y")
        if not (push > 0 and tick > 0 and friction >= 0):
            seen = f"push {push}, tick {tick}, friction {friction}"
            raise cai.fault("Reacher", seen, "push and tick above 0, friction at least 0")
        self.target, self.push, self.friction, self.tick = target, push, friction, tick
        self.horizon, self.discount = horizon, discount

    def initial(self) -> Tensor:
        """Start almost stretched out, almost at rest."""
        return pyro.sample("state", Normal(torch.zeros(4), 0.1).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Turn both joints at random."""
        still = state.new_zeros(*state.shape[:-1], 2)
        return pyro.sample("torque", Normal(still, self.push).to_event(1))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow the equation of motion for a tick; the hand's distance to the target and velocities have a cost."""
        angle, speed = state[..., :2], state[..., 2:]
        faster = speed + self.tick * self.acceleration(state, action)
        following = torch.cat((angle + self.tick * faster, faster), -1)
        return pyro.sample("state", Delta(following, event_dim=1)), -self.cost(state)

    def terminal(self, state: Tensor) -> Tensor:
        """Pay ten times for the last state: the hand should be there and at rest."""
        return -10 * self.cost(state)

    def acceleration(self, state: Tensor, torque: Tensor) -> Tensor:
        """Solve M(q) q'' + C(q, q') + friction q' = torque for q'', rad/s², ``[*, 2]``."""
        bend, (shoulder, elbow) = state[..., 1], state[..., 2:].unbind(-1)
        (m1, m2), (l1, l2) = MASS, LENGTH
        whole = (m1 / 3 + m2) * l1**2 + m2 * l2**2 / 3  # inertia of the arm about the shoulder, but for the bend
        own, coupled = m2 * l2**2 / 3, m2 * l1 * l2 / 2
        M11, M12, M22 = whole + 2 * coupled * bend.cos(), own + coupled * bend.cos(), own
        swirl = coupled * bend.sin()
        push1 = torque[..., 0] - self.friction * shoulder + swirl * elbow * (2 * shoulder + elbow)
        push2 = torque[..., 1] - self.friction * elbow - swirl * shoulder.square()
        determinant = M11 * M22 - M12.square()
        return torch.stack((M22 * push1 - M12 * push2, M11 * push2 - M12 * push1), -1) / determinant.unsqueeze(-1)

    def hand(self, state: Tensor) -> Tensor:
        """Return where the hand is, m, ``[*, 4] -> [*, 2]``."""
        first, second = state[..., 0], state[..., 0] + state[..., 1]
        x = LENGTH[0] * first.cos() + LENGTH[1] * second.cos()
        return torch.stack((x, LENGTH[0] * first.sin() + LENGTH[1] * second.sin()), -1)

    def cost(self, state: Tensor) -> Tensor:
        """Return the cost of a state, reward units, ``[*, 4] -> [*]``."""
        off = self.hand(state) - state.new_tensor(self.target)
        return 5 * off.square().sum(-1) + 0.05 * state[..., 2:].square().sum(-1)

    def features(self, state: Tensor) -> Tensor:
        """Return what a network sees: cosines and sines of the angles, velocities, the hand. ``[*, 4] -> [*, 8]``."""
        angle = state[..., :2]
        return torch.cat((angle.cos(), angle.sin(), state[..., 2:], self.hand(state)), -1)
