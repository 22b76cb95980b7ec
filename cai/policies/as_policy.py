"""Convert anything that acts to a policy, and check its tables before any exact number is computed from them."""

from collections.abc import Callable
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import FiniteModel, Model, is_finite
from cai.compile.switching_model import SwitchingLinear
from cai.errors import fault, user_code
from cai.policies.action_programs import enumerated
from cai.policies.fixed import FixedPolicy, always, prior_at
from cai.policies.function import FunctionPolicy, checked
from cai.policies.mixed_policies import mixed_policy
from cai.policies.protocol import Act, FinitePolicy, Policy
from cai.policies.real_policies import real_policy
from cai.policies.terminated import pad_terminated, replace_terminated
from cai.support.memory import TENSOR, require_room
from cai.world.definition import require_policy
from cai.world.spaces import Space


def policy_table(tables: FiniteModel, policy: FinitePolicy, t: int) -> Float[Tensor, "S A"]:
    """Return log π_t(a|s), nats, checked and normalised in the tables' dtype.

    The row of an ended state is the prior's, because there are no actions after the end.

    Raises:
        WorldError: the shape is not ``[S, A]``, an entry is NaN, or a row does not sum to 1.
    """
    where, S, A = f"policy, t = {t}", tables.states.size, tables.actions.size
    log_pi = policy.log_probs(t)
    log_pi = pad_terminated(tables.ended, log_pi) if isinstance(log_pi, Tensor) else log_pi
    if not isinstance(log_pi, Tensor) or tuple(log_pi.shape) != (S, A):
        seen = f"log-probabilities of shape {list(getattr(log_pi, 'shape', []))}"
        raise fault(where, seen, f"shape [S, A] = [{S}, {A}]{_without_ended(tables)}")
    if log_pi.is_complex():
        raise fault(where, "complex log-probabilities", "real ones")
    log_pi = _prior_where_ended(tables, log_pi.detach().to(tables.dtype), t)
    total = log_pi.logsumexp(-1, keepdim=True)
    wrong = ~(total.abs() <= 1e-5).squeeze(-1) | log_pi.isnan().any(-1)
    if bool(wrong.any()):
        s = int(wrong.nonzero()[0])
        probs = [round(p, 6) for p in log_pi[s].exp().tolist()]
        raise fault(where, f"probabilities {probs} at {tables.states.label(s)}", "numbers that sum to 1")
    rounding = 64 * torch.finfo(log_pi.dtype).eps
    return log_pi - torch.where(total.abs() < rounding, 0.0, total)


def checked_table(tables: FiniteModel, policy: FinitePolicy) -> Float[Tensor, "*T S A"]:
    """Return log π of every time, nats, ``[T, S, A]`` (``[S, A]`` for the infinite horizon), checked time by time.

    Raises:
        WorldError: a table has a wrong shape, an entry is NaN, or a row does not sum to 1.
        IntractableError: the table needs more memory than there is.
    """
    if tables.horizon is None:
        return policy_table(tables, policy, 0)
    require_table("policy", tables)
    return torch.stack([policy_table(tables, policy, t) for t in range(tables.horizon)])


def require_table(where: str, tables: FiniteModel) -> None:
    """Raise an ``IntractableError`` where a policy's table for every time needs more memory than there is."""
    T, S, A = tables.horizon or 1, tables.states.size, tables.actions.size
    size = f"probabilities of A = {A:,} actions in S = {S:,} states at T = {T:,} times"
    require_room(where, size, T * (2 * S * A * tables.dtype.itemsize + TENSOR))  # one by one, then stacked


def log_table(tables: FiniteModel, policy: FinitePolicy) -> Float[Tensor, "*T S A"]:
    """Return log π of every time, nats, ``[T, S, A]`` (``[S, A]`` for the infinite horizon), differentiable, unchecked.

    At once where the policy can, by its own ``log_table()``; else time by time.
    """
    times = [] if tables.horizon is None else [tables.horizon]
    if hasattr(policy, "log_table"):
        table: Tensor = policy.log_table()
    else:
        table = policy.log_probs(0) if not times else torch.stack([policy.log_probs(t) for t in range(times[0])])
    table = table.to(tables.dtype).expand(*times, tables.states.size, tables.actions.size)
    ended = tables.ended
    if ended is None:
        return table
    differs = bool(times) and tables.timed
    prior = torch.stack([tables.log_prior_at(t) for t in range(times[0])]) if differs else tables.log_prior_at(0)
    return torch.where(ended[:, None], prior.detach(), table)


def _prior_where_ended(tables: FiniteModel, log_pi: Tensor, t: int) -> Tensor:
    ended = tables.ended
    return log_pi if ended is None else torch.where(ended[:, None], tables.log_prior_at(t).detach(), log_pi)


def _without_ended(tables: FiniteModel) -> str:
    """Say how many rows a table needs that leaves ended states out; nothing where it cannot."""
    ended = tables.ended
    living = 0 if ended is None else len(ended) - int(ended.sum())
    if ended is None or not living or bool(ended[:living].any()):
        return ""
    return f"; S = {living} without the states of an ended episode, where nobody acts"


