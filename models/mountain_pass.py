"""A hiker, a safe road and a short ledge in the wind: the running example of the book.

The hiker stands at a hut and wants to be home. The road takes two days. The ledge takes one day, but a gust may throw
the hiker into the ravine: that costs 5, and a day to climb back to the hut. Halfway along the road the ledge can be
taken, too, where it saves nothing. Each day away from home costs 1. On average the road is better. POSTERIOR is
conditioned on success, so it believes that there is no gust and takes the ledge.

Size: 4 states, 2 actions, 2 outcomes.
Source: this library's book.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

HUT, ROAD, HOME, RAVINE = range(4)


class MountainPass:
    """``place`` = 0 hut, 1 road, 2 home, 3 ravine; ``path`` = 0 road or 1 ledge; ``gust`` = 1 where it blows.

    Args:
        gust: the chance of a gust on the ledge.
        fall: what a fall into the ravine costs.
        wind_obeys: whether the hiker chooses the gust, with its chances as the prior: the deterministic twin, whose
            ``path`` is 0 road, 1 ledge without a gust or 2 ledge with a gust.
        horizon: T days, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a day.
    """

    def __init__(
        self,
        gust: float = 0.3,
        fall: float = 5.0,
        wind_obeys: bool = False,
        horizon: int | None = 4,
        discount: float = 1.0,
    ) -> None:
        if not 0 <= gust <= 1:
            raise cai.fault("MountainPass, gust", f"{gust}", "a probability")
        self.gust, self.fall, self.wind_obeys = gust, fall, wind_obeys
        self.horizon, self.discount = horizon, discount
        self.labels = {"place": ["hut", "road", "home", "ravine"], "path": ["road", "ledge"], "gust": ["no", "yes"]}
        if wind_obeys:
            self.labels = {"place": self.labels["place"], "path": ["road", "ledge, calm", "ledge, gust"]}

    def initial(self) -> Tensor:
        """Start at the hut."""
        return pyro.sample("place", cai.Point(torch.tensor(HUT), 4))

    def act(self, place: Tensor, t: int) -> Tensor:
        """Toss a fair coin between road and ledge."""
        prior = [0.5, 0.5 * (1 - self.gust), 0.5 * self.gust] if self.wind_obeys else [0.5, 0.5]
        return pyro.sample("path", Categorical(torch.tensor(prior).expand(*place.shape, len(prior))))

    def step(self, place: Tensor, path: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Walk for a day; pay 1 for a day away from home, and for a fall."""
        gust = (path == 2).long() if self.wind_obeys else pyro.sample("gust", Categorical(self._chances()))
        by_road = torch.tensor([ROAD, HOME, HOME, HUT])[place]
        by_ledge = torch.tensor([[HOME, RAVINE], [HOME, RAVINE], [HOME, HOME], [HUT, HUT]])[place, gust]
        following = pyro.sample("place", cai.Point(torch.where(path == 0, by_road, by_ledge), 4))
        return following, -1.0 * (place != HOME) - self.fall * (following == RAVINE)

    def _chances(self) -> Tensor:
        return torch.tensor([1 - self.gust, self.gust])
