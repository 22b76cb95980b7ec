"""The gate to every exact number: whatever acts is read as a policy, and its tables are checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.enumerate import Enumerate, precision, run
from cai.errors import fault, quoted
from cai.policies.fixed import FixedPolicy
from cai.policies.protocol import FinitePolicy
from cai.types import Tables


def policy_table(tables: Tables, policy: FinitePolicy, t: int) -> Float[Tensor, "S A"]:
    """Return log π_t(a|s), nats, checked and normalised in the tables' dtype: the one gate to every exact number.

    Raises:
        WorldError: the shape is not ``[S, A]``, an entry is NaN, or a row does not sum to 1.
    """
    where, S, A = f"policy, t = {t}", tables.states.size, tables.actions.size
    log_pi = policy.log_probs(t)
    if not isinstance(log_pi, Tensor) or tuple(log_pi.shape) != (S, A):
        seen = f"log-probabilities of shape {list(getattr(log_pi, 'shape', []))}"
        raise fault(where, seen, f"shape [S, A] = [{S}, {A}]")
    log_pi = log_pi.detach().to(tables.log_prior.dtype)
    total = log_pi.logsumexp(-1, keepdim=True)
    wrong = ~(total.abs() <= 1e-5).squeeze(-1) | log_pi.isnan().any(-1)
    if bool(wrong.any()):
        s = int(wrong.nonzero()[0])
        probs = [round(p, 6) for p in log_pi[s].exp().tolist()]
        raise fault(where, f"probabilities {probs} in state {tables.states.label(s)}", "numbers that sum to 1")
    rounding = 64 * torch.finfo(log_pi.dtype).eps
    return log_pi - torch.where(total.abs() < rounding, 0.0, total)


def as_policy(tables: Tables, policy: Any) -> FinitePolicy:
    """Read anything that acts as a ``Policy`` on these tables.

    Args:
        tables: the compiled world.
        policy: None (the action prior), a ``Policy``, anything with a ``.policy`` (messages, a fit), a tensor, array or
            list of probabilities ``[S, A]`` or ``[T, S, A]``, an object whose ``act`` samples the world's action sites,
            or a function ``(state, t) -> probabilities [S, A]`` that is called on all states at once.

    Raises:
        WorldError: a shape, a sum or a site is not as it should be.
    """
    if policy is None:
        return _from_table(tables, lambda t: tables.at(t).log_prior)
    if hasattr(policy, "policy"):
        return as_policy(tables, policy.policy)
    if isinstance(policy, list | tuple | np.ndarray):
        policy = torch.as_tensor(np.asarray(policy))
    if isinstance(policy, Tensor):
        return _from_tensor(tables, policy)
    if hasattr(policy, "log_probs"):
        horizon = getattr(policy, "horizon", None)
        if horizon is not None and horizon != tables.horizon:
            raise fault("policy", f"a policy for the horizon {horizon}", f"one for this world's, {tables.horizon}")
        return policy if isinstance(policy, FinitePolicy) else _from_table(tables, policy.log_probs)
    if hasattr(policy, "act"):
        return _from_table(tables, lambda t: _enumerated(tables, policy, t))
    if callable(policy):
        return _from_table(tables, lambda t: _called(tables, policy, t))
    expected = "None, a tensor [S, A] or [T, S, A], a function (state, t) -> probabilities, or an object with act"
    raise fault("policy", f"a {type(policy).__name__}", expected)


def _from_table(tables: Tables, table: Callable[[int], Tensor]) -> FixedPolicy:
    return FixedPolicy(table, tables.states, tables.actions)


def _from_tensor(tables: Tables, probs: Tensor) -> FixedPolicy:
    S, A, T = tables.states.size, tables.actions.size, tables.horizon
    if tuple(probs.shape) not in {(S, A), (T, S, A)}:
        shapes = f"[S, A] = [{S}, {A}]" + (f" or [T, S, A] = [{T}, {S}, {A}]" if T else "")
        raise fault("policy", f"a tensor of shape {list(probs.shape)}", f"probabilities of shape {shapes}")
    if probs.dim() == 2:
        stationary = _checked(tables, probs, 0).log()
        return _from_table(tables, lambda t: stationary)
    timed = [_checked(tables, probs[t], t).log() for t in range(len(probs))]
    return _from_table(tables, lambda t: timed[t])


def _checked(tables: Tables, probs: Any, t: int) -> Tensor:
    """Return the probabilities in the tables' dtype, normalised there; raise where they are none."""
    where, S, A = f"policy, t = {t}", tables.states.size, tables.actions.size
    if not isinstance(probs, Tensor):
        raise fault(where, f"a {type(probs).__name__}", f"a tensor of probabilities of shape [{S}, {A}]")
    try:
        probs = probs.expand(S, A)
    except RuntimeError:
        raise fault(where, f"shape {list(probs.shape)}", f"probabilities of shape [{S}, {A}]") from None
    total = probs.sum(-1)
    wrong = ((total - 1).abs() > 1e-5) | (probs < 0).any(-1) | total.isnan()
    if wrong.any():
        s = int(wrong.nonzero()[0])
        seen = f"probabilities {[round(p, 6) for p in probs[s].tolist()]} in state {tables.states.label(s)}"
        raise fault(where, seen, "numbers at least 0 that sum to 1")
    exact: Tensor = probs.to(tables.log_prior.dtype)
    return exact / exact.sum(-1, keepdim=True)


def _called(tables: Tables, function: Callable[..., Any], t: int) -> Tensor:
    states = tables.states.split(torch.arange(tables.states.size))
    with precision(tables.log_prior.dtype):
        try:
            probs = function(tables.states.pack(states), t)
        except Exception as error:
            expected = "a function (state, t) -> probabilities [S, A]"
            raise fault(f"policy, t = {t}", quoted(error), expected) from error
        return _checked(tables, probs, t).log()


def _enumerated(tables: Tables, policy: Any, t: int) -> Tensor:
    states, actions = tables.states, tables.actions
    messenger = Enumerate(f"policy, t = {t}", first=-2)
    with precision(tables.log_prior.dtype):
        run(messenger, policy.act, states.pack(states.split(torch.arange(states.size))), t)
    if tuple(messenger.sizes) != actions.names or tuple(messenger.sizes.values()) != actions.sizes:
        expected = dict(zip(actions.names, actions.sizes, strict=True))
        raise fault(messenger.where, f"sites {messenger.sizes}", f"the world's own action sites {expected}")
    full = (*actions.sizes[::-1], states.size)
    total = torch.zeros(full, dtype=tables.log_prior.dtype)
    for log_prob in messenger.log_probs.values():
        total = total + log_prob.to(total.dtype)
    return total.permute(*range(len(full) - 1, -1, -1)).reshape(states.size, actions.size)
