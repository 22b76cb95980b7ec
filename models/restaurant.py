"""One evening, two restaurants: the smallest world in which the rules disagree about what to do.

The Italian kitchen is a gamble (bad, good or spectacular with .2, .6, .2), the French one is steady (.05, .9, .05); the
utilities are -10, 6 and 8. VARIATIONAL uses a policy's expected utility and chooses French. POSTERIOR is conditioned on
a good evening, infers that the meal was probably spectacular, and chooses Italian.

Size: 4 states, 2 actions, 3 outcomes.
Source: Evans, Stuhlmüller, Salvatier & Filan, Modeling Agents with Probabilistic Programs, chapter 3,
https://agentmodels.org/chapters/3-agents-as-programs.html
"""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Restaurant:
    """Choose where to eat, ``choice`` = 0 Italian or 1 French; ``meal`` = 0 none yet, 1 bad, 2 good, 3 spectacular.

    Args:
        italian: the chances of a bad, a good and a spectacular meal there.
        french: the same at the other place.
        utility: the reward of each of the three.
        horizon: how many evenings.
        discount: the probability γ of surviving an evening.
    """

    def __init__(
        self,
        italian: Sequence[float] = (0.2, 0.6, 0.2),
        french: Sequence[float] = (0.05, 0.9, 0.05),
        utility: Sequence[float] = (-10.0, 6.0, 8.0),
        horizon: int | None = 1,
        discount: float = 1.0,
    ) -> None:
        for name, chances in (("italian", italian), ("french", french)):
            if len(chances) != 3 or min(chances) < 0 or abs(sum(chances) - 1) > 1e-9:
                expected = "three probabilities that sum to 1: bad, good, spectacular"
                raise cai.fault(f"Restaurant, {name}", f"{chances}", expected)
        if len(utility) != 3:
            expected = "three rewards: bad, good, spectacular"
            raise cai.fault("Restaurant, utility", f"{utility}", expected)
        self.chances, self.utility = [list(italian), list(french)], list(utility)
        self.horizon, self.discount = horizon, discount
        self.labels = {"choice": ["Italian", "French"], "meal": ["none yet", "bad", "good", "spectacular"]}

    def initial(self) -> Tensor:
        """Arrive hungry."""
        return pyro.sample("meal", cai.Point(torch.tensor(0), 4))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Toss a fair coin between the two."""
        return pyro.sample("choice", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Draw the meal from the kitchen's distribution."""
        log_chance = torch.tensor(self.chances).log()[action]
        quality = pyro.sample("quality", Categorical(logits=log_chance))
        meal = pyro.sample("meal", cai.Point(quality + 1, 4))
        return meal, torch.tensor(self.utility)[quality]
