"""An affine-Gaussian policy on a linear-Gaussian world: the expectations that its accounts are made of, exact.

Measures are Gaussians and what is expected is quadratic, so that ``E f = ½ tr(M S) + f(mean)``.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import Finding, IntractableError, fault
from cai.exact.gaussian.sampled_operator import SampledOperator
from cai.exact.operator import Operator
from cai.policies.affine_gaussian import Conditional
from cai.policies.gaussian_action import require_single

SAME = 1e-9
"""Relative size below which two planes of actions are the same."""


LARGEST = 1e250
"""The largest variance that is reckoned with."""
CERTAIN = 1e-7
"""How far a measure may be from a plane, or spread across it, and count as on it; covariances are rounded."""


def measured(op: Any, policy: Any, samples: int, seed: int) -> Any:
    """Return the operator itself for an affine-Gaussian policy, else N trajectories."""
    return op if isinstance(policy, Conditional) else SampledOperator(op, samples, seed)


def entries(op: Operator) -> int:
    """Return the entries of a quadratic of (s, a)."""
    size: int = op.model.states.dimension + op.model.actions.dimension
    return size**2


def act(op: Operator, policy: Any, t: int) -> ConditionalGaussian:
    """Return a given s at time t, in the world's dtype.

    Raises:
        WorldError: a number is not finite, or the policy is a batch.
    """
    own: ConditionalGaussian = policy.conditional(t)
    require_single("policy", own)
    if not all(bool(part.isfinite().all()) for part in own.tensors):
        raise fault(f"policy, t = {t}", "a gain, offset or scale that is not finite", "finite numbers")
    return own.each(lambda part: part.detach().to(op.model.start_mean))


def score(op: Operator, t: int, act: ConditionalGaussian) -> Quadratic:
    """Return log π_t(a|s) of (s, a), nats: the density on the plane of actions that the prior reaches.

    It is inf where there is none: the policy is certain in a direction in which the prior is not, or not all of its
    actions are on that plane.
    """
    log_pi, prior = act.log_density(), op.model.at(t).prior
    if bool(act.rank == prior.rank) and _on_plane(act, prior):
        return log_pi
    nowhere = Quadratic.zero(log_pi.dimension, log_pi.b)
    return replace(nowhere, c=nowhere.c + torch.inf)


def _on_plane(act: ConditionalGaussian, prior: ConditionalGaussian) -> bool:
    """Return whether all actions of the policy are among those that the prior reaches, whatever the state."""
    m = act.offset.shape[-1]
    if int(prior.rank) == m:
        return True
    off = torch.eye(m).to(prior.scale) - prior.scale @ torch.linalg.pinv(prior.scale)
    ways = torch.cat((act.gain - prior.gain, (act.offset - prior.offset).unsqueeze(-1), act.scale), -1)
    size = torch.cat((prior.gain, prior.offset.unsqueeze(-1), prior.scale), -1).abs().amax()
    return bool((off @ ways).abs().amax() <= SAME * size.clamp(min=1.0))


def states_under(op: Operator, acts: Callable[[int], ConditionalGaussian]) -> Gaussian:
    """Return p(s_t, alive) of every time, T+1 of them; for the infinite horizon one, the moments of their sum.

    Raises:
        IntractableError: they are beyond the range of numbers.
    """
    T: int | None = op.model.horizon
    mu = [op.initial() if T is not None else op.visits(acts(0))]
    for t in range(T or 0):
        mu.append(require_range(t + 1, op.push(t, op.joint(mu[-1], acts(t)))))
    states: Gaussian = op.all_times(mu)
    return states


def require_range(t: int, mu: Gaussian) -> Gaussian:
    """Return a measure whose moments are numbers of which there are squares.

    Raises:
        IntractableError: they are not.
    """
    if bool((mu.covariance.abs() <= LARGEST).all()):
        return mu
    seen = f"a state whose variance is above {LARGEST:g}: the policy does not hold it"
    raise IntractableError([Finding(f"evaluate, t = {t}", seen, "a shorter horizon, or another policy")])


def expect(op: Operator, mu: Gaussian, f: Quadratic) -> Tensor:
    """Return E[f, alive]; -inf where the measure is not on the plane where f is finite."""
    if f.rows is not None and f.sides is not None:
        apart = (f.rows @ mu.mean.unsqueeze(-1)).squeeze(-1) - f.sides
        spread = (f.rows @ mu.covariance @ f.rows.mT).diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        if bool(((apart.abs() + spread) > CERTAIN * (1 + f.sides.abs())).any()):
            return f.c.new_tensor(-torch.inf)
    return mu.expect(f)


def in_play(op: Operator, joint: Gaussian) -> Gaussian:
    """Return the measure itself: no episode ends before its time."""
    return joint


def total(op: Operator, expected: Tensor) -> Tensor:
    """Return the number."""
    return expected


def by_place(op: Operator, account: Tensor) -> Tensor:
    """Return the account, ``[T]``."""
    return account


def standard_error(op: Operator, total: Tensor) -> float:
    """Return 0: expectations are exact."""
    return 0.0


def start_luck(op: Operator, v_0: Quadratic) -> Tensor:
    """Return KL(p(s_0) ‖ p(s_0|O)) = (α log Z - E v_0)/α, nats."""
    return (op.start(v_0) - expect(op, op.initial(), v_0)) / op.alpha


def shortfall(op: Operator, t: int, v_next: Quadratic) -> Quadratic:
    """Return v* - q* of HARD, of (s, a), reward units: the loss of each action."""
    v: Quadratic = op.backup(t, v_next)
    lost: Quadratic = v.lifted(op.model.actions.dimension) - op.q(t, v_next)
    return lost
