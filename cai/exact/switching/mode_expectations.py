"""A policy that is affine-Gaussian in each mode, on a switching world: the expectations of its accounts, exact.

The measure of a time is a mixture over the sequences of past modes. The expectation of a function that is quadratic in
each mode needs only the probability, mean and covariance of each mode, and these can be pushed forward exactly.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cai.compile.by_mode import ConditionalsByMode, GaussiansByMode, QuadraticsByMode
from cai.compile.pointwise_function import Pointwise
from cai.compile.quadratic import stacked
from cai.errors import Finding, NoClosedFormError, fault
from cai.exact.gaussian import expectations
from cai.exact.gaussian.sampled_operator import SampledOperator
from cai.exact.operator import Operator
from cai.policies.switching_policy import SwitchingPolicy


def entries(op: Operator) -> int:
    """Return the entries of a quadratic of (s, a) in every mode."""
    space = op.model.states
    size: int = space.reals.dimension + op.model.actions.dimension
    return int(space.modes.size) * size**2


def act(op: Operator, policy: Any, t: int) -> ConditionalsByMode:
    """Return a given s at time t.

    Raises:
        WorldError: the policy has no ``conditional(t)`` by mode.
    """
    if not hasattr(policy, "conditional"):
        raise fault("policy", f"a {type(policy).__name__}", "a policy that is affine-Gaussian in each mode")
    acts: ConditionalsByMode = policy.conditional(t)
    return acts


def score(op: Any, t: int, act: ConditionalsByMode) -> QuadraticsByMode | Pointwise:
    """Return log π_t(a|s) of the mode and (x, a), nats, a density; see ``gaussian.expectations.score``."""
    if not act.is_affine:
        return Pointwise(act.log_density)
    each = [op.along(t, op.model.first[i : i + 1]).entry(0) for i in range(len(op.model.first))]
    scores = [expectations.score(one, t, act.each.at(i)) for i, one in enumerate(each)]
    return QuadraticsByMode(act.weights.modes, stacked(scores))


def measured(op: Any, policy: Any, samples: int, seed: int) -> Any:
    """Return the operator itself for a policy that is affine-Gaussian in each mode, else N trajectories."""
    affine = isinstance(policy, SwitchingPolicy) and all(
        policy.conditional(t).is_affine for t in range(op.model.horizon or 1)
    )
    return op if affine else SampledOperator(op, samples, seed)


def states_under(op: Operator, acts: Callable[[int], ConditionalsByMode]) -> tuple[GaussiansByMode, ...]:
    """Return p(s_t, alive) of every time, T+1 of them: the moments of each mode.

    Raises:
        NoClosedFormError: the policy is a mixture in a mode.
        IntractableError: a variance is beyond the range of numbers.
    """
    mu = [op.initial()]
    for t in range(op.model.horizon or 0):
        mu.append(op.push(t, op.joint(mu[-1], acts(t))))
        expectations.require_range(t + 1, mu[-1].each)
    return tuple(mu)


def expect(op: Operator, mu: GaussiansByMode, f: QuadraticsByMode | Pointwise) -> Tensor:
    """Return E[f, alive], where f is one quadratic a mode.

    Raises:
        NoClosedFormError: f is the log of a sum.
    """
    if isinstance(f, Pointwise) or not f.is_single:
        raise log_of_a_sum()
    return mu.expect(f)


def log_of_a_sum() -> NoClosedFormError:
    """Return the error for the mean of POSTERIOR's value, where that is no quadratic."""
    seen = "the log of a sum over sequences of modes, whose mean has no closed form"
    expected = "the whole gap log Z - ELBO(π), .evidence_gap, which is exact"
    return NoClosedFormError([Finding("evaluate, the parts of log Z - ELBO(π)", seen, expected)])


def start_luck(op: Operator, v_0: QuadraticsByMode) -> Tensor:
    """Return KL(p(s_0) ‖ p(s_0|O)) = (α log Z - E v_0)/α, nats."""
    return (op.start(v_0) - expect(op, op.initial(), v_0)) / op.alpha


def shortfall(op: Any, t: int, v_next: QuadraticsByMode) -> QuadraticsByMode:
    """Return v* - q* of HARD, of the mode and (x, a), reward units: the loss of each action."""
    q = op.q(t, v_next)
    v: QuadraticsByMode = op.best(t, q)
    lost: QuadraticsByMode = v.lifted(op.model.actions.dimension) - q
    return lost
