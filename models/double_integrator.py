"""A cart on a rail without friction, pushed by a force and by gusts of wind: bring it to rest at the origin.

Velocity is the integral of the force, and position is the integral of the velocity. It is one of the smallest systems
in which a good policy looks ahead: a cart that is pushed to the origin at full force overshoots, so it must brake
half-way. One gust moves position and velocity together, so their noise covariance is singular.

Size: states of 2 real numbers, actions of 1 real number.
Source: Rao & Bernstein (2001), Naive control of the double integrator, IEEE Control Systems Magazine 21(5). Here with
wind, in discrete time, the force held over each tick.
"""

import pyro
import torch
from pyro.distributions import Delta, Normal
from torch import Tensor

import cai


class DoubleIntegrator:
    """``position`` in m and ``velocity`` in m/s; ``force`` in N, on a mass of 1 kg; ``gust`` in N.

    Args:
        noise: the standard deviation of a gust, N; 0 for no wind.
        price: the cost of a force of 1 N for a tick.
        push: the standard deviation of the action prior, N.
        tick: seconds.
        horizon: T ticks, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a tick.
    """

    def __init__(
        self,
        noise: float = 0.5,
        price: float = 0.1,
        push: float = 2.0,
        tick: float = 0.2,
        horizon: int | None = 30,
        discount: float = 1.0,
    ) -> None:
        if not noise >= 0:
            raise cai.fault("DoubleIntegrator, noise", f"{noise}", "a standard deviation, at least 0")
        if not (push > 0 and tick > 0):
            raise cai.fault("DoubleIntegrator", f"push {push}, tick {tick}", "numbers above 0")
        self.noise, self.price, self.push, self.tick = noise, price, push, tick
        self.horizon, self.discount = horizon, discount

    def initial(self) -> dict[str, Tensor]:
        """Start some 2 m away, almost at rest."""
        position = pyro.sample("position", Normal(torch.tensor(2.0), 0.5))
        return {"position": position, "velocity": pyro.sample("velocity", Normal(torch.tensor(0.0), 0.5))}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Push to either side, at random."""
        return pyro.sample("force", Normal(torch.zeros_like(state["position"]), self.push))

    def step(self, state: dict[str, Tensor], force: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Move for a tick under a constant force; distance, velocity and force have a quadratic cost."""
        position, velocity = state["position"], state["velocity"]
        gust = pyro.sample("gust", Normal(torch.tensor(0.0), self.noise)) if self.noise else 0.0
        speeding = self.tick * (force + gust)
        following = {
            "position": pyro.sample("position", Delta(position + self.tick * (velocity + speeding / 2))),
            "velocity": pyro.sample("velocity", Delta(velocity + speeding)),
        }
        return following, -(position**2 + 0.1 * velocity**2 + self.price * force**2)

    def terminal(self, state: dict[str, Tensor]) -> Tensor:
        """Pay for the distance and the velocity at the end."""
        return -10 * (state["position"] ** 2 + state["velocity"] ** 2)
