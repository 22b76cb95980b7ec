"""What to do next, given what was read so far: the exact posterior over plans of linear-Gaussian worlds.

    p(s_t, a_t, …, a_{T-1}, s_T | y_{0..t}, a_{<t}, O = 1)  ∝  b_t(s_t) Π_k p(a_k|s_k) p(s_{k+1}|s_k, a_k) exp(r_k/α)

So it is POSTERIOR of the world that starts at the belief b_t. What was done so far was optimal too, which tells more of
the state: with O_{<t} among the evidence the belief is that of the risk-sensitive filter,

    b_{t+1}(s') ∝ p(y_{t+1}|s') ∫ b_t(s) exp(r(s, a_t, z)/α) p(s', z|s, a_t) ds dz

(Jacobson 1973; Whittle 1981). Neither is a policy's value: a policy over beliefs is ``cai.partial.solve``'s.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian
from cai.errors import NotConvergedError, fault
from cai.exact.forms import operator
from cai.exact.gaussian.normal_means import over_normal
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR
from cai.exact.solve import solved
from cai.exact.temperature import single_temperature
from cai.partial.gaussian_beliefs import GaussianBeliefs, gaussian_beliefs
from cai.partial.gaussian_worlds import following, require_no_evidence, require_seen_prior
from cai.partial.kalman import ahead, correction, motions, root, see, spread, variances
from cai.partial.real_records import Vectors
from cai.world.definition import World


@dataclass(frozen=True)
class Plan:
    """The posterior over what is to come, after y_0 … y_t and a_0 … a_{t-1}.

    Attributes:
        t: now.
        belief: p(s_t | y_{0..t}, a_{<t}), and given O_{<t} where the past counts, ``[*B, n]``.
        log_past: log p(y_{0..t} | do(a_{<t})), with O_{<t} where the past counts, nats, ``[*B]``.
        messages: POSTERIOR's of the world that starts at the belief; its time 0 is t.
    """

    t: int
    belief: Gaussian
    log_past: Float[Tensor, "*B"]
    messages: Messages

    @property
    def world(self) -> LinearGaussian:
        """The world that starts at the belief; its time 0 is t."""
        model = self.messages.model
        assert isinstance(model, LinearGaussian)
        return model

    @property
    def log_evidence(self) -> Float[Tensor, "*B"]:
        """log p(O_t … O_T | what ``belief`` is given), nats."""
        return self.messages.log_evidence

    @property
    def action(self) -> Gaussian:
        """p(a_t | y_{0..t}, a_{<t}, O = 1), ``[*B, m]``."""
        return self.actions.of(list(range(self.world.actions.dimension)))

    @property
    def actions(self) -> Gaussian:
        """p(a_t … a_{T-1} | y_{0..t}, a_{<t}, O = 1), side by side, ``[*B, (T-t) m]``."""
        n, m = self.world.states.dimension, self.world.actions.dimension
        starts = range(n, self.joint.mean.shape[-1], n + m)
        return self.joint.of([i for start in starts for i in range(start, start + m)])

    @cached_property
    def joint(self) -> Gaussian:
        """p(s_t, a_t, s_{t+1}, …, s_T | y_{0..t}, a_{<t}, O = 1), side by side, ``[*B, (T-t)(n+m) + n]``."""
        mu: Gaussian = self.messages.initial()
        for k in range(self.world.horizon or 0):
            chain: Any = self.messages.tilt(k)
            mu = _next(chain.log_outcome, _next(chain.log_policy, mu))
        return mu


def _next(given: ConditionalGaussian, mu: Gaussian) -> Gaussian:
    """Return the measure of (x, u), where u depends on the last coordinates of x."""
    earlier = mu.mean.shape[-1] - given.gain.shape[-1]
    gain = torch.nn.functional.pad(given.gain, (earlier, 0))
    return ConditionalGaussian(gain, given.offset, given.scale).joint(mu)


def plan(
    world: World,
    observations: Vectors,
    actions: Vectors = (),
    *,
    temperature: float | Tensor = 1.0,
    past: bool = True,
) -> Plan:
    """Return the exact posterior over what is to come, given what was read and done so far, on a linear-Gaussian world.

    Its a_t, given each history, is the policy of the posterior p(τ, y | O = 1) over trajectories and readings. Like
    POSTERIOR's it is optimistic: noise is thought to turn out well, and so is what is not seen.

    Args:
        world: of real variables, with ``observe``, and a finite horizon.
        observations: y_0 … y_t; NaN or None where nothing was read.
        actions: a_0 … a_{t-1}.
        temperature: α > 0, reward units.
        past: whether O_{<t} = 1 is given too. What was done is then known to have been optimal, and the filter is the
            risk-sensitive one; else it is Kalman's.

    Raises:
        WorldError: the world or the record is not valid, or the action prior reads what is not seen.
        IntractableError: the world is not linear-Gaussian, or has a discount below 1.
        ImpossibleError: a number that is certain was read otherwise.
        NotConvergedError: the evidence is infinite at this temperature; the message names the time.
    """
    engine = gaussian_beliefs(world)
    y, done = engine.history(observations, actions)
    alpha = single_temperature(temperature).to(engine.model.start_mean)
    return planned(engine, y, done, alpha, past=past)


def planned(
    engine: GaussianBeliefs,
    y: Float[Tensor, "*B k p"],
    actions: Float[Tensor, "*B t m"],
    alpha: Float[Tensor, ""],
    *,
    past: bool,
) -> Plan:
    """Return the posterior over plans from vectors; see ``plan``."""
    model, t = engine.model, actions.shape[-2]
    require_no_evidence(model)
    if model.horizon is None:
        raise fault("horizon", "None: a plan without end", "a finite horizon")
    belief, log_past = _tilted_filter(model, engine.reading, y, actions, alpha if past else None)
    return Plan(t, belief, log_past, solved(operator(following(model, t, belief), POSTERIOR, alpha)))


def _tilted_filter(
    model: LinearGaussian, reading: ConditionalGaussian, readings: Tensor, actions: Tensor, alpha: Tensor | None
) -> tuple[Gaussian, Tensor]:
    """Return the belief after the last reading, and the log-density of all that it is given, nats.

    Args:
        alpha: every past time is tilted by exp(r/α); None: the filter is Kalman's.
    """
    belief = Gaussian(model.start_mean, model.start_scale @ model.start_scale.mT, model.start_mean.new_ones(()))
    largest, log_past = variances(belief.covariance), torch.zeros_like(belief.mean[..., 0])
    for t, y in enumerate(readings.unbind(-2)):
        largest = torch.maximum(largest, variances(belief.covariance))
        c = correction(belief.covariance, largest, reading, ~y.isnan())
        mean, e = see(c, belief.mean, reading, y, t)
        belief, log_past = Gaussian(mean, c.covariance, belief.mass), log_past + c.log_density(e)
        if t < actions.shape[-2]:
            require_seen_prior(model, t, c)
            belief, gained = _ahead(model, t, belief, actions[..., t, :], alpha)
            log_past = log_past + gained
    return belief, log_past


def _ahead(
    model: LinearGaussian, t: int, belief: Gaussian, action: Tensor, alpha: Tensor | None
) -> tuple[Gaussian, Tensor]:
    """Return the belief of s_{t+1} before it is read, and log E exp(r/α), nats: 0 where nothing is tilted.

    Raises:
        NotConvergedError: the expectation is infinite.
    """
    sl, motion = model.at(t), motions(model, t + 1)[t]
    mean = ahead(motion, belief.mean, action)
    if alpha is None:
        return Gaussian(mean, spread(motion, belief.covariance), belief.mass), torch.zeros_like(mean[..., 0])
    n, m, k = model.states.dimension, model.actions.dimension, model.noise
    L = root(belief.covariance)  # s = mean + L ξ, and (ξ, z) are standard normal
    N = m + n + k
    one = torch.eye(N).to(L).expand(*L.shape[:-2], N, N)
    slice_of = torch.cat((L @ one[..., m : m + n, :], one[..., :m, :], one[..., m + n :, :]), -2)
    held = torch.cat((belief.mean, belief.mean.new_zeros(*belief.mean.shape[:-1], m + k)), -1)
    flat = torch.zeros(n + k, dtype=torch.bool, device=L.device)
    taken = over_normal(
        POSTERIOR.over_outcomes, sl.reward.after(slice_of, held), n + k, alpha, flat, alpha.new_zeros(())
    )
    if not bool(taken.finite.all()):
        why = "the reward of what was done grows faster than the state becomes unlikely at this temperature"
        raise NotConvergedError(f"POSTERIOR, t = {t}: the evidence is infinite: {why}")
    noise = Gaussian(taken.tilted.mean(action), taken.tilted.covariance, belief.mass)
    moved = noise.through(torch.cat((motion.gain[..., :n] @ L, motion.scale), -1), mean)
    return moved, taken.value(action) / alpha
