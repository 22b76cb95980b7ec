"""The tiger: two doors, a tiger behind one of them, and a growl that is heard on the right side with probability 0.85.

Listening costs 1 and is heard as a growl from the left or the right; the door with the tiger costs 100, the other earns
10, and after either the tiger lies down behind a door at random. It teaches the value of information: an agent that
sees the tiger opens a door at once; one that only hears it listens until one side has two more growls than the other.

Size: 6 states of 2 variables, 3 actions, 6 outcomes.
Source: Kaelbling, Littman & Cassandra (1998), Planning and acting in partially observable stochastic domains,
Artificial Intelligence 101. There the agent hears a random growl after it opened a door, here nothing. Neither carries
information, so values and policies are the same.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Tiger:
    """``tiger`` = 0 left or 1 right; ``growl`` = 0 left, 1 right or 2 none; ``door`` = 0 listen, 1 left or 2 right.

    The agent sees the growl only. The growl depends on the last action, so it is a variable of the state.

    Args:
        accuracy: the chance that a growl is heard from the side where the tiger is.
        listening: the reward for listening.
        treasure: the reward for the door without the tiger.
        mauling: the reward for the other one.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        accuracy: float = 0.85,
        listening: float = -1.0,
        treasure: float = 10.0,
        mauling: float = -100.0,
        horizon: int | None = 20,
        discount: float = 0.95,
    ) -> None:
        if not 0 <= accuracy <= 1:
            raise cai.fault("Tiger, accuracy", f"{accuracy}", "a probability")
        self.accuracy, self.listening, self.treasure, self.mauling = accuracy, listening, treasure, mauling
        self.horizon, self.discount = horizon, discount
        self.labels = {
            "tiger": ["left", "right"],
            "growl": ["left", "right", "none"],
            "door": ["listen", "open left", "open right"],
        }

    def initial(self) -> dict[str, Tensor]:
        """Put the tiger behind either door; nothing is heard yet."""
        tiger = pyro.sample("tiger", Categorical(torch.ones(2)))
        return {"tiger": tiger, "growl": pyro.sample("growl", cai.Point(torch.tensor(2), 3))}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Listen, or open either door, with equal probability."""
        return pyro.sample("door", Categorical(torch.ones(3).expand(*state["tiger"].shape, 3)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Listen, and the tiger stays; or open a door, and the tiger chooses a door at random."""
        before, listens = state["tiger"], action == 0
        right = torch.where(listens, before.to(torch.get_default_dtype()), 0.5)
        tiger = pyro.sample("tiger", Categorical(torch.stack([1 - right, right], -1)))
        hit = torch.tensor([[self.accuracy, 1 - self.accuracy, 0], [1 - self.accuracy, self.accuracy, 0], [0, 0, 1.0]])
        growl = pyro.sample("growl", Categorical(hit[torch.where(listens, tiger, 2)]))
        opening = torch.where(action - 1 == before, self.mauling, self.treasure)
        return {"tiger": tiger, "growl": growl}, torch.where(listens, self.listening, opening)

    def observe(self, state: dict[str, Tensor]) -> Tensor:
        """Hear the growl; the tiger is not seen."""
        return state["growl"]
