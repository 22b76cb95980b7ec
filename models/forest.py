"""Forest management: let a forest grow or cut it, while it may burn any year.

The example of the MDP toolboxes, whose printed values the tests of this library reproduce. Waiting in the oldest
forest earns ``r1``, cutting it earns ``r2`` at once; a fire resets it. It teaches discounting as survival, and the
effect of risk: POSTERIOR waits as if there were no fire.

Size: 3 states, 2 actions, 2 outcomes.
Source: pymdptoolbox, ``mdptoolbox.example.forest``,
https://pymdptoolbox.readthedocs.io/en/latest/api/example.html
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Forest:
    """``age`` = 0 … n_ages-1 (the oldest stay the oldest); ``axe`` = 0 wait or 1 cut; ``fire`` = 1 where it burns.

    Args:
        n_ages: how many age classes.
        r1: the reward for waiting in the oldest forest.
        r2: the reward for cutting the oldest forest; a younger one earns 1, one of age 0 nothing.
        p: the chance of a fire in a year.
        start: the age at the start.
        horizon: T years, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a year.
    """

    def __init__(
        self,
        n_ages: int = 3,
        r1: float = 4.0,
        r2: float = 2.0,
        p: float = 0.1,
        start: int = 0,
        horizon: int | None = 20,
        discount: float = 0.9,
    ) -> None:
        if n_ages < 2:
            raise cai.fault("Forest, n_ages", f"{n_ages}", "2 age classes or more")
        if not 0 <= p <= 1:
            raise cai.fault("Forest, p", f"{p}", "a probability")
        if not 0 <= start < n_ages:
            raise cai.fault("Forest, start", f"{start}", f"an age 0 … {n_ages - 1}")
        self.n_ages, self.r1, self.r2, self.p, self.start = n_ages, r1, r2, p, start
        self.horizon, self.discount = horizon, discount
        self.labels = {"axe": ["wait", "cut"], "fire": ["no", "yes"]}

    def initial(self) -> Tensor:
        """Start at the given age."""
        return pyro.sample("age", cai.Point(torch.tensor(self.start), self.n_ages))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Wait or cut with equal probability."""
        return pyro.sample("axe", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Grow a year, unless the forest burns or is cut."""
        oldest, cut = self.n_ages - 1, action == 1
        fire = pyro.sample("fire", Categorical(logits=torch.tensor([1 - self.p, self.p]).log()))
        grown = torch.where(cut | (fire == 1), 0, (state + 1).clamp(max=oldest))
        age = pyro.sample("age", cai.Point(grown, self.n_ages))
        waiting = torch.where(state == oldest, self.r1, 0.0)
        cutting = torch.where(state == oldest, self.r2, torch.where(state > 0, 1.0, 0.0))
        return age, torch.where(cut, cutting, waiting)
