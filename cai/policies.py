"""Policies: how to act in a state, for programs (``act``) and for tables (``log_probs``)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.enumerate import Enumerate, precision, run
from cai.errors import fault, quoted
from cai.types import Space, Tables, Values


@runtime_checkable
class Policy(Protocol):
    """What acts. ``act`` samples the world's action sites in a program; ``log_probs`` gives the table of one time."""

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t given s_t, at the world's own action sites."""

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats."""

    def probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return π_t(a|s)."""


@dataclass(frozen=True)
class TabularPolicy:
    """A policy over numbered states and actions, whose table of time t is computed when it is asked for.

    Attributes:
        table: maps t to log π_t(a|s), nats, shape ``[*B, S, A]``.
        states, actions: what the numbers mean, and how the program names them.
        horizon: the T that its times count towards, or None for a policy that is the same at all times.
    """

    table: Callable[[int], Tensor]
    states: Space
    actions: Space
    horizon: int | None = None

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats; -inf where the policy never acts so."""
        return self.table(t)

    def probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return π_t(a|s)."""
        return self.table(t).exp()

    def act(self, state: Values, t: int) -> Values:
        """Sample the action variables one after the other, each given those before: the chain rule on the table."""
        table = self.table(t)
        if table.dim() != 2:
            raise fault(
                "policy", f"a batch of shape {list(table.shape[:-2])}", "the policy of one entry: messages[i].policy"
            )
        joint = table.reshape(-1, *self.actions.sizes)
        number = self.states.join(self.states.unpack(state))
        chosen: dict[str, Tensor] = {}
        for name, dtype in zip(self.actions.names, self.actions.dtypes, strict=True):
            logits = joint[(number, *(value.long() for value in chosen.values()))]
            rest = len(self.actions.names) - len(chosen) - 1
            if rest:
                logits = logits.logsumexp(tuple(range(-rest, 0)))
            never = (logits == -torch.inf).all(-1, keepdim=True)  # given what is never chosen before: anything will do
            logits = torch.where(never, 0.0, logits)
            chosen[name] = pyro.sample(name, dist.Categorical(logits=logits)).to(dtype)
        return self.actions.pack(chosen)


def policy_table(tables: Tables, policy: Policy, t: int) -> Float[Tensor, "S A"]:
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


def as_policy(tables: Tables, policy: Any) -> Policy:
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
        return policy  # type: ignore[no-any-return]
    if hasattr(policy, "act"):
        return _from_table(tables, lambda t: _enumerated(tables, policy, t))
    if callable(policy):
        return _from_table(tables, lambda t: _called(tables, policy, t))
    expected = "None, a tensor [S, A] or [T, S, A], a function (state, t) -> probabilities, or an object with act"
    raise fault("policy", f"a {type(policy).__name__}", expected)


def _from_table(tables: Tables, table: Callable[[int], Tensor]) -> TabularPolicy:
    return TabularPolicy(table, tables.states, tables.actions)


def _from_tensor(tables: Tables, probs: Tensor) -> TabularPolicy:
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
