import pyro
import torch
from pyro.distributions import Categorical

import cai

CAPACITY = 5


class Bakery:
    horizon = 7

    def initial(self):
        return pyro.sample("stock", cai.Point(torch.tensor(2), CAPACITY + 1))

    def act(self, stock, t):
        fits = torch.arange(4) <= CAPACITY - stock[..., None]
        return pyro.sample("order", Categorical(fits / fits.sum(-1, keepdim=True)))

    def step(self, stock, order, t):
        chances = torch.tensor([0.1, 0.3, 0.4, 0.2])
        demand = pyro.sample("demand", Categorical(chances))
        shelf = (stock + order).clamp(max=CAPACITY)
        sold = torch.minimum(shelf, demand)
        left = pyro.sample("stock", cai.Point(shelf - sold, CAPACITY + 1))
        return left, 5.0 * sold - 2.0 * order - 0.5 * left
