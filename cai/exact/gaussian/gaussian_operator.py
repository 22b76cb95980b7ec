"""Linear-Gaussian worlds under a rule: values are quadratics, measures and policies are Gaussian.

    q(s, a) = mean over z of r(s, a, z) + γ v'(transition (s, a, z) + drift),     z ~ N(0, I)
    v(s)    = mean over w of q(s, gain s + offset + scale w),                     w ~ N(0, I), or flat

POSTERIOR is the information form of risk-seeking control (Jacobson 1973; Whittle 1981), VARIATIONAL and HARD are the
linear-quadratic regulator. Both means are ``normal_means.over_normal``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic, aligned, stacked
from cai.errors import Finding, ImpossibleError, IntractableError, NoClosedFormError, require_time
from cai.exact.cost import Cost
from cai.exact.fixed_point import FixedPoint
from cai.exact.gaussian import draws, expectations, gaussian_marginals
from cai.exact.gaussian.algebraic_riccati import stationary_value
from cai.exact.gaussian.at_once import at_once
from cai.exact.gaussian.gaussian_chain import GaussianChain
from cai.exact.gaussian.normal_means import Marginalised, assumption_of, over_normal, require_finite
from cai.exact.gaussian.visits import summed
from cai.exact.operator import Pick
from cai.exact.rounding import Rounding
from cai.exact.rules import VARIATIONAL, Rule
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.support.memory import require_room


@dataclass(frozen=True, eq=False)
class GaussianOperator:
    """A linear-Gaussian world under a rule; see ``Operator``.

    Attributes:
        model: the compiled world.
        rule: how noise and actions are marginalised.
        alpha: temperatures, reward units, ``[*M]``.

    Raises:
        IntractableError: a mean has no ``assumption()``; actions are averaged under a flat prior; or the discount is
            below 1 and noise is not averaged.
    """

    model: LinearGaussian
    rule: Rule
    alpha: Tensor
    form: str = "gaussian"

    act = expectations.act
    score = expectations.score
    states_under = expectations.states_under
    expect = expect_state = expectations.expect
    in_play = expectations.in_play
    total = expectations.total
    by_place = expectations.by_place
    standard_error = expectations.standard_error
    start_luck = expectations.start_luck
    shortfall = expectations.shortfall
    measured = expectations.measured
    entries = property(expectations.entries)
    draw_start = draws.draw_start
    draw = draws.draw
    variables = property(gaussian_marginals.variables)
    state_marginal = gaussian_marginals.state_marginal
    marginal = gaussian_marginals.marginal
    forward = gaussian_marginals.forward

    def __post_init__(self) -> None:
        if assumption_of(self.rule.over_actions).kind == "averaged" and bool(self.model.slices.flat.any()):
            seen = f"{self.rule} with a flat action prior, over which nothing has an average"
            raise IntractableError([Finding("rule", seen, "a Gaussian action prior")])
        if assumption_of(self.rule.over_outcomes).kind != "averaged" and self.model.discount < 1:
            seen = f"{self.rule} with γ = {self.model.discount:g}: to survive or to end is a mixture, not a Gaussian"
            raise NoClosedFormError([Finding("discount", seen, "a discount of 1, or VARIATIONAL or HARD")])

    @cached_property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch: of the worlds and of the temperatures, broadcast."""
        return torch.Size(torch.broadcast_shapes(self.model.batch_shape, self.alpha.shape))

    @property
    def parts(self) -> "tuple[GaussianOperator, ...]":
        """Itself alone: a world in one piece."""
        return (self,)

    @cached_property
    def survival(self) -> Tensor:
        """γ."""
        return self.alpha.new_tensor(self.model.discount)

    def terminal(self) -> Quadratic:
        """Return v_T, reward units."""
        return self._whole(self.model.terminal)

    def _whole(self, v: Quadratic) -> Quadratic:
        """Return a quadratic with the axes of the batch."""
        axes = len(self.model.batch_shape)
        return v.each(lambda x: x.expand((*self.batch_shape, *x.shape[axes:])))

    def backup(self, t: int, v_next: Quadratic, out: Any = None) -> Quadratic:
        """Return v_t, reward units."""
        return self.over_actions(t, self.q(t, v_next)).value

    def q(self, t: int, v_next: Quadratic) -> Quadratic:
        """Return q of (s, a), reward units."""
        return self.over_noise(t, v_next).value

    def over_noise(self, t: int, v_next: Quadratic, rule: Rule | None = None) -> Marginalised:
        """Take the mean over the noise of time t: q, reward units, and the noise given (s, a)."""
        sl = self.model.at(t)
        x = sl.reward + (v_next * self.survival).after(sl.transition, sl.drift)
        over, flat = (rule or self.rule).over_outcomes, self._not_flat(self.model.noise)
        taken = over_normal(over, x, self.model.noise, self.alpha, flat, sl.log_volume)
        return require_finite(taken, self.rule, t, "the noise")

    def over_actions(self, t: int, q: Quadratic) -> Marginalised:
        """Take the mean over the noise of the action prior: v, reward units, and that noise given s."""
        sl = self.model.at(t)
        h, k = q.after(*sl.acting), sl.prior.scale.shape[-1]
        volume = sl.log_prior_volume if assumption_of(self.rule.over_actions).paid else self.alpha.new_zeros(())
        taken = over_normal(self.rule.over_actions, h, k, self.alpha, sl.flat, volume)
        return require_finite(taken, self.rule, t, f"the action ({', '.join(self.model.actions.labels)})")

    def _not_flat(self, k: int) -> Tensor:
        return torch.zeros(k, dtype=torch.bool, device=self.alpha.device)

    def places(self) -> None:
        """Return nothing: quadratics are made anew."""

    def all_times(self, values: Sequence[Any], places: Any = None) -> Any:
        """Return values or measures of all times as one, time after the batch."""
        return stacked(aligned(values), len(self.batch_shape))

    def at_once(self) -> Quadratic | None:
        """Return v of all times by the Riccati recursion or the scan; None where these do not apply."""
        return at_once(self.model, self.rule, self.alpha, self.terminal())

    def limit(self) -> FixedPoint:
        """Return the fixed point of the Riccati equation."""
        return stationary_value(self.model, self.rule, self.alpha)

    def at(self, v: Any, t: int) -> Any:
        """Return the value or the measure of time t."""
        return v if self.model.horizon is None else v.at(t, len(self.batch_shape))

    def start(self, v_0: Quadratic) -> Tensor:
        """Return the start value, reward units, ``[*B]``."""
        return self._start(v_0).value.c

    def _start(self, v_0: Quadratic) -> Marginalised:
        """Take the mean over z_0, where ``s_0 = mean + scale z_0``."""
        scale = self.model.start_scale
        x, k = v_0.after(scale, self.model.start_mean), scale.shape[-1]
        over = self.rule.over_outcomes
        volume = self.model.log_start_volume if assumption_of(over).paid else self.alpha.new_zeros(())
        taken = over_normal(over, x, k, self.alpha, self._not_flat(k), volume)
        return require_finite(taken, self.rule, 0, "the start")

    def begin(self, v_0: Quadratic) -> Gaussian:
        """Return p(s_0) under the rule."""
        return self.begun(v_0).push(self._nowhere)

    def begun(self, v_0: Quadratic) -> ConditionalGaussian:
        """Return s_0 under the rule, as a distribution given the point of R^0."""
        z, scale = self._start(v_0).tilted, self.model.start_scale
        mean = self.model.start_mean + (scale @ z.offset.unsqueeze(-1)).squeeze(-1)
        return ConditionalGaussian(scale @ z.gain, mean, scale @ z.scale)

    @property
    def _nowhere(self) -> Gaussian:
        """The measure on R^0, of mass 1."""
        one = self.alpha.new_ones(self.batch_shape)
        return Gaussian(one.new_zeros(*one.shape, 0), one.new_zeros(*one.shape, 0, 0), one)

    def log_start(self, v_0: Quadratic) -> Quadratic:
        """Return log p(s_0) under the rule, nats; a density where s_0 varies."""
        return self.begun(v_0).log_density()

    def initial(self) -> Gaussian:
        """Return p(s_0)."""
        scale, whole = self.model.start_scale, self._nowhere
        mean = self.model.start_mean.expand(*self.batch_shape, -1)
        return Gaussian(mean, (scale @ scale.mT).expand(*self.batch_shape, -1, -1), whole.mass)

    def log_prior(self, t: int) -> Quadratic:
        """Return log p(a|s), nats: a density; 0 where the prior is flat."""
        return self.model.at(t).log_prior()

    def log_policy(self, t: int, v_next: Quadratic, error_bound: float = 0.0) -> ConditionalGaussian:
        """Return the rule's own policy of time t."""
        return self.acting(t, self.q(t, v_next))

    def acting(self, t: int, q: Quadratic) -> ConditionalGaussian:
        """Return the rule's own policy, from q."""
        return self.model.at(t).prior.driven(self.over_actions(t, q).tilted)

    def conditionals(self, t: int, v_next: Quadratic, error_bound: float = 0.0) -> GaussianChain:
        """Return the rule's own chain at time t."""
        noise = self.over_noise(t, v_next)
        return GaussianChain(self.model.at(t), self.acting(t, noise.value), noise.tilted, self.survival)

    def tilt(self, t: int, v_next: Quadratic, error_bound: float = 0.0) -> GaussianChain:
        """Return the rule's own chain at time t."""
        return self.conditionals(t, v_next, error_bound)

    def policy(self, v: Quadratic, error_bound: float) -> AffineGaussianPolicy:
        """Return the rule's own policy."""
        model = self.model
        return AffineGaussianPolicy(partial(_policy_at, self, v), model.states, model.actions, model.horizon)

    def pushing(self, v: Quadratic, error_bound: float) -> Callable[[int, Gaussian], Gaussian]:
        """Return a step of the rule's own chain."""
        return lambda t, mu: self.conditionals(t, self.at(v, t + 1), error_bound).push(mu)

    def own_visits(self, v: Quadratic, start: Gaussian, error_bound: float) -> Gaussian:
        """Return p(s_t, alive) under the rule, summed over all times."""
        return self._visits(start, self.log_policy(0, v))

    def visits(self, log_pi: ConditionalGaussian) -> Gaussian:
        """Return p(s_t, alive) under a stationary policy and the true dynamics, summed over all times."""
        return self._visits(self.initial(), log_pi)

    def _visits(self, start: Gaussian, act: ConditionalGaussian) -> Gaussian:
        sl, model = self.model.at(0), self.model
        A, B, G = sl.transition.split([model.states.dimension, model.actions.dimension, model.noise], -1)
        drift = sl.drift + (B @ act.offset.unsqueeze(-1)).squeeze(-1)
        loop = ConditionalGaussian(A + B @ act.gain, drift, torch.cat((B @ act.scale, G), -1))
        return summed(start, loop, self.survival)

    def chain(self, v: Quadratic) -> None:
        """Return nothing: the fixed point is found by other means."""

    def pick_start(self, v_0: Quadratic, n: int, pick: Pick) -> Tensor:
        """Pick n start states under the rule, ``[N, n]``."""
        begun = self.begun(v_0)
        noise = pick.normal(begun.offset.expand(n, -1), begun.scale.shape[-1])
        return begun.offset + noise @ begun.scale.mT

    def under(self, rule: Rule) -> "GaussianOperator":
        """Return the same world under another rule, cut from autograd."""
        return GaussianOperator(self.model.detach(), rule, self.alpha.detach())

    def entry(self, index: int) -> "GaussianOperator":
        """Return one entry of the first batch axis."""
        model = self.model[index] if self.model.batch_shape else self.model
        return GaussianOperator(model, self.rule, self.alpha[index] if self.alpha.dim() else self.alpha)

    def joint(self, mu: Gaussian, log_pi: ConditionalGaussian) -> Gaussian:
        """Return p(s_t, a_t, alive) where a policy acts."""
        return log_pi.joint(mu)

    def push(self, t: int, joint: Gaussian) -> Gaussian:
        """Return p(s_{t+1}, alive) under the true dynamics."""
        sl, seen = self.model.at(t), joint.mean.shape[-1]
        direct, shaken = sl.transition[..., :seen], sl.transition[..., seen:]
        following = ConditionalGaussian(direct, sl.drift, shaken).push(joint)
        return Gaussian(following.mean, following.covariance, following.mass * self.survival)

    def expected_reward(self, t: int) -> Quadratic:
        """Return E[r|s, a], reward units; -inf where exact evidence restricts the noise."""
        sl, k = self.model.at(t), self.model.noise
        try:
            mean = over_normal(VARIATIONAL.over_outcomes, sl.reward, k, self.alpha, self._not_flat(k), sl.log_volume)
        except ImpossibleError:
            nothing: Quadratic = self.log_prior(t) * 0
            return replace(nothing, c=nothing.c - torch.inf)
        return mean.value

    def luck(self, t: int, v_next: Quadratic) -> Quadratic:
        """Return KL(N(0, I) ‖ p(z|s, a, O)) = ½ (tr Λ - k - log det Λ + μ'Λμ), nats, where z given O is N(μ, Λ⁻¹).

        It is infinite where exact evidence determines z in some direction.
        """
        taken, k = self.over_noise(t, v_next), self.model.noise
        L, gain, offset = taken.curvature, taken.tilted.gain, taken.tilted.offset
        if L is None:
            return self.log_prior(t) * 0
        pull = (L @ offset.unsqueeze(-1)).squeeze(-1)
        spread = L.diagonal(dim1=-2, dim2=-1).sum(-1) - k - torch.linalg.slogdet(L).logabsdet
        c = 0.5 * (spread + (offset * pull).sum(-1))
        c = c if taken.bound is None else torch.where(taken.bound > 0, torch.inf, c)
        return Quadratic(gain.mT @ L @ gain, (gain.mT @ pull.unsqueeze(-1)).squeeze(-1), c)

    def require_room(self) -> None:
        """Raise where v of all times needs more memory than there is.

        Raises:
            IntractableError: it is so.
        """
        T, n, batch = self.model.horizon or 0, self.model.states.dimension, self.batch_shape.numel()
        size = f"quadratics of n = {n:,} coordinates at T = {T:,} times"
        require_room("solve", size, (T + 1) * batch * (n * n + n + 1) * self.model.dtype.itemsize)

    def rounding(self) -> Rounding:
        """Return a bound on the rounding of one backup."""
        return Rounding(0.0, float(self.alpha.max()))

    def cost(self) -> Cost:
        """Predict what a backup takes: products of matrices."""
        N = self.model.slices.transition.shape[-1]
        return Cost(float(N**3 * self.batch_shape.numel()), float(N**2 * self.batch_shape.numel()))


def _policy_at(op: GaussianOperator, v: Quadratic, t: int) -> ConditionalGaussian:
    return op.log_policy(t, op.at(v, require_time("t", t, op.model.horizon) + 1))
