"""An elevator: fetch the passengers on each floor, and bring them to the top or to the ground.

Passengers go up to the top floor or down to the ground floor. Opening the doors is for one of the two directions, and
turns the elevator that way. Each waiting call has its own cost, and each floor has its own random arrivals: the calls
of a floor depend on the elevator and the doors, but not on other floors.

Size: 384 states of 8 variables, 4 actions, 16 outcomes.
Source: after the ``Elevators`` domain of the International Probabilistic Planning Competition 2011, with one elevator.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

WAIT, GO, OPEN_UP, OPEN_DOWN = range(4)


class Elevator:
    """``floor`` and ``direction`` (0 up, 1 down) of the elevator; ``up_f``, ``down_f`` = 1 where somebody waits.

    ``riding_up`` and ``riding_down`` = 1 with somebody aboard; ``lift`` = 0 wait, 1 go on one floor, 2 open for those
    who go up, 3 for those who go down; ``comes_up_f``, ``comes_down_f`` = 1 where somebody arrives.

    Args:
        floors: how many, the ground floor 0 among them.
        arrival: the chance of a new passenger, by floor and direction.
        waiting: the cost of each call that is not answered yet, a step.
        riding: the cost of passengers aboard, a step, for each of the two ways.
        moving: the cost of going on.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        floors: int = 3,
        arrival: float = 0.1,
        waiting: float = 1.0,
        riding: float = 0.75,
        moving: float = 0.1,
        horizon: int | None = 40,
        discount: float = 1.0,
    ) -> None:
        if floors < 2:
            raise cai.fault("Elevator, floors", f"{floors}", "2 floors or more")
        if not 0 <= arrival <= 1:
            raise cai.fault("Elevator, arrival", f"{arrival}", "a probability")
        self.floors, self.top = floors, floors - 1
        self.arrival, self.waiting, self.riding, self.moving = arrival, waiting, riding, moving
        self.horizon, self.discount = horizon, discount
        self.labels = {"direction": ["up", "down"], "lift": ["wait", "go on", "open for up", "open for down"]}
        # Nobody goes up from the top, nor down from the ground.
        self.calls = {f"up_{f}": (f, OPEN_UP) for f in range(floors - 1)}
        self.calls |= {f"down_{f}": (f, OPEN_DOWN) for f in range(1, floors)}

    def initial(self) -> dict[str, Tensor]:
        """Stand empty on the ground, about to go up; nobody waits."""
        sizes = {"floor": self.floors, "direction": 2, "riding_up": 2, "riding_down": 2, **dict.fromkeys(self.calls, 2)}
        return {name: pyro.sample(name, cai.Point(torch.tensor(0), size)) for name, size in sizes.items()}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Take any of the four actions with equal probability."""
        return pyro.sample("lift", Categorical(torch.ones(4).expand(*state["floor"].shape, 4)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Go on or open; then new passengers come."""
        floor, direction = state["floor"], state["direction"]
        ahead = (floor + 1 - 2 * direction).clamp(0, self.top)
        turned = torch.where(action == OPEN_UP, 0, torch.where(action == OPEN_DOWN, 1, direction))
        following = {
            "floor": pyro.sample("floor", cai.Point(torch.where(action == GO, ahead, floor), self.floors)),
            "direction": pyro.sample("direction", cai.Point(turned, 2)),
            "riding_up": self._ride("riding_up", state, action, OPEN_UP, self.top),
            "riding_down": self._ride("riding_down", state, action, OPEN_DOWN, 0),
        }
        arrives = torch.tensor([1 - self.arrival, self.arrival]).log()
        for name, (f, doors) in self.calls.items():
            comes = pyro.sample(f"comes_{name}", Categorical(logits=arrives))
            left = torch.where((action == doors) & (floor == f), 0, state[name])
            following[name] = pyro.sample(name, cai.Point(torch.maximum(left, comes), 2))
        # One small term for every call and for each way to ride: they are added up, and so stay apart in factors.
        waiting = sum(self.waiting * state[name] for name in self.calls)
        riding = self.riding * state["riding_up"] + self.riding * state["riding_down"]
        return following, -waiting - riding - self.moving * (action == GO)

    def _ride(self, name: str, state: dict[str, Tensor], action: Tensor, doors: int, goal: int) -> Tensor:
        """Let passengers off at the goal, and in where the doors open for their direction."""
        aboard = state[name] == 1
        for call, (f, opened) in self.calls.items():
            if opened == doors:  # an if on a setting is fine, on a tensor it is not
                aboard = aboard | ((action == doors) & (state["floor"] == f) & (state[call] == 1))
        return pyro.sample(name, cai.Point(torch.where((state["floor"] != goal) & aboard, 1, 0), 2))
