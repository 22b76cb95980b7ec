"""A learned baseline for the score function: the expected nats from a state and time on."""

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro.ops.provenance import detach_provenance
from torch import Tensor, nn

from cai.policies.neural import First
from cai.world.definition import World
from cai.world.program import Actor
from cai.world.spec import read


class Baseline(nn.Module):
    """b_t(s), nats: a network that ``TraceGraph_ELBO`` fits to the downstream cost and takes off it.

    ``Σ_t ∇log π(a_t|s_t) (cost_t - b_t(s_t))`` has the same mean for every b and less variance for a good one (Mnih and
    Gregor 2014). It starts at the share ``(1 - t/T)`` of the whole ELBO, and counts in its standard deviation.

    Args:
        world: with a finite horizon.
        mean, deviation: of ``log p(τ, O=1) - log p̂(τ)`` under the first policy, nats.
    """

    offset: Tensor

    def __init__(self, world: World, mean: float, deviation: float, width: int = 64) -> None:
        super().__init__()
        spec = read(world)
        T = spec.horizon or 1
        self.register_buffer("offset", mean * (1 - torch.arange(T, dtype=torch.float64) / T))
        self.deviation = deviation
        states = spec.variables.states
        self.single = states[0].name
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(First(states, width, spec.horizon, features=0), nn.Tanh(), last).double()

    def forward(self, state: Any, t: int) -> Tensor:
        """Return b_t(s), nats, of the state's batch shape; no derivative flows into the state."""
        values = dict(state) if isinstance(state, Mapping) else {self.single: state}
        plain = {name: detach_provenance(value).detach() for name, value in values.items()}
        value: Tensor = self.offset[t] + self.deviation * self.net({**plain, "t": t}).squeeze(-1)
        return value


class _WithBaseline:
    def __init__(self, policy: Actor, baseline: Baseline) -> None:
        self.policy, self.baseline = policy, baseline

    def act(self, state: Any, t: int) -> Any:
        options: Any = {"baseline": {"baseline_value": self.baseline(state, t)}}
        with pyro.poutine.infer_config(config_fn=lambda site: options):
            return self.policy.act(state, t)


def with_baseline(policy: Actor, baseline: Baseline) -> Actor:
    """Return the policy whose action sites carry the baseline for ``TraceGraph_ELBO``."""
    return _WithBaseline(policy, baseline)
