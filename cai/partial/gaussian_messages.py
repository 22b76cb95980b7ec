"""The best policy that sees only readings, of linear-Gaussian worlds (LQG), and its messages over Gaussian beliefs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import fault, require_time
from cai.exact.forms import operator
from cai.exact.gaussian.gaussian_reasons import GaussianReasons
from cai.exact.messages import Messages
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.solve import solved
from cai.exact.temperature import single_temperature
from cai.partial.gaussian_beliefs import GaussianBeliefs, gaussian_beliefs
from cai.partial.gaussian_worlds import (
    belief_world,
    covariances,
    estimated,
    require_no_evidence,
    steady_world,
    until_steady,
    world_until,
)
from cai.partial.kalman import Correction, kalman, transitions_of
from cai.partial.output_feedback import OutputFeedback, closed_loop, output_feedback
from cai.partial.real_records import Vectors
from cai.policies.gaussian_action import GaussianAction
from cai.world.definition import World


@dataclass(frozen=True, repr=False)
class GaussianBeliefMessages:
    """The messages of one rule over Gaussian beliefs N(m_t, Σ_t): quadratics of m_t, since Σ_t is known.

    The members have the names and the meaning of ``BeliefMessages``'.

    Attributes:
        engine: the compiled world, and p(y|s).
        messages: those of the world whose state is m (``cai.partial.gaussian_worlds.belief_world``); of an infinite
            horizon up to the time from which Σ_t is constant.
        full: the messages of the same rule where the state is seen.
        steady: the messages from that time on, of an infinite horizon; None for a finite one.
    """

    engine: GaussianBeliefs
    messages: Messages
    full: Messages
    steady: Messages | None = None

    def __repr__(self) -> str:
        seen = f"{self.engine.seen.space.dimension} numbers read"
        about = f"{self.rule} at temperature {float(self.temperature):g} on {self.engine.model}"
        return f"GaussianBeliefMessages({about}, {seen}, value {float(self.value):.6g})"

    @property
    def rule(self) -> Rule:
        """VARIATIONAL or HARD."""
        return self.messages.rule

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """α, reward units."""
        return self.messages.temperature

    @property
    def horizon(self) -> int | None:
        """T, or None for the infinite horizon."""
        return self.engine.model.horizon

    @property
    def error_bound(self) -> float:
        """A proved bound on the error of ``value`` given the covariances, reward units; 0 for a finite horizon."""
        return self.messages.error_bound if self.steady is None else self.steady.error_bound

    @property
    def value(self) -> Float[Tensor, "*B"]:
        """The start value, reward units."""
        return self.messages.value

    @property
    def elbo(self) -> Float[Tensor, "*B"]:
        """The best ELBO over policies that depend on past readings and actions only, nats; VARIATIONAL only."""
        return self.messages.elbo

    @property
    def fully_observed(self) -> Float[Tensor, "*B"]:
        """The start value where the state itself is seen, reward units: no policy over beliefs has a better one."""
        return self.full.value

    @cached_property
    def qmdp(self) -> Float[Tensor, "*B"]:
        """The value of the QMDP policy, reward units: the policy of the fully observed world, with m in the place of s.

        E_b Q(s, a) is Q(m, a) plus a term without a, so QMDP has the gains of the fully observed world. They are the
        best over beliefs too (certainty equivalence), so this number is ``value``: no action is taken to gain
        information, because Σ_t does not depend on the actions. For an infinite horizon both policies are followed
        until Σ_t is constant.
        """
        op, policy, total = self.messages.operator, self.full.policy, torch.zeros_like(self.value)
        mu = op.initial()
        for t in range(self.messages.model.horizon or 0):
            act = policy.conditional(t)
            joint = op.joint(mu, act)
            total = total + joint.expect(op.expected_reward(t))
            if self.rule == VARIATIONAL:
                total = total - self.temperature * joint.expect(act.log_density() - op.log_prior(t))
            mu = op.push(t, joint)
        qmdp: Tensor = total + mu.expect(op.terminal())
        return qmdp

    def covariance(self, t: int) -> Float[Tensor, "*B n n"]:
        """Return Σ_t, the covariance of the belief after y_t: it does not depend on readings or actions."""
        return self._corrections[min(require_time("t", t, self.horizon), len(self._corrections) - 1)].covariance

    def v(self, t: int) -> Quadratic:
        """Return the value of the belief of time t as a function of its mean, reward units; t = 0 … T."""
        require_time("t", t, self.horizon, end=True)
        messages = self._at(t)
        v: Quadratic = messages.operator.at(messages.v, t)
        return v

    def q(self, t: int) -> Quadratic:
        """Return the action values of time t as a function of (m, a), reward units."""
        q: Quadratic = self._at(require_time("t", t, self.horizon)).q(t)
        return q

    def policy(self, t: int) -> ConditionalGaussian:
        """Return π_t(a|m): its mean is affine in the mean of the belief."""
        act: ConditionalGaussian = self._at(require_time("t", t, self.horizon)).policy.conditional(t)
        return act

    def _at(self, t: int) -> Messages:
        return self.messages if self.steady is None or t < len(self._corrections) - 1 else self.steady

    def find(self, observations: Vectors, actions: Vectors = ()) -> tuple[int, Gaussian]:
        """Return the time t and the belief after y_0 … y_t and a_0 … a_{t-1}.

        Raises:
            WorldError: the record does not fit.
            ImpossibleError: what is certain has another value in the record; the message names the time.
        """
        y, done = self.engine.history(observations, actions)
        beliefs = kalman(self.engine.model, self.engine.reading, y, done).beliefs
        t = y.shape[-2] - 1
        return t, beliefs.at(t, beliefs.mass.dim() - 1)

    def act(self, observations: Vectors, actions: Vectors = ()) -> Gaussian:
        """Return p(a_t) of the next action after y_0 … y_t and a_0 … a_{t-1}; see ``find``."""
        t, belief = self.find(observations, actions)
        act = self.policy(t)
        return Gaussian(act.mean(belief.mean), act.covariance, belief.mass)

    def at(self, observations: Vectors, actions: Vectors = ()) -> GaussianAction:
        """Return the next action after a record, in words: mean, deviation, gains on the estimates; see ``find``."""
        t, estimate = self._estimate(observations, actions)
        action: GaussianAction = self._at(t).policy.at(t, **estimate)
        return action

    def explain(self, observations: Vectors, actions: Vectors = ()) -> GaussianReasons:
        """Say why the rule acts as it does after a record; see ``find`` and ``Messages.explain``."""
        t, estimate = self._estimate(observations, actions)
        reasons = self._at(t).explain(t, **estimate)
        assert isinstance(reasons, GaussianReasons)
        return reasons

    def _estimate(self, observations: Vectors, actions: Vectors) -> tuple[int, dict[str, Any]]:
        """Return the time and the mean of the belief by name.

        Raises:
            WorldError: the record is a batch.
        """
        t, belief = self.find(observations, actions)
        if belief.mean.dim() > 1:
            raise fault("observations", f"a batch of shape {tuple(belief.mean.shape[:-1])}", "a single record")
        states = estimated(self.engine.model.states)
        return t, {name: value.tolist() for name, value in states.split(belief.mean).items()}

    @cached_property
    def output_feedback(self) -> OutputFeedback:
        """The policy in its closed loop.

        Raises:
            WorldError: the horizon is infinite.
        """
        if self.horizon is None:
            raise fault("output_feedback", "an infinite horizon", "a finite one: the filter's gain changes at first")
        model, gains = self.engine.model, [c.gain for c in self._corrections]
        loop = closed_loop(model, self.engine.reading, gains, transitions_of(model, self.horizon))
        return output_feedback(loop, self.messages.policy)

    @cached_property
    def _corrections(self) -> list[Correction]:
        model, reading = self.engine.model, self.engine.reading
        return until_steady(model, reading) if model.horizon is None else covariances(model, reading)[0]


def solve_gaussian(
    world: World, rule: Rule, temperature: float | Tensor, horizon: int | None = None
) -> GaussianBeliefMessages:
    """Solve over Gaussian beliefs; see ``cai.partial.solve``."""
    engine = gaussian_beliefs(world)
    if horizon is not None:
        raise fault("horizon", f"{horizon} on a linear-Gaussian world", "none: nothing is cut")
    return solve_beliefs(engine, rule, single_temperature(temperature).to(engine.model.start_mean))


def solve_beliefs(engine: GaussianBeliefs, rule: Rule, alpha: Tensor) -> GaussianBeliefMessages:
    """Solve the world whose state is the mean of the belief, and the fully observed world, by the same sweep.

    Raises:
        NotConvergedError: the horizon is infinite, and the covariance does not converge.
    """
    model, reading = engine.model, engine.reading
    full = solved(operator(model, rule, alpha))
    if model.horizon is not None:
        return GaussianBeliefMessages(engine, solved(operator(belief_world(model, reading), rule, alpha)), full)
    require_no_evidence(model)
    corrections = until_steady(model, reading)
    steady = solved(operator(steady_world(model, corrections[-1]), rule, alpha))
    before = solved(operator(world_until(model, corrections, steady.v), rule, alpha))
    return GaussianBeliefMessages(engine, before, full, steady)
