"""Q-values in: a table or a function of action values becomes a policy, greedy or Boltzmann."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault, user_code
from cai.exact.forms import compiled
from cai.policies.fixed import FixedPolicy
from cai.policies.terminated import pad_terminated, replace_terminated
from cai.support.process import precision

EXPECTED = "finite numbers, or -inf"


def from_q(q: Any, world: Any = None, *, temperature: float | None = None) -> FixedPolicy | Tensor:
    """Read action values as a policy: greedy, or Boltzmann at a temperature.

    Greedy: ``π(a|s) = 1/n`` for the n best of the allowed actions, equal numbers sharing alike. With a temperature:
    ``π(a|s) ∝ p(a|s) exp(q(s,a)/α)`` with the world's action prior p. Ended states need no values: a table may leave
    them out if they are the last states, and a function is not called on them.

    Args:
        q: action values, reward units, ``[S, A]`` or ``[T, S, A]``: a tensor, an array, a list, or a function
            ``(state, t) -> [S, A]``, called on all states at once.
        world: the world, or what it was compiled to; its prior says which actions are allowed. Without a world all
            actions are allowed, q must be a table, and the probabilities are returned, which ``evaluate`` and
            ``compare`` take.
        temperature: α > 0, reward units; None is greedy.

    Raises:
        WorldError: q is something else, has another shape, NaN or +inf; or the temperature is not positive.
        IntractableError: the world cannot be compiled.
    """
    if temperature is not None and not 0 < temperature < float("inf"):
        raise fault("from_q, temperature", f"{temperature!r}", "a positive, finite number, or None for greedy")
    if world is None:
        table = _table(q)
        return _log_policy(table, torch.zeros_like(table), temperature).exp()
    model = compiled(world)
    values = q if callable(q) and not isinstance(q, Tensor) else _fitting(model, _table(q))
    timed = isinstance(values, Tensor) and values.dim() == 3
    horizon = model.horizon if timed else None
    return FixedPolicy(_Rows(values, model, temperature), model.states, model.actions, horizon)


@dataclass(frozen=True)
class _Rows:
    """The table of each time, made when it is asked for."""

    q: Tensor | Callable[..., Any]
    world: Any
    temperature: float | None

    def __call__(self, t: int) -> Tensor:
        log_prior = self.world.log_prior_at(t)
        if isinstance(self.q, Tensor):
            rows = self.q if self.q.dim() == 2 else self.q[t]
        else:
            rows = _asked(self.q, self.world, t)
        return _log_policy(rows.to(log_prior), log_prior, self.temperature)


def _asked(q: Callable[..., Any], world: Any, t: int) -> Tensor:
    """Call a function on all states that have not ended."""
    states, ended = world.states, world.ended
    numbers = replace_terminated(ended)
    numbers = torch.arange(states.size) if numbers is None else numbers
    with precision(world.dtype), torch.no_grad(), user_code(f"from_q, t = {t}", "a function (state, t) -> q [S, A]"):
        values = q(states.pack(states.split(numbers)), t)
    return _fitting(world, _table(values), timed=False)


def _table(q: Any) -> Tensor:
    try:
        table = q.detach() if isinstance(q, Tensor) else torch.as_tensor(np.asarray(q))
        table = table if table.is_floating_point() else table.to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise fault("from_q", f"a {type(q).__name__}", "a tensor, an array, or a function (state, t) -> q") from error
    if table.dim() not in (2, 3):
        raise fault("from_q", f"q of shape {list(table.shape)}", "[S, A] or [T, S, A]")
    if bool((table.isnan() | (table == torch.inf)).any()):
        raise fault("from_q", "q with NaN or +inf", EXPECTED)
    return table


def _fitting(world: Any, table: Tensor, *, timed: bool = True) -> Tensor:
    """Return the table with rows for all states, or raise what its shape should be."""
    S, A, T = world.states.size, world.actions.size, world.horizon
    table = pad_terminated(world.ended, table)
    if tuple(table.shape) != (S, A) and not (timed and T is not None and tuple(table.shape) == (T, S, A)):
        shapes = f"[S, A] = [{S}, {A}]" + (f" or [T, S, A] = [{T}, {S}, {A}]" if timed and T is not None else "")
        raise fault("from_q", f"q of shape {list(table.shape)}", shapes)
    return table


def _log_policy(
    q: Float[Tensor, "*T S A"], log_prior: Float[Tensor, "*T S A"], temperature: float | None
) -> Float[Tensor, "*T S A"]:
    """Return log π, nats; where no allowed action has a finite value they are all alike."""
    allowed = log_prior > -torch.inf
    best = torch.where(allowed, q, -torch.inf).amax(-1, keepdim=True)
    if temperature is None:
        ties = allowed & (q == best)
        return torch.where(ties, -ties.sum(-1, keepdim=True).to(q.dtype).log(), -torch.inf)
    advantage = torch.where(best == -torch.inf, 0.0, q - best)  # all -inf: the prior
    return (log_prior + advantage / temperature).log_softmax(-1)
