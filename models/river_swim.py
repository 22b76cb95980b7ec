"""RiverSwim: a chain against the current, with a small sure reward downstream and a large rare one upstream.

Swimming left always works; swimming right moves ahead with probability .3 and may drift back. It teaches exploration,
and optimism: POSTERIOR conditions on success, and so on a favourable current.

Size: 6 states, 2 actions, 3 outcomes.
Source: Strehl & Littman (2008), An analysis of model-based interval estimation for Markov decision processes,
Journal of Computer and System Sciences 74, figure 2: six states, rewards 5 and 10000, start in the second or third.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class RiverSwim:
    """``place`` = 0 (downstream) … n_places-1; ``stroke`` = 0 left or 1 right; ``drift`` = 0 back, 1 stay, 2 ahead.

    Args:
        n_places: how long the river is.
        small: the reward for swimming left at the left end.
        large: the reward for holding the right end while swimming right.
        horizon: T, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a stroke.
    """

    def __init__(
        self,
        n_places: int = 6,
        small: float = 5.0,
        large: float = 10000.0,
        horizon: int | None = 20,
        discount: float = 1.0,
    ) -> None:
        if n_places < 3:
            raise cai.fault("RiverSwim, n_places", f"{n_places}", "3 places or more")
        self.n_places, self.small, self.large = n_places, small, large
        self.horizon, self.discount = horizon, discount
        self.labels = {"stroke": ["left", "right"], "drift": ["back", "stay", "ahead"]}
        places = torch.arange(n_places)
        self.layout = cai.Layout(places, (1, n_places), ((-1.0, 0.0), (1.0, 0.0)), {n_places - 1: "G"})

    def initial(self) -> Tensor:
        """Start in the second or third place."""
        start = torch.zeros(self.n_places)
        start[1:3] = 0.5
        return pyro.sample("place", Categorical(logits=start.log()))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Swim left or right with equal probability."""
        return pyro.sample("stroke", Categorical(torch.ones(2).expand(*state.shape, 2)))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Drift back, stay or get ahead."""
        last, right = self.n_places - 1, action == 1
        # Rows: the left end, midstream, the right end; columns: back, stay, ahead.
        upstream = torch.tensor([[0.0, 0.7, 0.3], [0.1, 0.6, 0.3], [0.7, 0.3, 0.0]])
        where = (state > 0).long() + (state == last).long()
        chance = torch.where(right.unsqueeze(-1), upstream[where], torch.tensor([1.0, 0.0, 0.0]))
        drift = pyro.sample("drift", Categorical(logits=chance.log()))
        place = pyro.sample("place", cai.Point((state + drift - 1).clamp(0, last), self.n_places))
        held = right & (state == last) & (drift == 1)
        paid = ~right & (state == 0)
        return place, torch.where(held, self.large, torch.where(paid, self.small, 0.0))
