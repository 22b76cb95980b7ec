"""A car on a road that is dry or icy: keep to the middle of the lane, though the road may freeze.

On ice the tyres give a seventh of the sideways acceleration, and a bump moves the car more. The driver sees whether the
road is icy now, not whether it will be. A good policy steers harder on ice, and early on a dry road. Given optimality
(POSTERIOR) ice is more likely than it is: a driver who steers by the action prior, at random, leaves the lane less on
ice, where steering has little effect.

Size: states of 2 modes and 2 real numbers, actions of 1 real number.
Source: Costa, Fragoso & Marques (2005), Discrete-Time Markov Jump Linear Systems, chapter 4; friction of tyres after
Rajamani (2012), Vehicle Dynamics and Control, chapter 13. The other numbers are our own.
"""

import pyro
import torch
from pyro.distributions import Categorical, Delta, Normal
from torch import Tensor

import cai

GRIP = (1.0, 0.15)  # the share of the steering that the tyres give, dry and icy


class IcyRoad:
    """``road`` is dry or icy; ``offset`` from the middle in m, ``drift`` to the side in m/s; ``steer`` in m/s².

    Args:
        freeze: the probability that a dry road is icy a tick later.
        thaw: the probability that an icy road is dry a tick later.
        bumps: the standard deviations of what a tick adds to the drift, m/s, dry and icy.
        price: the cost of steering by 1 m/s² for a tick.
        tick: seconds.
        horizon: T ticks.
        discount: the probability γ of surviving a tick.
    """

    labels = {"road": ["dry", "icy"]}  # noqa: RUF012 — a world is plain code

    def __init__(
        self,
        freeze: float = 0.2,
        thaw: float = 0.3,
        bumps: tuple[float, float] = (0.05, 0.3),
        price: float = 0.05,
        tick: float = 0.5,
        horizon: int = 8,
        discount: float = 1.0,
    ) -> None:
        for name, p in (("freeze", freeze), ("thaw", thaw)):
            if not 0 <= p <= 1:
                raise cai.fault(f"IcyRoad, {name}", f"{p}", "a probability")
        if not (min(bumps) >= 0 and tick > 0):
            raise cai.fault("IcyRoad", f"bumps {bumps}, tick {tick}", "standard deviations, at least 0, and a time")
        self.freeze, self.thaw, self.bumps, self.price, self.tick = freeze, thaw, bumps, price, tick
        self.horizon, self.discount = horizon, discount

    def initial(self) -> dict[str, Tensor]:
        """Start on a dry road, a metre off the middle."""
        return {
            "road": pyro.sample("road", cai.Point(torch.tensor(0), 2)),
            "offset": pyro.sample("offset", Normal(torch.tensor(1.0), 0.3)),
            "drift": pyro.sample("drift", Normal(torch.tensor(0.0), 0.2)),
        }

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Steer to either side, at random."""
        return pyro.sample("steer", Normal(torch.zeros_like(state["offset"]), 2.0))

    def step(self, state: dict[str, Tensor], steer: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Move for a tick; being off the middle, drifting and steering have a cost."""
        road, offset, drift = state["road"], state["offset"], state["drift"]
        grip, bumps = torch.tensor(GRIP)[road], torch.tensor(self.bumps)[road]
        odds = torch.tensor([[1 - self.freeze, self.freeze], [self.thaw, 1 - self.thaw]])
        following = {
            "road": pyro.sample("road", Categorical(odds[road])),
            "offset": pyro.sample("offset", Delta(offset + self.tick * drift)),
            "drift": pyro.sample("drift", Normal(drift + self.tick * grip * steer, bumps)),
        }
        return following, -(offset**2 + 0.1 * drift**2 + self.price * steer**2)
