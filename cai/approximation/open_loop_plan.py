"""An open-loop plan: a Gaussian over the noise of actions, whose draws may be correlated over time.

    w_t = m_t + σ_t ε_t,    ε_0 = ξ_0,    ε_t = ρ ε_{t-1} + √(1-ρ²) ξ_t,    ξ_t ~ N(0, I)

White noise (ρ = 0) pushes to and fro and gets nowhere; smooth noise explores far (Pinneri et al. 2020, by coloured
noise; here first-order autoregressive noise, whose density is a product over time).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian
from cai.world.noise import log_normal


@dataclass(frozen=True)
class Plan:
    """An open-loop Gaussian over action noise; see the module's words.

    Attributes:
        mean: m.
        deviation: σ.
        correlation: ρ of draws at neighbouring times, 0 ≤ ρ < 1.
    """

    mean: Float[Tensor, "T k"]
    deviation: Float[Tensor, "T k"]
    correlation: float = 0.0

    @classmethod
    def first(cls, T: int, k: int, correlation: float = 0.0) -> "Plan":
        """Return the plan to begin with: at each time the action prior's law, which it is as a whole where ρ = 0."""
        return cls(torch.zeros(T, k, dtype=torch.float64), torch.ones(T, k, dtype=torch.float64), correlation)

    def shifted(self) -> "Plan":
        """Return the plan one time later."""
        return self.lasting(len(self.mean) + 1)[1:]

    def lasting(self, T: int) -> "Plan":
        """Return T steps of it; where it has no more, its mean decays to the prior's by ρ a step."""
        more = Plan.first(max(T - len(self.mean), 0), self.mean.shape[-1])
        decay = self.correlation ** torch.arange(1, len(more.mean) + 1, dtype=torch.float64)
        mean = torch.cat((self.mean, decay.unsqueeze(-1) * self.mean[-1]))
        return replace(self, mean=mean, deviation=torch.cat((self.deviation, more.deviation)))[:T]

    def __getitem__(self, times: slice) -> "Plan":
        return replace(self, mean=self.mean[times], deviation=self.deviation[times])

    def drawn(self, xi: Float[Tensor, "N T k"]) -> Float[Tensor, "N T k"]:
        """Return w from standard normal ξ."""
        if not self.correlation:
            return self.mean + self.deviation * xi
        T, rho = len(self.mean), self.correlation
        t = torch.arange(T, dtype=torch.float64)
        root = (rho ** (t.unsqueeze(-1) - t)).tril() * self._new(T).squeeze(-1)  # ε = root ξ
        return self.mean + self.deviation * torch.einsum("tu,nuk->ntk", root, xi)

    def log_prob(self, w: Float[Tensor, "N T k"]) -> Float[Tensor, "N T"]:
        """Return ``log q(w_t | w_0 … w_{t-1})``, nats."""
        epsilon, new = (w - self.mean) / self.deviation, self._new(len(self.mean))
        before = torch.nn.functional.pad(epsilon, (0, 0, 1, 0))[:, :-1]
        xi = (epsilon - self.correlation * before) / new
        return log_normal(xi) - (new * self.deviation).log().sum(-1)

    def _new(self, T: int) -> Float[Tensor, "T 1"]:
        """Return the share of ε_t that is new at t: 1 at first, then √(1-ρ²)."""
        new = torch.full((T, 1), (1 - self.correlation**2) ** 0.5, dtype=torch.float64)
        new[:1] = 1
        return new


def open_loop_law(plan: Plan, n: int, t: int) -> ConditionalGaussian:
    """Return the law of w_t over states of n numbers, which it does not depend on."""
    return ConditionalGaussian(plan.mean.new_zeros(plan.mean.shape[-1], n), plan.mean[t], plan.deviation[t].diag())
