"""Switching linear-Gaussian worlds under a rule: given its modes, a world is linear-Gaussian.

Where outcomes are averaged, the value of a mode is one quadratic (coupled Riccati equations: Costa, Fragoso and Marques
2005, chapter 4):

    q_i(x, a) = Σ_e p(e|i) E[r_e + γ v'_j(e)],     v_i(x) = mean over a of q_i

Else each sequence of future modes has a quadratic of its own; all of them are backed up as a batch:

    exp(v_i(x)/α) = Σ_e p(e|i) Σ_c exp(v_e,c(x)/α)     under POSTERIOR;  a maximum under MAP

with one sequence more at each time at which the trajectory may end (γ < 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from cai.compile.by_mode import ConditionalsByMode, GaussiansByMode, QuadraticsByMode, picked
from cai.compile.quadratic import Quadratic
from cai.compile.switching_model import SwitchingLinear
from cai.errors import Finding, IntractableError, NoClosedFormError, require_time
from cai.exact.cost import Cost
from cai.exact.gaussian import expectations
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.gaussian.normal_means import assumption_of
from cai.exact.operator import Pick
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.switching import marginals, mode_draws, mode_expectations
from cai.exact.switching.sequences import require_few, sequences
from cai.exact.switching.switching_chain import SwitchingChain
from cai.policies.switching_policy import SwitchingPolicy


@dataclass(frozen=True, eq=False)
class SwitchingOperator:
    """A switching linear-Gaussian world under a rule; see ``Operator``.

    Attributes:
        model: the compiled world.
        rule: how modes, noise and actions are marginalised.
        alpha: the temperature, reward units.

    Raises:
        IntractableError: a mean has no ``assumption()``; or the discount is below 1 and densities of trajectories of
            different lengths would be compared.
    """

    model: SwitchingLinear
    rule: Rule
    alpha: Tensor
    form: str = "switching"

    act = mode_expectations.act
    score = mode_expectations.score
    states_under = mode_expectations.states_under
    expect = expect_state = mode_expectations.expect
    in_play = expectations.in_play
    total = expectations.total
    by_place = expectations.by_place
    standard_error = expectations.standard_error
    start_luck = mode_expectations.start_luck
    shortfall = mode_expectations.shortfall
    measured = mode_expectations.measured
    entries = property(mode_expectations.entries)
    variables = property(marginals.variables)
    state_marginal = marginals.state_marginal
    marginal = marginals.marginal
    forward = marginals.forward
    log_start = marginals.log_start
    draw_start = mode_draws.draw_start
    draw = mode_draws.draw

    def __post_init__(self) -> None:
        assumption_of(self.rule.over_actions)
        if assumption_of(self.rule.over_outcomes).kind == "maximum" and self.model.discount < 1:
            seen = (
                f"{self.rule} with γ = {self.model.discount:g}: a trajectory that ends has a density of fewer variables"
            )
            raise IntractableError([Finding("discount", seen, "a discount of 1, or another rule")])

    @property
    def batch_shape(self) -> torch.Size:
        """Empty: one world at one temperature."""
        return torch.Size()

    @property
    def parts(self) -> "tuple[SwitchingOperator, ...]":
        """Itself alone: a world in one piece."""
        return (self,)

    @cached_property
    def survival(self) -> Tensor:
        """γ."""
        return self.alpha.new_tensor(self.model.discount)

    @cached_property
    def _eta(self) -> Tensor | None:
        """η of a soft mean over outcomes; None for an average and a maximum."""
        said = assumption_of(self.rule.over_outcomes)
        if said.kind != "linear":
            return None
        return self.alpha if said.eta is None else self.alpha.new_tensor(said.eta)

    def along(self, t: int, switches: Tensor) -> GaussianOperator:
        """Return the linear-Gaussian worlds of these switches as a batch, under the rule."""
        return GaussianOperator(self.model.along(t, switches), self.rule, self.alpha)

    @cached_property
    def _every(self) -> Tensor:
        """All switches."""
        return torch.arange(len(self.model.source), device=self.model.device)

    def _by_mode(self, each: Quadratic, eta: Tensor | None = None) -> QuadraticsByMode:
        modes = torch.arange(len(self.model.first), device=self.model.device)
        return QuadraticsByMode(modes, each, eta, self.model.first)

    def terminal(self) -> QuadraticsByMode:
        """Return v_T, reward units."""
        return self._by_mode(self.model.terminal, self._eta)

    def backup(self, t: int, v_next: QuadraticsByMode, out: Any = None) -> QuadraticsByMode:
        """Return v_t, reward units."""
        return self.best(t, self.q(t, v_next))

    def best(self, t: int, q: QuadraticsByMode) -> QuadraticsByMode:
        """Return v_t from q, reward units: the mean over actions."""
        return replace(q, each=self.along(t, _first_of(q)).over_actions(t, q.each).value)

    def q(self, t: int, v_next: QuadraticsByMode) -> QuadraticsByMode:
        """Return q of the mode and (x, a), reward units."""
        if self.rule.averages:
            v = picked(v_next.each, self.model.target) * self.survival
            return self._by_mode(self._average(t, self.along(t, self._every).q(t, v)))
        to_come = sequences(self.model, t, v_next)
        each = self.along(t, to_come.switch).q(t, to_come.value)
        priced = replace(each, c=each.c + self._price(to_come.log_p))
        modes = self.model.source[to_come.switch]
        return self._summed(QuadraticsByMode(modes, priced, self._eta, to_come.switch, to_come.tail))

    def _average(self, t: int, each: Quadratic) -> Quadratic:
        """Return ``Σ_e p(e|i) f_e`` of each mode."""
        p, source = self.model.at(t)[0].exp(), self.model.source
        weighted = each * p

        def summed(x: Tensor) -> Tensor:
            return x.new_zeros(len(self.model.first), *x.shape[1:]).index_add(0, source, x)

        return Quadratic(summed(weighted.M), summed(weighted.b), summed(weighted.c))

    def _price(self, log_p: Tensor) -> Tensor:
        """Return the reward that stands for the probability of a switch, α log p or 0, reward units."""
        if self._eta is not None:
            return self._eta * log_p
        return self.alpha * log_p if assumption_of(self.rule.over_outcomes).paid else 0 * log_p

    def _summed(self, q: QuadraticsByMode) -> QuadraticsByMode:
        """Return q, where the mean over actions commutes with the sum, or the maximum, over sequences.

        Raises:
            IntractableError: it does not.
        """
        over, act = assumption_of(self.rule.over_outcomes), assumption_of(self.rule.over_actions)
        same = act.kind == over.kind and (over.kind == "maximum" or self._eta == (act.eta or self.alpha))
        if same or len(q) == len(self.model.first):
            return q
        seen = f"{self.rule} over several sequences of modes: its means over actions and over modes do not commute"
        raise IntractableError([Finding("rule", seen, "POSTERIOR, MAP, VARIATIONAL or HARD")])

    def places(self) -> None:
        """Return nothing: quadratics are made anew."""

    def all_times(self, values: Sequence[Any], places: Any = None) -> tuple[Any, ...]:
        """Return values or measures of all times: their components differ in number."""
        return tuple(values)

    def at_once(self) -> None:
        """Return nothing: the sweep is the only way."""

    def limit(self) -> None:
        """Return None: backups alone lead to a fixed point."""

    def at(self, v: Any, t: int) -> Any:
        """Return the value or the measure of time t."""
        return v[t]

    def _start(self, v_0: QuadraticsByMode) -> tuple[Tensor, Tensor]:
        """Return the start value of each sequence, reward units, and log p of the mode it starts in."""
        return self.along(0, _first_of(v_0)).start(v_0.each), self.model.log_modes[v_0.modes]

    def start(self, v_0: QuadraticsByMode) -> Tensor:
        """Return the start value, reward units."""
        value, log_p = self._start(v_0)
        return self.rule.over_outcomes.value(value, log_p, self.alpha)

    def _log_sequences(self, v_0: QuadraticsByMode) -> Tensor:
        """Return the log-probability of each sequence under the rule, ``[C]``; of each mode where they are averaged."""
        value, log_p = self._start(v_0)
        whole = self.rule.over_outcomes.value(value, log_p, self.alpha)
        return self.rule.over_outcomes.log_weights(value, log_p, self.alpha, whole)

    def begin(self, v_0: QuadraticsByMode) -> GaussiansByMode:
        """Return p(s_0) under the rule."""
        each = self.along(0, _first_of(v_0)).begin(v_0.each)
        whole = replace(each, mass=self._log_sequences(v_0).exp())
        follows = None if self.rule.averages else torch.arange(len(v_0), device=self.model.device)
        return GaussiansByMode(v_0.modes, whole, len(self.model.first), follows)

    def initial(self) -> GaussiansByMode:
        """Return p(s_0)."""
        each = self.along(0, self.model.first).initial()
        modes = torch.arange(len(self.model.first), device=self.model.device)
        return GaussiansByMode(modes, replace(each, mass=self.model.log_modes.exp()), len(modes))

    def pick_start(self, v_0: QuadraticsByMode, n: int, pick: Pick) -> Tensor:
        """Pick n start states under the rule, ``[N, 1 + n]``."""
        chosen = pick.several(self._log_sequences(v_0), n)
        begun = picked(self.along(0, _first_of(v_0)).begun(v_0.each), chosen)
        noise = pick.normal(begun.offset, begun.scale.shape[-1])
        x = begun.offset + (begun.scale @ noise.unsqueeze(-1)).squeeze(-1)
        return self.model.states.row(v_0.modes[chosen], x)

    def log_prior(self, t: int) -> QuadraticsByMode:
        """Return log p(a|s) of the mode and (x, a), nats: a density; 0 where the prior is flat."""
        return self._by_mode(self.along(t, self.model.first).log_prior(t))

    def log_policy(self, t: int, v_next: QuadraticsByMode, error_bound: float = 0.0) -> ConditionalsByMode:
        """Return the rule's own policy of time t."""
        return self._acting(t, self.q(t, v_next))

    def _acting(self, t: int, q: QuadraticsByMode) -> ConditionalsByMode:
        return ConditionalsByMode(self.best(t, q), self.along(t, _first_of(q)).acting(t, q.each))

    def conditionals(self, t: int, v_next: QuadraticsByMode, error_bound: float = 0.0) -> SwitchingChain:
        """Return the rule's own chain at time t."""
        q, model = self.q(t, v_next), self.model
        acts = self._acting(t, q)
        if self.rule.averages:
            log_p = model.at(t)[0]
            along, value = self.along(t, self._every), picked(v_next.each, model.target)
            as_before = replace(Quadratic.zero(q.each.dimension, log_p, log_p.shape), c=log_p)
            switches = QuadraticsByMode(model.source, as_before, log_p.new_ones(()), self._every)
        else:
            to_come = sequences(model, t, v_next)
            along, value, switches = self.along(t, to_come.switch), to_come.value, q
        noise = along.over_noise(t, value).tilted
        tilted = None if self.rule.averages else v_next
        target = model.target[_first_of(switches)]
        return SwitchingChain(model.states, acts, switches, along.model.slices, noise, target, self.survival, tilted)

    def tilt(self, t: int, v_next: QuadraticsByMode, error_bound: float = 0.0) -> SwitchingChain:
        """Return the rule's own chain at time t."""
        return self.conditionals(t, v_next, error_bound)

    def policy(self, v: Any, error_bound: float) -> SwitchingPolicy:
        """Return the rule's own policy: affine-Gaussian in each mode, or a mixture over sequences of modes."""
        model = self.model
        return SwitchingPolicy(partial(_policy_at, self, v), model.states, model.actions, model.horizon)

    def pushing(self, v: Any, error_bound: float) -> Callable[[int, GaussiansByMode], GaussiansByMode]:
        """Return a step of the rule's own chain."""
        return lambda t, mu: self.conditionals(t, self.at(v, t + 1), error_bound).push(mu)

    def under(self, rule: Rule) -> "SwitchingOperator":
        """Return the same world under another rule, cut from autograd."""
        return SwitchingOperator(self.model.detach(), rule, self.alpha.detach())

    def joint(self, mu: GaussiansByMode, log_pi: ConditionalsByMode) -> GaussiansByMode:
        """Return p(s_t, a_t, alive) where a policy acts that is affine-Gaussian in each mode, or the rule's own."""
        if mu.follows is None and not log_pi.is_affine:
            seen = "a policy that is a mixture in each mode, as POSTERIOR's: its marginals have too many Gaussians"
            raise NoClosedFormError([Finding("policy", seen, "one that is affine-Gaussian in each mode")])
        component = mu.modes if mu.follows is None else mu.follows
        return replace(mu, each=picked(log_pi.each, component).joint(mu.each))

    def push(self, t: int, joint: GaussiansByMode) -> GaussiansByMode:
        """Return p(s_{t+1}, alive) under the true dynamics: the moments of each mode."""
        model, merged = self.model, joint.merged
        before = picked(merged.each, model.source)
        each = self.along(t, self._every).push(t, before)
        mass = each.mass * model.at(t)[0].exp() * self.survival
        return GaussiansByMode(model.target, replace(each, mass=mass), joint.count).merged

    def expected_reward(self, t: int) -> QuadraticsByMode:
        """Return E[r|s, a], reward units."""
        return self._by_mode(self._average(t, self.along(t, self._every).expected_reward(t)))

    def luck(self, t: int, v_next: QuadraticsByMode) -> QuadraticsByMode:
        """Return KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats, where there is one switch a mode.

        Raises:
            NoClosedFormError: there are several, so the value is the log of a sum.
        """
        q = self.q(t, v_next)
        if not (q.is_single and v_next.is_single):
            raise mode_expectations.log_of_a_sum()
        lucky: QuadraticsByMode = (q - replace(self, rule=VARIATIONAL).q(t, v_next)) * (1 / self.alpha)
        return lucky

    def require_room(self) -> None:
        """Raise where there are too many sequences of modes, each with a quadratic.

        Raises:
            IntractableError: there are, and the rule does not average outcomes; or the horizon is infinite.
        """
        if self.model.horizon is None:
            raise IntractableError([Finding("horizon", "None, in a switching linear-Gaussian world", "a finite one")])
        if not self.rule.averages:
            require_few(self.model, f"{self.rule}")

    def cost(self) -> Cost:
        """Predict what a backup takes: products of matrices, one for each switch."""
        E, N = self.model.slices.transition.shape[-3], self.model.slices.transition.shape[-1]
        return Cost(float(N**3 * E), float(N**2 * E))


def _first_of(f: QuadraticsByMode) -> Tensor:
    """Return the switch that each component takes first."""
    assert f.switch is not None
    return f.switch


def _policy_at(op: SwitchingOperator, v: Any, t: int) -> ConditionalsByMode:
    return op.log_policy(t, op.at(v, require_time("t", t, op.model.horizon) + 1))
