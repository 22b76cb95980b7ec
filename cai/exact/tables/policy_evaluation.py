"""A given policy on tables: its values backward, its occupancy forward, and its ELBO with an analytic gradient.

    q_t(s,a) = Σ p(outcome|s,a) (r + γ v_{t+1}(s'))
    v_t(s)   = Σ_a π_t(a|s) (q_t(s,a) - α log π_t(a|s)/p(a|s))              so that  Σ p(s_0) v_0/α = ELBO(π)
    d_t(s)   = p(s_t = s, alive) under the policy and the true dynamics

Both meet in the gradient, ``∂ELBO/∂log π_t(a|s) = d_t(s) π_t(a|s) (q_t(s,a)/α - log π_t(a|s)/p(a|s) - 1)``: the soft
policy gradient with its expectation taken; the -1 has mean zero once π sums to 1.

Here ``log_pi`` is ``[T, S, A]``, or ``[S, A]`` for the infinite horizon; results have the same form unless stated
otherwise.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.exact.lifetime import life_to_come, visits
from cai.exact.tables.averaged import Averaged, average
from cai.exact.tables.backup import put_back, refuse_second_derivative
from cai.exact.tables.chain import Chain
from cai.support.numerics import nats


@dataclass(frozen=True)
class PolicyValues:
    """The values of a policy, reward units: ``q [T, S, A]`` and ``v [T+1, S]``; no time axis for the infinite horizon.

    -inf where the policy risks a reward of -inf, or takes an action that the prior forbids.
    """

    q: Tensor
    v: Tensor


def values(tables: Tables, log_pi: Float[Tensor, "*T S A"], alpha: Tensor) -> PolicyValues:
    """Return the policy's own values under the true dynamics, its KL to the prior paid.

    Raises:
        NotConvergedError: a lifetime is not finite, or too long to be added up.
    """
    if tables.horizon is None:
        v = _lifelong(tables, log_pi, alpha)
        return PolicyValues(_averaged(tables)[0].q(v), v)
    dynamics, pi, price = _averaged(tables), log_pi.exp(), _price(tables, log_pi, alpha)
    v, q_s, v_s = tables.terminal, [], [tables.terminal]
    for t in range(tables.horizon - 1, -1, -1):
        q = dynamics[t].q(v)
        v = torch.where(pi[t] > 0, pi[t] * (q - price[t]), 0.0).sum(-1)
        q_s.append(q)
        v_s.append(v)
    return PolicyValues(torch.stack(q_s[::-1]), torch.stack(v_s[::-1]))


def occupancy(tables: Tables, log_pi: Float[Tensor, "*T S A"]) -> Float[Tensor, "*T1 S"]:
    """Return p(s_t, alive) of every time, ``[T+1, S]``; for the infinite horizon its sum over all times, ``[S]``."""
    d, pi, dynamics = tables.log_initial.exp(), log_pi.exp(), _averaged(tables)
    if tables.horizon is None:
        return visits(dynamics[0].living(pi), d)
    states = [d]
    for t in range(tables.horizon):
        d = put_back((d.unsqueeze(-1) * pi[t]).unsqueeze(-1) * dynamics[t].onward, dynamics[t].successor, d.shape[0])
        states.append(d)
    return torch.stack(states)


def policy_elbo(tables: Tables, log_pi: Float[Tensor, "*T S A"], alpha: Tensor) -> Float[Tensor, ""]:
    """Return ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)], nats, differentiable in ``log_pi``.

    The backward pass is the soft policy gradient (Levine 2018, section 3; Haarnoja et al. 2017), exact: one sweep
    backward for the values, one forward for the occupancy. A second derivative is refused.
    """
    elbo: Tensor = _PolicyElbo.apply(tables, alpha, log_pi)  # type: ignore[no-untyped-call]
    return elbo


class _PolicyElbo(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: Tables, alpha: Tensor, log_pi: Tensor) -> Tensor:
        own = values(tables, log_pi, alpha)
        ctx.tables, ctx.alpha = tables, alpha
        ctx.save_for_backward(log_pi, own.q)
        p = tables.log_initial.exp()
        v_0 = own.v if tables.horizon is None else own.v[0]
        return nats(torch.where(p > 0, p * v_0, 0.0).sum(), alpha)

    @staticmethod
    def backward(ctx: Any, elbo_bar: Tensor) -> Any:
        refuse_second_derivative()
        log_pi, q = ctx.saved_tensors
        return None, None, elbo_bar * gradient(ctx.tables, log_pi, q, ctx.alpha)


def gradient(tables: Tables, log_pi: Tensor, q: Tensor, alpha: Tensor) -> Tensor:
    """Return ∂ELBO/∂log π = d(s) π(a|s) (q(s,a)/α - log π(a|s)/p(a|s) - 1), nats, every entry taken for itself."""
    d = occupancy(tables, log_pi)
    d = d if tables.horizon is None else d[:-1]
    log_prior = tables.log_prior  # [S, A], or [T, S, A] where the slices differ
    weights = d.unsqueeze(-1) * log_pi.exp()
    return torch.where(weights > 0, weights * (nats(q, alpha) - (log_pi - log_prior) - 1), 0.0)


def _averaged(tables: Tables) -> list[Averaged]:
    """Return the averaged dynamics of every time; one object for all where they are the same."""
    slices = [average(slice_, tables.discount) for slice_ in tables.slices()]
    return slices if tables.timed else slices * (tables.horizon or 1)


def _price(tables: Tables, log_pi: Tensor, alpha: Tensor) -> Tensor:
    """Return α log π(a|s)/p(a|s), reward units; 0 where the policy never acts so."""
    return torch.where(log_pi > -torch.inf, alpha * (log_pi - tables.log_prior), 0.0)


def _lifelong(tables: Tables, log_pi: Tensor, alpha: Tensor) -> Tensor:
    dynamics, pi = _averaged(tables)[0], log_pi.exp()
    gain = torch.where(pi > 0, pi * (dynamics.reward - _price(tables, log_pi, alpha)), 0.0).sum(-1)
    living, barred = dynamics.living(pi), gain == -torch.inf
    finite = life_to_come(living, torch.where(barred, 0.0, gain))
    return torch.where(_reaches(living, barred), -torch.inf, finite)


def _reaches(living: Chain, target: Tensor) -> Tensor:
    """Return which states may ever come to the target: a linear solve would leave rounding where the chance is 0."""
    while True:
        grown = target | (living.pull(target.to(living.weights.dtype)) > 0)
        if torch.equal(grown, target):
            return target
        target = grown
