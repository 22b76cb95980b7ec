"""A factory: shape the parts, paint them, and join each to the next.

Shaping never fails, but it removes the paint and breaks the joints of its part. Paint sticks with some chance, a
smaller one if the part is already joined. A joint holds with some chance, and only between two shaped parts. So the
order of the jobs matters. It is the classical example of actions that change few variables each.

Size: 32 states of 5 variables, 6 actions, 8 outcomes.
Source: after the factory of Boutilier, Dearden & Goldszmidt (2000), Stochastic dynamic programming with factored
representations, Artificial Intelligence 121; made simpler, and any number of parts long.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai


class Factory:
    """``shaped_i``, ``painted_i`` = 1 where part i is; ``joint_i`` = 1 where part i is joined to part i+1.

    ``job`` = 0 wait, then 1 … n shape that part, n+1 … 2n paint it, 2n+1 … 3n-1 join a part to the next.

    Args:
        n: how many parts.
        paint: the chance that paint sticks to a part that stands alone.
        late_paint: the same for a part that is joined already.
        join: the chance that a joint holds.
        cost: of any job but to wait.
        finish: what a shaped and painted part earns a step.
        joint: what a joint earns a step.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        n: int = 2,
        paint: float = 0.8,
        late_paint: float = 0.4,
        join: float = 0.9,
        cost: float = 0.5,
        finish: float = 1.0,
        joint: float = 2.0,
        horizon: int | None = 20,
        discount: float = 1.0,
    ) -> None:
        if n < 2:
            raise cai.fault("Factory, n", f"{n}", "2 parts or more")
        for name, chance in (("paint", paint), ("late_paint", late_paint), ("join", join)):
            if not 0 <= chance <= 1:
                raise cai.fault(f"Factory, {name}", f"{chance}", "a probability")
        self.n, self.paint, self.late_paint, self.join = n, paint, late_paint, join
        self.cost, self.finish, self.joint = cost, finish, joint
        self.horizon, self.discount = horizon, discount
        jobs = [f"{what} {i}" for what in ("shape", "paint") for i in range(n)]
        self.labels = {"job": ["wait", *jobs, *(f"join {i} to {i + 1}" for i in range(n - 1))]}

    def initial(self) -> dict[str, Tensor]:
        """All parts are raw."""
        names = [f"{what}_{i}" for what in ("shaped", "painted") for i in range(self.n)]
        names += [f"joint_{i}" for i in range(self.n - 1)]
        return {name: pyro.sample(name, cai.Point(torch.tensor(0), 2)) for name in names}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Do any job with equal probability."""
        return pyro.sample("job", Categorical(torch.ones(3 * self.n).expand(*state["shaped_0"].shape, 3 * self.n)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Do one job on one part or joint; all others stay as they are."""
        following = {}
        for i in range(self.n):
            shaped = torch.where(action == 1 + i, 1, state[f"shaped_{i}"])
            following[f"shaped_{i}"] = pyro.sample(f"shaped_{i}", cai.Point(shaped, 2))
        for i in range(self.n):
            following[f"painted_{i}"] = self._happens(f"painted_{i}", self._painting(state, action, i))
        for i in range(self.n - 1):
            following[f"joint_{i}"] = self._happens(f"joint_{i}", self._joining(state, action, i))
        # The reward may read the next state; each term reads one part or one joint, so that they stay apart.
        parts = sum(self.finish * following[f"shaped_{i}"] * following[f"painted_{i}"] for i in range(self.n))
        joints = sum(self.joint * following[f"joint_{i}"] for i in range(self.n - 1))
        return following, parts + joints - self.cost * (action > 0)

    def _painting(self, state: dict[str, Tensor], action: Tensor, i: int) -> Tensor:
        """Return the chance that part i is painted after this step."""
        joined = torch.zeros((), dtype=torch.bool)
        for j in {i - 1, i} & set(range(self.n - 1)):
            joined = joined | (state[f"joint_{j}"] == 1)
        works = torch.where(joined, self.late_paint, self.paint)
        tried = torch.where(action == 1 + self.n + i, works, 0.0)
        return torch.where(action == 1 + i, 0.0, torch.where(state[f"painted_{i}"] == 1, 1.0, tried))

    def _joining(self, state: dict[str, Tensor], action: Tensor, i: int) -> Tensor:
        """Return the chance that part i is joined to the next after this step."""
        ready = (state[f"shaped_{i}"] == 1) & (state[f"shaped_{i + 1}"] == 1)
        tried = torch.where((action == 1 + 2 * self.n + i) & ready, self.join, 0.0)
        breaks = (action == 1 + i) | (action == 2 + i)
        return torch.where(breaks, 0.0, torch.where(state[f"joint_{i}"] == 1, 1.0, tried))

    def _happens(self, name: str, chance: Tensor) -> Tensor:
        """Sample whether something is true after this step, with its own probability; certain for 0 and 1."""
        return pyro.sample(name, Categorical(logits=torch.stack([1 - chance, chance], -1).log()))
