"""A linear system with Gaussian noise and quadratic cost, drawn by a seed: any number of states, actions and sensors.

    s' = A s + B a + w,   w ~ N(0, W),        r = -½ |C s|² - ½ |a|²,        y = H s + v,   v ~ N(0, V)

In this family of continuous worlds values, policies and beliefs have closed forms. Without sensors the whole state is
seen (LQR with noise); with sensors it is LQG, where the best policy acts on the mean of its belief.

Size: states of 4 real numbers, actions of 2 real numbers.
Source: Anderson & Moore (1990), Optimal Control: Linear Quadratic Methods, chapters 2 and 8. The systems are random:
they are this library's own.
"""

import pyro
import torch
from pyro.distributions import MultivariateNormal, Normal
from torch import Tensor

import cai


class LQG:
    """``state`` is a vector, ``action`` is a vector; a ``reading`` is a vector where there are sensors.

    Args:
        states: how many numbers the state has.
        actions: how many numbers the action has.
        noise: the size of the noise w: its standard deviation in the first direction.
        radius: the spectral radius of A; above 1 the system is unstable.
        sensors: how many numbers a reading has; None: the whole state is seen.
        blur: the standard deviation of each number of a reading.
        seed: draws A, B, C, W and H.
        horizon: T steps, or None for ever (with a discount below 1).
        discount: the probability γ of surviving a step.
    """

    def __init__(
        self,
        states: int = 4,
        actions: int = 2,
        noise: float = 0.3,
        radius: float = 0.95,
        sensors: int | None = None,
        blur: float = 0.3,
        seed: int = 0,
        horizon: int | None = 30,
        discount: float = 1.0,
    ) -> None:
        for name, count in (("states", states), ("actions", actions), ("sensors", 1 if sensors is None else sensors)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise cai.fault(f"LQG, {name}", f"{count!r}", "a whole number, at least 1")
        for name, size in (("noise", noise), ("radius", radius), ("blur", blur)):
            if not 0 < size < float("inf"):
                raise cai.fault(f"LQG, {name}", f"{size}", "a number above 0")
        self.horizon, self.discount, self.blur = horizon, discount, blur
        draw = torch.Generator().manual_seed(seed)

        def random(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=draw, dtype=torch.float64) / columns**0.5

        A = random(states, states)
        self.A = A * (radius / torch.linalg.eigvals(A).abs().max())
        self.B, self.C = random(states, actions), random(states, states)
        self.W_root = noise * (torch.eye(states, dtype=torch.float64) + random(states, states).tril(-1))
        self.H = random(sensors or states, states)
        self.observe = None if sensors is None else self.read

    def initial(self) -> Tensor:
        """Start anywhere around the origin."""
        n = len(self.A)
        return pyro.sample("state", Normal(torch.zeros(n), 1.0).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        """Draw standard normal actions."""
        zeros = state.new_zeros(*state.shape[:-1], self.B.shape[-1])
        return pyro.sample("action", Normal(zeros, 1.0).to_event(1))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Follow the linear system, with correlated noise; state and action have a cost."""
        A, B, C, W_root = (M.to(state) for M in (self.A, self.B, self.C, self.W_root))
        following = pyro.sample("state", MultivariateNormal(state @ A.mT + action @ B.mT, scale_tril=W_root))
        return following, -0.5 * (state @ C.mT).square().sum(-1) - 0.5 * action.square().sum(-1)

    def terminal(self, state: Tensor) -> Tensor:
        """Pay for the last state as for any other."""
        return -0.5 * (state @ self.C.to(state).mT).square().sum(-1)

    def read(self, state: Tensor) -> Tensor:
        """Read the sensors: a few noisy mixtures of the state."""
        return pyro.sample("reading", Normal(state @ self.H.to(state).mT, self.blur).to_event(1))
