"""The best policy that sees only readings, of linear-Gaussian worlds (LQG), and its messages over Gaussian beliefs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import Finding, IntractableError, fault, require_time
from cai.exact.forms import operator
from cai.exact.messages import Messages
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.solve import solved
from cai.exact.temperature import single_temperature
from cai.partial.gaussian_beliefs import GaussianBeliefs, gaussian_beliefs
from cai.partial.gaussian_worlds import belief_world, covariances
from cai.partial.kalman import Correction, kalman, motions
from cai.partial.output_feedback import OutputFeedback, closed_loop, output_feedback
from cai.partial.real_records import Vectors
from cai.world.definition import World


@dataclass(frozen=True, repr=False)
class GaussianBeliefMessages:
    """The messages of one rule over Gaussian beliefs N(m_t, Σ_t): quadratics of m_t, since Σ_t is known beforehand.

    The members have the names and the meaning of ``BeliefMessages``'.

    Attributes:
        engine: the compiled world, and what is read of it.
        messages: those of the world whose state is m (``cai.partial.gaussian_worlds.belief_world``).
        full: the messages of the same rule where the state is seen.
    """

    engine: GaussianBeliefs
    messages: Messages
    full: Messages

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
    def horizon(self) -> int:
        """T."""
        T: int | None = self.messages.model.horizon
        assert T is not None
        return T

    @property
    def error_bound(self) -> float:
        """A proved bound on the error of ``value``, reward units; 0 for a finite horizon (rounding apart)."""
        return self.messages.error_bound

    @property
    def value(self) -> Float[Tensor, "*B"]:
        """The start value, reward units."""
        return self.messages.value

    @property
    def elbo(self) -> Float[Tensor, "*B"]:
        """The best ELBO over policies that use only what was read and done, nats; VARIATIONAL only."""
        return self.messages.elbo

    @property
    def fully_observed(self) -> Float[Tensor, "*B"]:
        """The start value where the state itself is seen, reward units: no policy over beliefs has a better one."""
        return self.full.value

    @cached_property
    def qmdp(self) -> Float[Tensor, "*B"]:
        """The value of the QMDP policy, reward units: that of full sight, with m in the place of s.

        E_b Q(s, a) is Q(m, a) and a term without a, so QMDP has the gains of full sight. They are the best over beliefs
        too (certainty equivalence), so this number is ``value``: nothing is worth finding out, because what is found
        out does not depend on what is done.
        """
        op, policy, total = self.messages.operator, self.full.policy, torch.zeros_like(self.value)
        mu = op.initial()
        for t in range(self.horizon):
            act = policy.conditional(t)
            joint = op.joint(mu, act)
            total = total + joint.expect(op.expected_reward(t))
            if self.rule == VARIATIONAL:
                total = total - self.temperature * joint.expect(act.log_density() - op.log_prior(t))
            mu = op.push(t, joint)
        qmdp: Tensor = total + mu.expect(op.terminal())
        return qmdp

    def covariance(self, t: int) -> Float[Tensor, "*B n n"]:
        """Return Σ_t, the covariance of the belief after y_t: the same whatever was read and done."""
        return self._corrections[require_time("t", t, self.horizon)].covariance

    def v(self, t: int) -> Quadratic:
        """Return the value of the belief of time t as a function of its mean, reward units; t = 0 … T."""
        v: Quadratic = self.messages.operator.at(self.messages.v, require_time("t", t, self.horizon, end=True))
        return v

    def q(self, t: int) -> Quadratic:
        """Return the action values of time t as a function of (m, a), reward units."""
        q: Quadratic = self.messages.q(t)
        return q

    def policy(self, t: int) -> ConditionalGaussian:
        """Return π_t(a|m): its mean is affine in the mean of the belief."""
        act: ConditionalGaussian = self.messages.policy.conditional(require_time("t", t, self.horizon))
        return act

    def find(self, observations: Vectors, actions: Vectors = ()) -> tuple[int, Gaussian]:
        """Return the time t and the belief after y_0 … y_t and a_0 … a_{t-1}.

        Raises:
            WorldError: the record does not fit.
            ImpossibleError: what is certain was read otherwise; the message names the time.
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

    @cached_property
    def output_feedback(self) -> OutputFeedback:
        """The policy in its closed loop; finite horizon."""
        gains = [c.gain for c in self._corrections]
        filters = motions(self.engine.model, self.horizon)
        return output_feedback(
            closed_loop(self.engine.model, self.engine.reading, gains, filters), self.messages.policy
        )

    @cached_property
    def _corrections(self) -> list[Correction]:
        return covariances(self.engine.model, self.engine.reading)[0]


def solve_gaussian(
    world: World, rule: Rule, temperature: float | Tensor, horizon: int | None = None
) -> GaussianBeliefMessages:
    """Solve over Gaussian beliefs; see ``cai.partial.solve``."""
    engine = gaussian_beliefs(world)
    if horizon is not None:
        raise fault("horizon", f"{horizon} on a linear-Gaussian world", "none: nothing is cut")
    return solve_beliefs(engine, rule, single_temperature(temperature).to(engine.model.start_mean))


def solve_beliefs(engine: GaussianBeliefs, rule: Rule, alpha: Tensor) -> GaussianBeliefMessages:
    """Solve the world of the belief, and that in which the state is seen, by the same sweep."""
    if engine.model.horizon is None:
        raise IntractableError(
            [Finding("horizon", "None for a linear-Gaussian world seen in part", "a finite horizon")]
        )
    full = solved(operator(engine.model, rule, alpha))
    found = solved(operator(belief_world(engine.model, engine.reading), rule, alpha))
    return GaussianBeliefMessages(engine, found, full)