def weights_in_play(tables: FiniteModel, weights: Float[Tensor, "*T S A"]) -> Float[Tensor, "*T S A"]:
    """Return weights of states and actions, 0 in ended states, where there are no actions."""
    ended = tables.ended
    return weights if ended is None else torch.where(ended[:, None], 0.0, weights)


def unwrapped(where: str, policy: Any) -> Any:
    """Return the ``.policy`` of what has one and does not act itself: messages, a fit, a learner's result.

    Raises:
        WorldError: it is a class, or its ``act`` cannot be called.
    """
    require_policy(where, policy)
    return unwrapped(where, policy.policy) if hasattr(policy, "policy") and not hasattr(policy, "act") else policy


@overload
def as_policy(model: FiniteModel, policy: Any) -> FinitePolicy: ...
@overload
def as_policy(model: Model, policy: Any) -> Policy: ...
def as_policy(model: Model, policy: Any) -> Policy:
    """Read anything that acts as a ``Policy`` on a compiled world: see ``finite_``, ``real_`` and ``mixed_policy``.

    Raises:
        WorldError: a shape, a sum or a site is not as it should be.
    """
    policy = unwrapped("policy", policy)
    if isinstance(model, SwitchingLinear):
        return mixed_policy(model, policy)
    return finite_policy(model, policy) if is_finite(model) else real_policy(model, policy)  # type: ignore[arg-type]


def finite_policy(tables: FiniteModel, policy: Any) -> FinitePolicy:
    """Read anything that acts as a policy over numbered states and actions.

    Args:
        tables: the compiled world.
        policy: None (the action prior), a ``Policy``, anything with a ``.policy`` (messages, a fit), a tensor, array or
            list of probabilities ``[S, A]`` or ``[T, S, A]``, an object whose ``act`` samples the world's action sites,
            or a function ``(state, t) -> probabilities [S, A]`` that is called on all states at once. Nobody acts where
            an episode has ended: programs and functions are not called on such states, and a tensor may leave them out
            where they are the last, as a policy of the plain Gymnasium environment does.

    Raises:
        WorldError: a shape, a sum or a site is not as it should be.
    """
    if policy is None:
        return _from_table(tables, partial(prior_at, tables))
    if isinstance(policy, list | tuple | np.ndarray):
        with user_code("policy", "numbers: probabilities [S, A] or [T, S, A]"):
            policy = torch.as_tensor(np.asarray(policy))
    if isinstance(policy, Tensor):
        return _from_tensor(tables, policy)
    if callable(getattr(policy, "log_probs", None)):
        horizon = getattr(policy, "horizon", None)
        if horizon is not None and horizon != tables.horizon:
            raise fault("policy", f"a policy for the horizon {horizon}", f"one for this world's, {tables.horizon}")
        return policy if isinstance(policy, FinitePolicy) else _from_table(tables, policy.log_probs)
    if hasattr(policy, "act"):
        numbers = replace_terminated(tables.ended)
        log_probs = partial(_enumerated, tables.states, tables.actions, tables.dtype, policy.act, numbers)
        return _from_table(tables, log_probs)
    if callable(policy):
        return FunctionPolicy(tables, policy)
    expected = "None, a tensor [S, A] or [T, S, A], a function (state, t) -> probabilities, or an object with act"
    raise fault("policy", f"a {type(policy).__name__}", expected)


def _from_table(tables: FiniteModel, table: Callable[[int], Tensor]) -> FixedPolicy:
    return FixedPolicy(table, tables.states, tables.actions)


def _enumerated(states: Space, actions: Space, dtype: torch.dtype, act: Act, numbers: Tensor | None, t: int) -> Tensor:
    return enumerated(act, states, actions, t, dtype, numbers)


def _from_tensor(tables: FiniteModel, probs: Tensor) -> FixedPolicy:
    S, A, T, dtype = tables.states.size, tables.actions.size, tables.horizon, tables.dtype
    given, probs = list(probs.shape), pad_terminated(tables.ended, probs)
    if tuple(probs.shape) not in {(S, A), (T, S, A)}:
        shapes = f"[S, A] = [{S}, {A}]" + (f" or [T, S, A] = [{T}, {S}, {A}]" if T else "")
        expected = f"probabilities of shape {shapes}{_without_ended(tables)}"
        expected += f"; of one action a state torch.eye({A})[actions] makes them" if len(given) == 1 else ""
        raise fault("policy", f"a tensor of shape {given}", expected)
    if tuple(probs.shape) == (S, A):
        stationary = checked(tables.states, tables.actions, probs, 0, dtype).log()
        return _from_table(tables, partial(always, stationary))
    timed = [checked(tables.states, tables.actions, probs[t], t, dtype).log() for t in range(len(probs))]
    return _from_table(tables, timed.__getitem__)
