"""The exact posterior over future actions given the readings so far, on linear-Gaussian worlds.

    p(s_t, a_t, …, a_{T-1}, s_T | y_{0..t}, a_{<t}, O = 1)  ∝  b_t(s_t) Π_k p(a_k|s_k) p(s_{k+1}|s_k, a_k) exp(r_k/α)

So it is POSTERIOR of the world that starts at the belief b_t. If the evidence contains O_{<t}, that past actions were
optimal, the belief is that of ``cai.partial.risk_sensitive_filter``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import NotConvergedError, fault
from cai.exact.forms import operator
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR
from cai.exact.solve import solved
from cai.exact.temperature import single_temperature
from cai.partial.gaussian_beliefs import GaussianBeliefs, gaussian_beliefs
from cai.partial.gaussian_worlds import following, require_no_evidence
from cai.partial.kalman import root, transitions_of
from cai.partial.output_feedback import OutputFeedback, closed_loop, output_feedback
from cai.partial.real_records import Vectors
from cai.partial.risk_sensitive_filter import composed, filtered, soft_mean, steps
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.world.definition import World


@dataclass(frozen=True)
class Plan:
    """The posterior over future states and actions, after y_0 … y_t and a_0 … a_{t-1}.

    Attributes:
        t: the present time.
        belief: p(s_t | y_{0..t}, a_{<t}), also given O_{<t} with ``past``, ``[*B, n]``.
        log_past: log p(y_{0..t} | do(a_{<t})), with O_{<t} under ``past``, nats, ``[*B]``.
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
        """log p(O_t … O_T | y_{0..t}, a_{<t}), also given O_{<t} with ``past``, nats."""
        return self.messages.log_evidence

    @property
    def action(self) -> Gaussian:
        """p(a_t | y_{0..t}, a_{<t}, O = 1), ``[*B, m]``."""
        both: Gaussian = self.messages.marginals(0)
        n = self.world.states.dimension
        return both.of(list(range(n, both.mean.shape[-1])))

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
    """Return the exact posterior over future states and actions, given the record so far, on a linear-Gaussian world.

    Its a_t, given each history, is the policy of the posterior p(τ, y | O = 1) over trajectories and readings. It is
    optimistic, like POSTERIOR's: about future noise, and about the part of the state that is not seen.

    Args:
        world: of real variables, with ``observe``, and a finite horizon.
        observations: y_0 … y_t; NaN or None where nothing was read.
        actions: a_0 … a_{t-1}.
        temperature: α > 0, reward units.
        past: whether O_{<t} = 1 is given too. Past actions are then known to have been optimal, and the filter is the
            risk-sensitive one; else it is Kalman's.

    Raises:
        WorldError: the world or the record is not valid, or the action prior reads what is not seen.
        IntractableError: the world is not linear-Gaussian, or has a discount below 1.
        ImpossibleError: a number that is certain has another value in the record.
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
    belief, log_past = filtered(_finite(model), engine.reading, y, actions, alpha if past else None)
    return Plan(t, belief, log_past, solved(operator(following(model, t, belief), POSTERIOR, alpha)))


def planner(world: World, *, temperature: float | Tensor = 1.0, past: bool = True) -> OutputFeedback:
    """Return the policy that plans anew after each reading: it draws a_t from p(a_t | y_{0..t}, a_{<t}, O = 1).

    Its policy is affine-Gaussian in the estimate of its filter, so ``cai.evaluate(planner.loop, planner.policy)`` is
    exact: it says what the posterior's optimism costs where the state is not seen. Its ELBO is at most
    ``cai.partial.solve``'s.

    Args:
        world: of real variables, with ``observe``, and a finite horizon.
        temperature: α > 0, reward units.
        past: see ``plan``.

    Raises:
        WorldError, IntractableError, NotConvergedError: see ``plan``.
    """
    engine = gaussian_beliefs(world)
    return planning(engine, single_temperature(temperature).to(engine.model.start_mean), past=past)


def planning(engine: GaussianBeliefs, alpha: Float[Tensor, ""], *, past: bool) -> OutputFeedback:
    """Return the policy that plans anew after each reading, of a compiled world; see ``planner``."""
    model, T = _finite(engine.model), engine.model.horizon or 0
    seen = torch.ones(T, engine.reading.offset.shape[-1], dtype=torch.bool, device=model.device)
    full = solved(operator(model, POSTERIOR, alpha))
    gains, filters, acts = [], [], []
    for t, (c, passage) in enumerate(steps(model, engine.reading, seen, alpha if past else None)):
        state = _given_optimality(full.operator.at(full.v, t), c.covariance, alpha, t)
        acts.append(_through(full.policy.conditional(t), state))
        gains.append(c.gain)
        filters.append(transitions_of(model, T)[t] if passage is None else passage[0])
    loop = closed_loop(model, engine.reading, gains, filters)
    return output_feedback(loop, AffineGaussianPolicy(acts.__getitem__, model.states, model.actions, T))


def _given_optimality(v: Quadratic, covariance: Tensor, alpha: Tensor, t: int) -> ConditionalGaussian:
    """Return p(s_t | m, O_{>=t}) as a function of m, where s_t is N(m, Σ): N(s; m, Σ) exp(v/α), normalised.

    Raises:
        NotConvergedError: the evidence is infinite.
    """
    L = root(covariance)
    n = L.shape[-1]
    one = torch.eye(n).to(L).expand_as(L)
    xi = soft_mean(v.after(torch.cat((one, L), -1), torch.zeros_like(v.b)), n, alpha)
    if not bool(xi.finite.all()):
        why = "the value grows faster than the state becomes unlikely at this temperature"
        raise NotConvergedError(f"POSTERIOR, t = {t}: the evidence is infinite: {why}")
    return composed(ConditionalGaussian(one, torch.zeros_like(v.b), L), xi.tilted)


def _through(act: ConditionalGaussian, state: ConditionalGaussian) -> ConditionalGaussian:
    """Return p(a|m) from p(a|s) and p(s|m)."""
    scale = torch.cat((act.gain @ state.scale, act.scale.expand(*state.scale.shape[:-2], *act.scale.shape[-2:])), -1)
    return ConditionalGaussian(act.gain @ state.gain, act.mean(state.offset), scale)


def _finite(model: LinearGaussian) -> LinearGaussian:
    """Return a world with a finite horizon and without conditions.

    Raises:
        WorldError, IntractableError: the horizon is infinite, or there are conditions.
    """
    require_no_evidence(model)
    if model.horizon is None:
        raise fault("horizon", "None: a plan without end", "a finite horizon")
    return model
