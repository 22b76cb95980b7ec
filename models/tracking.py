"""A pen in the plane that follows a figure of eight: a reward that changes over time.

The pen has a mass and is pushed by a force, so a good policy starts to turn before the curve does. Far from the end its
gain is the same at all times; its offset changes, and depends on the next part of the curve. Values, policies and
marginals all depend on the time.

Size: states of 4 real numbers, actions of 2 real numbers.
Source: Anderson & Moore (1990), Optimal Control: Linear Quadratic Methods, chapter 4, on tracking. The curve is
Gerono's lemniscate.
"""

import math

import pyro
import torch
from pyro.distributions import Delta, Normal
from torch import Tensor

import cai


class Tracking:
    """``position`` and ``velocity`` of the pen, two numbers each; ``force``, two numbers, on a mass of 1.

    Args:
        noise: the standard deviation of each number of the velocity, after a tick.
        price: the cost of a force of 1 for a tick.
        period: how many ticks the curve takes.
        tick: the length of a tick.
        horizon: T ticks.
    """

    def __init__(
        self, noise: float = 0.05, price: float = 0.01, period: int = 40, tick: float = 0.2, horizon: int = 40
    ) -> None:
        if not (noise > 0 and tick > 0 and period > 0):
            raise cai.fault("Tracking", f"noise {noise}, tick {tick}, period {period}", "numbers above 0")
        if horizon is None:
            raise cai.fault("Tracking, horizon", "None", "a whole number: the reward changes over time")
        self.noise, self.price, self.period, self.tick, self.horizon = noise, price, period, tick, horizon

    def reference(self, t: int) -> Tensor:
        """Return where the pen should be at time t, ``[2]``."""
        angle = 2 * math.pi * t / self.period
        return torch.tensor([math.sin(angle), math.sin(angle) * math.cos(angle)])

    def initial(self) -> dict[str, Tensor]:
        """Start near the crossing of the eight, at rest."""
        near, rest = Normal(torch.zeros(2), 0.2).to_event(1), Delta(torch.zeros(2), event_dim=1)
        return {"position": pyro.sample("position", near), "velocity": pyro.sample("velocity", rest)}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Push in any direction, at random."""
        return pyro.sample("force", Normal(torch.zeros_like(state["position"]), 1.0).to_event(1))

    def step(self, state: dict[str, Tensor], force: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Move for a tick; pay for the distance to the curve at time t, and for the force."""
        position, velocity = state["position"], state["velocity"]
        moving = pyro.sample("velocity", Normal(0.95 * velocity + self.tick * force, self.noise).to_event(1))
        following = pyro.sample("position", Delta(position + self.tick * moving, event_dim=1))
        off = (position - self.reference(t)).square().sum(-1)
        return {"position": following, "velocity": moving}, -(off + self.price * force.square().sum(-1))

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        """Pay for the distance to the curve at T."""
        return -(state["position"] - self.reference(self.horizon)).square().sum(-1)
