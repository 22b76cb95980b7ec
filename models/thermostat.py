"""A house on a cold day, seen through one thermometer: keep the room at 20 °C at a low cost of heating.

The room is fast and the wall is slow: heat goes into the room, leaks into the wall, and from there outside, where the
temperature drifts. A good policy heats the wall in advance. It cannot measure the wall: the thermometer shows the room,
with an error, and the temperatures of wall and outside must be inferred from how the room cools.

Size: states of 3 real numbers, actions of 1 real number.
Source: Bacher & Madsen (2011), Identifying suitable models for the heat dynamics of buildings, Energy and Buildings
43(7): a room and its envelope as two heat capacities. The numbers here are a small house's, of our own.
"""

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor

import cai

ROOM, WALL = 1.0, 8.0  # heat capacities, kWh/K
INSIDE, THROUGH, WINDOW = 1.0, 4.0, 10.0  # resistances from room to wall, wall to outside, room to outside, K/kW
TICK = 0.5  # hours


class Thermostat:
    """``room``, ``wall`` and ``outside`` in °C; ``heat`` in kW (below 0 it cools); ``reading`` in °C.

    Args:
        target: the temperature wanted, °C.
        price: the cost of 1 kW for a tick; it grows as the square.
        sensor: the standard deviation of the thermometer's error, K.
        noise: the standard deviation of what a tick adds to each temperature, K.
        usual: the mean of the action prior, kW.
        horizon: T half hours, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a tick.
    """

    def __init__(
        self,
        target: float = 20.0,
        price: float = 0.05,
        sensor: float = 0.5,
        noise: float = 0.2,
        usual: float = 4.0,
        horizon: int | None = 48,
        discount: float = 1.0,
    ) -> None:
        if not (noise > 0 and sensor > 0):
            raise cai.fault("Thermostat", f"noise {noise}, sensor {sensor}", "standard deviations above 0")
        self.target, self.price, self.sensor, self.noise, self.usual = target, price, sensor, noise, usual
        self.horizon, self.discount = horizon, discount

    def initial(self) -> dict[str, Tensor]:
        """Start in the morning: a cool room, a colder wall."""
        means = {"room": (17.0, 1.0), "wall": (14.0, 2.0), "outside": (5.0, 3.0)}
        return {name: pyro.sample(name, Normal(torch.tensor(mean), size)) for name, (mean, size) in means.items()}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Heat as usual, more or less."""
        return pyro.sample("heat", Normal(torch.full_like(state["room"], self.usual), 2.0))

    def step(self, state: dict[str, Tensor], heat: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Let heat flow for half an hour; a room that is not at its target has a cost, and so has heat."""
        room, wall, outside = state["room"], state["wall"], state["outside"]
        into_wall, out, window = (room - wall) / INSIDE, (wall - outside) / THROUGH, (room - outside) / WINDOW
        means = {
            "room": room + TICK / ROOM * (heat - into_wall - window),
            "wall": wall + TICK / WALL * (into_wall - out),
            "outside": 5.0 + 0.98 * (outside - 5.0),
        }
        following = {name: pyro.sample(name, Normal(mean, self.noise)) for name, mean in means.items()}
        return following, -((room - self.target) ** 2) - self.price * heat**2

    def observe(self, state: dict[str, Tensor]) -> Tensor:
        """Read the thermometer in the room."""
        return pyro.sample("reading", Normal(state["room"], self.sensor))
