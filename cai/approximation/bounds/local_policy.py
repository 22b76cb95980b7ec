"""The softmax policy of local value functions: it acts in worlds whose states are too many to be listed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.bounds.look_ahead import LookAhead, States
from cai.compile.factor_model import Factor
from cai.policies.protocol import sample_joint, scored
from cai.world.spaces import Values


@dataclass(frozen=True, eq=False)
class LocalPolicy:
    """π_t(a|s) ∝ p(a|s) exp(q_t(s, a)/α) with q_t = E[r + γ v_{t+1} | s, a], for any v that is a sum of local tables.

    Attributes:
        ahead: the world.
        values: v_0 … v_T, reward units: for each time the tables whose sum it is.
        temperature: α, reward units.
    """

    ahead: LookAhead
    values: Sequence[Sequence[Factor]]
    temperature: float

    log_prob = scored

    def choice(self, t: int, states: States) -> tuple[Float[Tensor, "N A"], Float[Tensor, " N"]]:
        """Return log π_t(a|s), nats, and the backup ``α log Σ_a p(a|s) exp(q_t(s, a)/α)``, reward units.

        Where an episode has ended, or nothing is possible, it takes the action prior.
        """
        log_prior, q = self.ahead.log_prior(t, states), self.ahead.q(t, states, self.values[t + 1])
        ends = self.ahead.factors.ends
        if ends is not None:
            over = ends.table[tuple(states[name] for name in ends.scope)]
            q = torch.where(over.unsqueeze(-1), 0.0, q)
        scores = log_prior + q / self.temperature
        total = scores.logsumexp(-1)
        lost = (total == -torch.inf).unsqueeze(-1)
        log_pi = torch.where(lost, log_prior, scores - torch.where(lost.squeeze(-1), 0.0, total).unsqueeze(-1))
        return log_pi, self.temperature * total

    def log_probs_at(self, state: Values, t: int = 0) -> Float[Tensor, "*N A"]:
        """Return log π_t(a|s) of all A actions at states as the world speaks of them, nats."""
        named = self.ahead.factors.states.unpack(state)
        shape = torch.broadcast_shapes(*(value.shape for value in named.values()))
        flat = {name: value.expand(shape).reshape(-1).long() for name, value in named.items()}
        log_pi, _ = self.choice(t, flat)
        return log_pi.reshape(*shape, -1)

    def act(self, state: Values, t: int) -> Values:
        """Sample a_t given s_t, at the world's own action sites."""
        return sample_joint(self.ahead.factors.actions, self.log_probs_at(state, t))
