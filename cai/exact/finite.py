"""Operators over numbered states and actions: what they share in every compiled form.

V and M are ``[*B, S]``, F and MF are ``[*B, S, A]``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from cai.errors import require_time
from cai.exact.operator import Operator
from cai.exact.rounding import tied_from
from cai.exact.rule_means import is_maximum
from cai.exact.rules import HARD, Rule
from cai.policies.as_policy import policy_table, weights_in_play
from cai.policies.fixed import FixedPolicy
from cai.policies.protocol import FinitePolicy
from cai.support.memo import Memo
from cai.support.memory import TENSOR, require_room
from cai.world.spaces import Space

MOST = 1 << 20
"""Entries of the tables of all times of a policy that are worth keeping."""
_TABLES: Memo[Tensor] = Memo(most=MOST)


def rule_policy(rule: Rule, q: Tensor, log_prior: Tensor, alpha: Tensor, tied: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the rule's log π(a|s), nats: ``log p(a|s) + (q - v)/α`` for a soft rule, the maximisers for a hard one.

    Equally good best actions are taken in proportion to the prior. In a state with v = -inf the policy is the prior.

    Args:
        rule: how actions are marginalised.
        q: reward units.
        log_prior: log p(a|s), nats.
        alpha: temperatures, reward units, ``[*B]``.
        tied: from v to the score from which on choices are tied.
    """
    over, a = rule.over_actions, alpha[..., None]
    return over.log_weights(q, log_prior, a, tied(over.value(q, log_prior, a)))


def tied(op: Operator, t: int, sizes: Tensor, error_bound: float, value: Tensor) -> Tensor:
    """Return the score from which on choices of time t are tied; the value itself where the mean is no maximum."""
    if not is_maximum(op.rule.over_actions):
        return value
    T = op.model.horizon
    return tied_from(value, sizes, 0 if T is None else T - t, error_bound)


def policy(op: Operator, v: Tensor, error_bound: float) -> FixedPolicy:
    """Return the rule's policy; the table of time t is computed on demand."""
    model = op.model
    return FixedPolicy(RuleTables(op, v, error_bound), model.states, model.actions, model.horizon)


@dataclass(frozen=True, eq=False)
class RuleTables:
    """The tables of a rule's policy, computed when they are asked for, and kept where they are few."""

    op: Operator
    v: Tensor
    error_bound: float

    def __call__(self, t: int) -> Tensor:
        """Return the table of time t; every time alike for the infinite horizon."""
        T = self.op.model.horizon
        t = require_time("t", t, T)
        if not self.lasting or torch.is_inference_mode_enabled():
            return self._computed(t)
        return _TABLES.of(self, 0 if T is None else t, partial(self._computed, t))

    @cached_property
    def lasting(self) -> bool:
        """Whether the tables are kept: all of them together are of modest size, and none has a gradient."""
        op, times = self.op, self.op.model.horizon or 1
        learned = self.v.requires_grad or op.model.requires_grad or op.alpha.requires_grad
        return not learned and times * op.batch_shape.numel() * entries(op) <= MOST

    def _computed(self, t: int) -> Tensor:
        table: Tensor = self.op.log_policy(t, self.op.at(self.v, t + 1), self.error_bound)
        return table


def joint(mu: Tensor, log_pi: Tensor) -> Tensor:
    """Return p(s) π(a|s)."""
    return mu.unsqueeze(-1) * log_pi.exp()


def measured(op: Any, policy: Any, samples: int, seed: int) -> Any:
    """Return the operator itself: over numbered states any policy is evaluated exactly."""
    return op


def entries(op: Operator) -> int:
    """Return S·A."""
    size: int = op.model.states.size * op.model.actions.size
    return size


def act(op: Operator, policy: FinitePolicy, t: int) -> Tensor:
    """Return log π_t(a|s), nats, ``[S, A]``, checked."""
    return policy_table(op.model, policy, t)


def score(op: Operator, t: int, log_pi: Tensor) -> Tensor:
    """Return log π_t(a|s), nats, ``[S, A]``."""
    return log_pi


def states_under(op: Operator, acts: Callable[[int], Tensor]) -> Tensor:
    """Return p(s_t, alive) of every time, ``[T+1, S]``; one row, the sum over all times, for the infinite horizon.

    Raises:
        IntractableError: the accounts need more memory than there is.
    """
    T, S = op.model.horizon, op.model.states.size
    rows = T or 1
    require_room("evaluate", f"five accounts of S = {S:,} states at T = {rows:,} times", 5 * rows * (8 * S + TENSOR))
    if T is None:
        summed: Tensor = op.visits(acts(0))
        return summed.unsqueeze(0)
    mu: list[Tensor] = [op.initial()]
    for t in range(T):
        mu.append(op.push(t, op.joint(mu[-1], acts(t))))
    return torch.stack(mu)


def expect(op: Operator, weights: Tensor, x: Tensor) -> Tensor:
    """Return Σ weights x over the last axis; an entry of weight 0 counts 0, even if x is infinite."""
    return torch.where(weights > 0, weights * x, 0.0).sum(-1)


def in_play(op: Operator, joint: Tensor) -> Tensor:
    """Return p(s, a, alive), 0 in ended states, where there are no actions."""
    return weights_in_play(op.model, joint)


def total(op: Operator, expected: Tensor) -> Tensor:
    """Return the sum over states."""
    return expected.sum().double()


def by_place(op: Operator, account: Tensor) -> Tensor:
    """Return the account, which is by state."""
    return account


def standard_error(op: Operator, total: Tensor) -> float:
    """Return 0: expectations are exact."""
    return 0.0


def start_luck(op: Operator, v_0: Tensor) -> Tensor:
    """Return KL(p(s_0) ‖ p(s_0|O)), nats."""
    log_p: Tensor = op.model.log_initial
    return expect(op, log_p.exp(), log_p - op.log_start(v_0))


def shortfall(op: Operator, t: int, v_next: Tensor) -> Tensor:
    """Return v* - q* of HARD, reward units, ``[S, A]``: the loss of each action; 0 where v* is not finite."""
    q, log_prior = op.q(t, v_next), op.log_prior(t)
    v = HARD.over_actions.value(q, log_prior, q.new_ones(())).unsqueeze(-1)
    return torch.where(v == -torch.inf, 0.0, v - q)


def summed_out(spaces: Sequence[Space], joint: Tensor, names: Sequence[str]) -> Tensor:
    """Sum a joint measure, an axis a space at its end, out to some variables, ``[*B]`` and one axis each as given."""
    sizes, number = [], torch.zeros((), dtype=torch.long, device=joint.device)
    for name in names:
        axis, space = next((i, space) for i, space in enumerate(spaces) if name in space.names)
        values = space.split(torch.arange(space.size, device=joint.device))[name].long()
        sizes.append(space.sizes[space.names.index(name)])
        number = number * sizes[-1] + values.reshape(-1, *(1,) * (len(spaces) - 1 - axis))
    where = number.expand([space.size for space in spaces]).reshape(-1)
    batch = joint.shape[: joint.dim() - len(spaces)]
    total = joint.new_zeros(*batch, math.prod(sizes)).index_add(-1, where, joint.reshape(*batch, -1))
    return total.reshape(*batch, *sizes)
