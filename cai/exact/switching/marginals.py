"""Marginals on switching worlds: probabilities of finite variables, mean and covariance of real ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cai.compile.by_mode import GaussiansByMode, QuadraticsByMode
from cai.compile.quadratic import stacked
from cai.errors import Finding, NoClosedFormError, fault
from cai.exact.operator import Operator

Times = tuple[GaussiansByMode, ...]


def variables(op: Operator) -> tuple[str, ...]:
    """Return the names of states and actions."""
    return (*op.model.states.names, *op.model.actions.names)


def state_marginal(
    op: Operator, t: int, mu: GaussiansByMode | tuple[GaussiansByMode, ...], names: Sequence[str]
) -> Any:
    """Return the marginal of finite state variables, an axis each, or of real ones, a ``Gaussian`` of their moments.

    Of all times at once with a T axis first.
    """
    if not isinstance(mu, tuple):
        return _marginal(op, mu, names)
    each = [_marginal(op, one, names) for one in mu]
    return torch.stack(each) if isinstance(each[0], Tensor) else stacked(each)


def marginal(
    op: Operator, t: int, mu: GaussiansByMode, v_next: QuadraticsByMode, names: Sequence[str], error_bound: float
) -> Any:
    """Return the marginal of some variables of a slice, all of them finite, or all real."""
    return _marginal(op, op.joint(mu, op.log_policy(t, v_next, error_bound)), names)


def forward(op: Operator, v: Any, states: Any) -> Any:
    """Raise: the forward messages have no closed form.

    Raises:
        NoClosedFormError: always: they are sums over the sequences of modes so far.
    """
    seen = "sums over the sequences of modes so far"
    raise NoClosedFormError([Finding("forward", seen, "states(t) and marginals(t), which are exact")])


def log_start(op: Operator, v_0: Any) -> Any:
    """Raise: the density of the start under the rule has no closed form.

    Raises:
        NoClosedFormError: always: it is a sum over the sequences of modes to come.
    """
    seen = "a density that is a sum over the sequences of modes to come"
    raise NoClosedFormError([Finding("log_initial", seen, "initial(), which is exact")])


def _marginal(op: Operator, mu: GaussiansByMode, names: Sequence[str]) -> Any:
    """Return probabilities of finite variables, or the moments of real ones.

    Raises:
        WorldError: some are finite and some real.
    """
    modes, reals, actions = op.model.states.modes, op.model.states.reals, op.model.actions
    finite = [name for name in names if name in modes.names]
    if not finite:
        places: list[int] = []
        for name in names:
            own = reals.where([name]) if name in reals.names else actions.where([name])
            places += own if name in reals.names else [reals.dimension + k for k in own]
        return mu.moments.of(places)
    if len(finite) < len(names):
        expected = f"finite variables alone ({', '.join(modes.names)}), or real ones alone"
        raise fault("marginal, names", f"{list(names)}", expected)
    table = mu.mode_mass.reshape(modes.sizes)
    others = [axis for axis, name in enumerate(modes.names) if name not in finite]
    summed = table.sum(others) if others else table
    kept = [name for name in modes.names if name in finite]
    return summed.permute([kept.index(name) for name in names])
