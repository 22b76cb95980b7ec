"""The rule's policy, dynamics and survival on factors."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cai.exact import finite
from cai.exact.factors.outcome_sampling import following
from cai.exact.factors.prepared_slice import PreparedSlice
from cai.exact.operator import Pick
from cai.exact.rule_means import Mean
from cai.exact.survival import Survival


@dataclass(frozen=True, eq=False)
class FactorConditionals:
    """The chain at one time; see ``Conditionals``.

    Attributes:
        plan: the slice and its plans of elimination.
        over: the rule's mean over outcomes.
        alpha: the temperature, reward units.
        survival: the mean over going on and ending.
        v_next: the messages of the next time, reward units, ``[S]``.
        log_policy: log π_t(a|s), nats, ``[S, A]``.
    """

    plan: PreparedSlice
    over: Mean
    alpha: Tensor
    survival: Survival
    v_next: Tensor
    log_policy: Tensor

    @cached_property
    def _c(self) -> Tensor:
        return self.survival.value(self.v_next)

    @cached_property
    def _log_survival(self) -> Tensor:
        return self.survival.log_weights(self.v_next, self._c)

    def push(self, mu: Tensor) -> Tensor:
        """Return p(s_{t+1}, alive), ``[S]``."""
        flow = self.plan.pull(self.over, self._c, self.alpha, finite.joint(mu, self.log_policy))
        return flow * self._log_survival[:, 0].exp() if self.survival.is_mortal else flow

    def action(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick actions in states ``s [N]``."""
        return pick(self.log_policy[s])

    def outcome(self, s: Tensor, a: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Pick the next states and latents of actions ``a [N]``; return the states and the rewards, reward units."""
        return following(self.plan, self.over, self._c, self.alpha, s, a, pick)

    def survives(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick whether the trajectory goes on from next states ``s [N]``."""
        if not self.survival.is_mortal:
            return torch.ones_like(s, dtype=torch.bool)
        return pick(self._log_survival[s]) == 0
