"""A network of machines: keep them running, one reboot at a time.

A machine crashes more often if fewer of its neighbours run; a reboot always brings it up. Each machine depends on a few
others only, and the reward is a sum over machines: a first example of factors (``cai.factorise``). It teaches that weak
coupling spreads: after a few steps the message couples all machines.

Size: 16 states of 4 variables, 5 actions, 16 outcomes.
Source: Guestrin, Koller, Parr & Venkataraman (2003), Efficient solution algorithms for factored MDPs, JAIR 19, with the
numbers of the International Probabilistic Planning Competition 2011 (``SysAdmin``), whose discount is 1, too.
"""

import random

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Sysadmin:
    """``machine_i`` = 0 down or 1 running; ``reboot`` = 0 … n-1 that machine, n none.

    Args:
        n: how many machines.
        topology: the neighbours of a machine: "ring", the two beside it; "star", all others for machine 0, machine 0
            for them; "random", two others drawn by the seed.
        seed: of the random topology.
        cost: what a reboot costs; a running machine earns 1 a step.
        recovery: the chance that a machine comes up by itself.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        n: int = 4,
        topology: str = "ring",
        seed: int = 0,
        cost: float = 0.75,
        recovery: float = 0.05,
        horizon: int | None = 40,
        discount: float = 1.0,
    ) -> None:
        if n < 2:
            raise cai.fault("Sysadmin, n", f"{n}", "2 machines or more")
        if not 0 <= recovery <= 1:
            raise cai.fault("Sysadmin, recovery", f"{recovery}", "a probability")
        self.machines = [f"machine_{i}" for i in range(n)]
        self.neighbours = self._wire(n, topology, seed)
        self.cost, self.recovery, self.horizon, self.discount = cost, recovery, horizon, discount
        self.labels = {name: ["down", "running"] for name in self.machines} | {"reboot": [*self.machines, "none"]}

    def initial(self) -> dict[str, Tensor]:
        """All machines run."""
        return {name: pyro.sample(name, cai.Point(torch.tensor(1), 2)) for name in self.machines}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Reboot any machine or none, with equal probability."""
        choices = len(self.machines) + 1
        return pyro.sample("reboot", Categorical(torch.ones(choices).expand(*state["machine_0"].shape, choices)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Every machine crashes or comes up independently, with a probability that depends on its neighbours and the
        reboot."""
        following = {}
        for i, name in enumerate(self.machines):
            heard = self.neighbours[i]
            # A sum in Python's own way: each machine may lie on a dimension of its own, so they are never stacked.
            share = (1 + sum(state[self.machines[j]] for j in heard)) / (1 + len(heard))
            running = torch.where(state[name] == 1, 0.45 + 0.5 * share, self.recovery)
            running = torch.where(action == i, 1.0, running)
            # Stacking the chances of one variable is fine: it makes the last axis, which is its values.
            chances = torch.stack([1 - running, running], -1)
            following[name] = pyro.sample(name, Categorical(logits=chances.log()))
        # A sum of terms that read one variable each: in factors it stays one, and never becomes a table over all.
        rebooting = self.cost * (action < len(self.machines))
        return following, sum(1.0 * state[name] for name in self.machines) - rebooting

    def _wire(self, n: int, topology: str, seed: int) -> list[list[int]]:
        """Return the neighbours of each machine."""
        if topology == "ring":
            return [sorted({(i - 1) % n, (i + 1) % n}) for i in range(n)]
        if topology == "star":
            return [list(range(1, n)), *([0] for _ in range(1, n))]
        if topology == "random":
            draw = random.Random(seed)
            return [sorted(draw.sample([j for j in range(n) if j != i], min(2, n - 1))) for i in range(n)]
        expected = '"ring", "star" or "random"'
        raise cai.fault("Sysadmin, topology", f"'{topology}'", expected)
