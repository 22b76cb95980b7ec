"""Local value functions by regression: soft value iteration backward in time, on states that a policy visits.

At each time v_t is the least-squares fit, with a ridge, of ``α log Σ_a p(a|s) exp(E[r + γ v_{t+1}|s, a]/α)`` by
tables over one variable, over what a reward reads, or over two that a slice ties (Tsitsiklis & Van Roy 2001). No
bound rests on the fit: any function of local tables gives a policy, and the ELBO of the policy is sampled.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.bounds.local_policy import LocalPolicy
from cai.approximation.bounds.look_ahead import States
from cai.approximation.bounds.time_left import require_time_left
from cai.compile.factor_model import Factor, Factors, primed

WIDEST = 64
"""Numbers of one table of a value function."""
COLUMNS = 600
"""Numbers of all tables of one time."""
RIDGE = 1.0
"""Of the fit: every number of a table has seen the mean once."""


def basis(factors: Factors) -> tuple[tuple[str, ...], ...]:
    """Return the scopes of a value function: each variable, what a reward reads, and pairs that a slice ties."""
    sizes, states = factors.states.named_sizes, factors.states.names
    slice_ = factors.slices[-1]
    paid = [_within(states, piece.scope) for piece in (*slice_.reward, *factors.terminal)]
    tied = [_within(states, (*factor.scope, name[:-1])) for name, factor in slice_.chance.items()]
    pairs = [pair for scope in (*paid, *tied) for pair in itertools.combinations(scope, 2)]
    kept: dict[tuple[str, ...], int] = {(name,): sizes[name] for name in states}
    for scope in (*paid, *pairs):
        numbers = math.prod(sizes[name] for name in scope)
        if len(scope) > 1 and numbers <= WIDEST and sum(kept.values()) + numbers <= COLUMNS:
            kept[scope] = numbers
    return tuple(kept)


def _within(states: tuple[str, ...], scope: tuple[str, ...]) -> tuple[str, ...]:
    """Return the state variables of a scope; a variable counts both now and in the next state."""
    return tuple(name for name in states if name in scope or primed(name) in scope)


def fitted(
    policy: LocalPolicy, states: Sequence[States], scopes: Sequence[tuple[str, ...]], deadline: float = math.inf
) -> LocalPolicy:
    """Return the policy of new values, fitted backward in time on states ``[T]`` by time.

    Raises:
        TimeoutError: the deadline, ``time.monotonic``, is over.
    """
    factors = policy.ahead.factors
    values: list[Sequence[Factor]] = [()] * len(states) + [factors.terminal]
    for t in reversed(range(len(states))):
        require_time_left(deadline)
        _, backup = replace(policy, values=values).choice(t, states[t])
        possible = backup > -torch.inf
        if bool(possible.any()):
            least = backup[possible].min() - 10 * policy.temperature  # far below all that is possible, yet finite
            values[t] = _fit(factors, states[t], torch.where(possible, backup, least), scopes)
    return replace(policy, values=values)


def _fit(
    factors: Factors, states: States, target: Float[Tensor, " N"], scopes: Sequence[tuple[str, ...]]
) -> tuple[Factor, ...]:
    sizes = factors.states.named_sizes
    shapes = [tuple(sizes[name] for name in scope) for scope in scopes]
    columns = [_columns(states, scope, shape) for scope, shape in zip(scopes, shapes, strict=True)]
    x, mean = torch.cat(columns, -1), target.mean()
    gram = x.mT @ x + RIDGE * torch.eye(x.shape[-1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.mT @ (target - mean))
    parts = weights.split([column.shape[-1] for column in columns])
    tables = (Factor(scope, part.reshape(shape)) for scope, part, shape in zip(scopes, parts, shapes, strict=True))
    return (Factor((), mean), *tables)


def _columns(states: States, scope: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
    """Return which joint value each state has, as 0 and 1, ``[N, numbers]``."""
    number = torch.zeros(len(states[scope[0]]), dtype=torch.long)
    for name, size in zip(scope, shape, strict=True):
        number = number * size + states[name]
    return torch.nn.functional.one_hot(number, torch.Size(shape).numel()).double()
