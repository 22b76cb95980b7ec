"""Factors under a rule: the same equations as on tables, each mean taken by variable elimination."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.compile.factor_model import Factors, total
from cai.errors import Finding, IntractableError
from cai.exact import finite
from cai.exact.cost import Cost
from cai.exact.factors.factor_conditionals import FactorConditionals
from cai.exact.factors.flattened import flattened
from cai.exact.factors.prepared_slice import PreparedSlice
from cai.exact.lifetime import summed
from cai.exact.operator import Pick
from cai.exact.rounding import WARM, Rounding, at_hand, largest
from cai.exact.rule_means import Expect
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.survival import Survival
from cai.exact.tables.backup import Equation, Tilt
from cai.policies.fixed import FixedPolicy
from cai.support.memo import Memo
from cai.support.numerics import nats

MAX_BYTES = 6e9
"""What a solve may hold: more is refused before it is begun."""
ULPS = 64
"""Units in the last place that an elimination may lose, of the largest number that it handles."""
_PLANS: Memo[dict[int, PreparedSlice]] = Memo(most=1)  # for the current numbers


@dataclass(frozen=True, eq=False)
class FactorOperator:
    """Factors under a rule; see ``Operator``. Values are over the joint states, ``[S]``.

    Attributes:
        model: the factors.
        rule: how outcomes and actions are marginalised.
        alpha: the temperature, reward units.
    """

    model: Factors
    rule: Rule
    alpha: Tensor
    form: str = "factors"

    act = finite.act
    score = finite.score
    states_under = finite.states_under
    expect = expect_state = finite.expect
    in_play = finite.in_play
    total = finite.total
    by_place = finite.by_place
    standard_error = finite.standard_error
    start_luck = finite.start_luck
    shortfall = finite.shortfall
    measured = finite.measured
    entries = property(finite.entries)

    def __reduce__(self) -> Any:
        return FactorOperator, (self.model, self.rule, self.alpha)  # prepared data is computed again in another process

    @property
    def batch_shape(self) -> torch.Size:
        """Empty: factors take one world at one temperature."""
        return torch.Size()

    @property
    def parts(self) -> "tuple[FactorOperator, ...]":
        """Itself alone: a world in one piece."""
        return (self,)

    def plan(self, t: int) -> PreparedSlice:
        """Return the slice of time t with its plans of elimination, which are kept with the factors."""
        slice_ = self.model.at(t)
        if id(slice_) not in self._plans:
            self._plans[id(slice_)] = PreparedSlice(self.model.variables, slice_)
        return self._plans[id(slice_)]

    @cached_property
    def _plans(self) -> dict[int, PreparedSlice]:
        if self.model.requires_grad:  # they hold a graph of their own for each solve
            return {}
        return _PLANS.of(self.model, self.model.version, dict)

    @property
    def survival(self) -> Survival:
        """The mean over going on and ending."""
        return Survival(self.rule.over_outcomes, self.alpha.unsqueeze(-1), self.model.log_survival)

    @cached_property
    def _terminal(self) -> Tensor:
        return total(self.model.terminal, self.model.states.names, self.model.states.sizes, self.model.dtype)

    def terminal(self) -> Tensor:
        """Return v_T, reward units, ``[S]``."""
        return self._terminal

    @cached_property
    def log_initial(self) -> Tensor:
        """log p(s_0), nats, ``[S]``."""
        return self.model.log_initial

    def backup(self, t: int, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Return v_t, reward units, ``[S]``."""
        q = self.q(t, v_next)
        return self.rule.over_actions.value(q, self.plan(t).log_prior, self.alpha.unsqueeze(-1))

    def places(self) -> list[None]:
        """Return no room: values are made anew, so that autograd may follow them."""
        return [None] * ((self.model.horizon or 0) + 1)

    def all_times(self, values: Sequence[Tensor], places: list[None] | None = None) -> Tensor:
        """Return what has a value at each time, ``[T+1, S]``."""
        return torch.stack(list(values))

    def at_once(self) -> None:
        """Return None: there is the sweep alone."""

    def limit(self) -> None:
        """Return None: backups lead to the fixed point."""

    def at(self, v: Tensor, t: int) -> Tensor:
        """Return v of time t."""
        return v if self.model.horizon is None else v[t]

    def q(self, t: int, v_next: Tensor) -> Tensor:
        """Return q, reward units, ``[S, A]``."""
        return self.plan(t).mean(self.rule.over_outcomes, self.survival.value(v_next), self.alpha)

    def start(self, v_0: Tensor) -> Tensor:
        """Return the start value, reward units."""
        return self.rule.over_outcomes.value(v_0, self.log_initial, self.alpha)

    def log_start(self, v_0: Tensor) -> Tensor:
        """Return log p(s_0) under the rule, nats, ``[S]``."""
        return self.rule.over_outcomes.log_weights(v_0, self.log_initial, self.alpha, self.start(v_0))

    def pick_start(self, v_0: Tensor, n: int, pick: Pick) -> Tensor:
        """Pick start states under the rule."""
        return pick.several(self.log_start(v_0), n)

    def begin(self, v_0: Tensor) -> Tensor:
        """Return p(s_0) under the rule, ``[*B, S]``."""
        return self.log_start(v_0).exp()

    def initial(self) -> Tensor:
        """Return p(s_0), ``[S]``."""
        return self.log_initial.exp()

    def log_prior(self, t: int) -> Tensor:
        """Return log p(a|s), nats, ``[S, A]``."""
        return self.plan(t).log_prior

    def log_policy(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> Tensor:
        """Return the rule's own log π_t(a|s), nats, ``[S, A]``."""
        tied = lambda v: finite.tied(self, t, self._sizes(t, v_next), error_bound, v)  # noqa: E731
        return finite.rule_policy(self.rule, self.q(t, v_next), self.log_prior(t), self.alpha, tied)

    def _sizes(self, t: int, v_next: Tensor) -> Tensor:
        return at_hand(v_next.new_full((1, 1, 1), self._largest_reward(t)), v_next)

    def _largest_reward(self, t: int) -> float:
        return sum((largest(piece.table) for piece in self.model.at(t).reward), 0.0)

    def conditionals(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> FactorConditionals:
        """Return the rule's own chain at time t."""
        log_policy = self.log_policy(t, v_next, error_bound)
        return FactorConditionals(self.plan(t), self.rule.over_outcomes, self.alpha, self.survival, v_next, log_policy)

    def tilt(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> Tilt:
        """Return the rule's own chain at time t, its outcomes listed: latents and next states, numbered jointly.

        Raises:
            IntractableError: they are too many.
        """
        equation = Equation(self.rule, flattened(self.plan(t)), self.alpha, self.model.log_survival)
        log_policy = self.log_policy(t, v_next, error_bound)  # of the elimination's q: the same ties, to the last digit
        return replace(equation.tilt(v_next), log_policy=log_policy)

    def policy(self, v: Tensor, error_bound: float) -> FixedPolicy:
        """Return the rule's own policy."""
        return finite.policy(self, v, error_bound)

    def pushing(self, v: Tensor, error_bound: float) -> Callable[[int, Tensor], Tensor]:
        """Return a step of the rule's own chain; it is not differentiable."""
        return torch.no_grad()(lambda t, mu: self.conditionals(t, v[t + 1], error_bound).push(mu))

    def own_visits(self, v: Tensor, start: Tensor, error_bound: float) -> Tensor:
        """Return p(s_t, alive) under the rule, summed over all times, ``[S]``."""
        with torch.no_grad():
            return summed(self.conditionals(0, v, error_bound).push, start)

    def forward(self, v: Tensor, states: Tensor) -> Tensor:
        """Return the forward messages of every time, nats, ``[T+1, S]``: -inf also where v is."""
        log_z = nats(self.start(v[0]), self.alpha)
        return states.log() - torch.where(v > -torch.inf, nats(v, self.alpha), 0.0) + log_z

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of states, actions and latents."""
        return (*self.model.states.names, *self.model.actions.names, *self.model.latents)

    def state_marginal(self, t: int, mu: Tensor, names: Sequence[str]) -> Tensor:
        """Return the marginal of some state variables, an axis each."""
        return finite.summed_out([self.model.states], mu, names)

    def marginal(self, t: int, mu: Tensor, v_next: Tensor, names: Sequence[str], error_bound: float) -> Tensor:
        """Return the marginal of some variables of a slice, an axis each."""
        joint = finite.joint(mu, self.log_policy(t, v_next, error_bound))
        if not set(names) & set(self.model.latents):
            return finite.summed_out([self.model.states, self.model.actions], joint, names)
        c = self.survival.value(v_next)
        return self.plan(t).spread(self.rule.over_outcomes, c, self.alpha, joint.detach(), tuple(names))

    def under(self, rule: Rule) -> "FactorOperator":
        """Return the same world under another rule, cut from autograd."""
        return FactorOperator(self.model.detach(), rule, self.alpha.detach())

    def entry(self, index: int) -> "FactorOperator":
        """Return itself: there is no batch."""
        return self

    def joint(self, mu: Tensor, log_pi: Tensor) -> Tensor:
        """Return p(s_t, a_t, alive), ``[S, A]``."""
        return finite.joint(mu, log_pi)

    def push(self, t: int, joint: Tensor) -> Tensor:
        """Return p(s_{t+1}, alive), ``[S]``."""
        return self.model.discount * self.plan(t).step(joint)

    def visits(self, log_pi: Tensor) -> Tensor:
        """Return p(s_t, alive) summed over all times, ``[S]``."""
        return summed(lambda mu: self.push(0, finite.joint(mu, log_pi)), self.initial())

    def expected_reward(self, t: int) -> Tensor:
        """Return E[r|s, a], reward units, ``[S, A]``."""
        return self.plan(t).expected_reward

    def luck(self, t: int, v_next: Tensor) -> Tensor:
        """Return KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats, ``[S, A]``.

        Since log p(outcome|O) = log p(outcome) + (r + v' - q)/α, this is ``(q - E[r + v'])/α`` of POSTERIOR; 0 where q
        is -inf, since nothing is tilted there.
        """
        averaged = Survival(VARIATIONAL.over_outcomes, self.survival.alpha, self.model.log_survival)
        mean = self.plan(t).mean(Expect(), averaged.value(v_next), self.alpha)
        q = self.q(t, v_next)
        return torch.where(q == -torch.inf, 0.0, q - mean) / self.alpha

    def chain(self, v: Tensor) -> None:
        """Return None: the derivative of a backup is not laid out."""

    def require_room(self) -> None:
        """Raise where messages or a step of the elimination need too much memory.

        Raises:
            IntractableError: it is so.
        """
        S, A = self.model.states.size, self.model.actions.size
        need = self.bytes_needed()
        if need > MAX_BYTES:
            seen = f"S = {S:,} joint states, A = {A:,} actions: messages and elimination need {need:,.0f} bytes"
            raise IntractableError([Finding("factors", seen, f"at most {MAX_BYTES:,.0f}")])

    def bytes_needed(self) -> float:
        """Predict the memory of a solve: messages of all times, q of one, and the largest step of the elimination.

        The plan, which takes long for very many actions, is looked at only if the rest is not too much already.
        """
        S, A, T = self.model.states.size, self.model.actions.size, self.model.horizon or 1
        need = 8.0 * S * (T + 1.0 + 3.0 * A)
        return need if need > MAX_BYTES else need + 8 * self.cost().peak

    def cost(self) -> Cost:
        """Predict what the costliest backup takes."""
        times = range(self.model.horizon or 1) if self.model.timed else (0,)
        costs = [self.plan(t).cost(self.rule.over_outcomes) for t in times]
        return Cost(max(cost.work for cost in costs), max(cost.peak for cost in costs))

    def rounding(self) -> Rounding:
        """Return a bound on the rounding of one backup: elimination takes plain logarithms."""
        warm = WARM if self.rule.averages else math.inf
        return Rounding(self._largest_reward(0), float(self.alpha), ULPS, warm)
