"""tabulate: a world's program, enumerated once, as sparse tables of outcomes."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cai.compile.ends import ended_states, inspect_ends
from cai.compile.inspect import (
    admit,
    fits,
    inspect_factors,
    inspect_next,
    inspect_pointwise,
    inspect_prior,
    inspect_rewards,
    inspect_scope,
)
from cai.compile.slices import Enumerated, enumerate_slice, noise, start
from cai.compile.table_model import Slice, Tables
from cai.compile.validate import require_valid
from cai.errors import Finding, IntractableError, demand, fault, user_code
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spec import Spec, read

SLICE = ("log_prior", "log_prob", "successor", "reward")
"""The fields of a ``Slice``."""
MAX_BYTES = 8e9


def tabulate(
    world: World | Spec | Tables,
    *,
    dtype: torch.dtype = torch.float64,
    reachable: bool = False,
    max_bytes: float = MAX_BYTES,
) -> Tables:
    """Compile a world to tables: for every (s, a) its outcomes ``(log_prob, successor, reward)``.

    The slice runs once with all values of every variable enumerated, each variable on its own dimension. K is the
    number of joint values of the slice's latents (a ``Point`` is a function of them and adds none). If the world's code
    reads ``t``, the tables have a time axis, unless all slices are equal.

    Args:
        world: the world; tables are returned as they are.
        dtype: of probabilities and rewards.
        reachable: drop the states that no action ever reaches (forbidden actions count too, since ``do`` may take
            them); ``states.kept`` lists the others.
        max_bytes: the largest size of the tables; larger ones raise an error before they are allocated.

    Raises:
        WorldError: the world is not valid (``cai.check`` lists every finding).
        IntractableError: a variable is not finite, or the tables would exceed ``max_bytes``.
    """
    if isinstance(world, Tables):
        require_valid(world)
        if reachable or (dtype, max_bytes) != (torch.float64, MAX_BYTES):
            raise fault("tabulate", "options beside tables that are compiled already", "the world itself")
        return world
    with precision(dtype):
        tables = _compile(read(world), max_bytes)
    return _drop_unreachable(tables) if reachable else tables


def _compile(spec: Spec, max_bytes: float) -> Tables:
    admit(spec)
    refuse_large(spec, max_bytes)
    if spec.stationary and spec.horizon != 1:
        require_equal_slices(spec)
    timed = spec.timed
    fields = tabulate_slice(spec, 0)
    if timed:
        timed, fields = _equal_or_stacked([fields, *(tabulate_slice(spec, t) for t in range(1, spec.times))])
    tables = Tables(
        log_initial=start_log_prob(spec),
        log_prior=fields.log_prior,
        log_prob=fields.log_prob,
        successor=fields.successor,
        reward=fields.reward,
        terminal=terminal_reward(spec),
        horizon=spec.horizon,
        discount=spec.discount,
        timed=timed,
        states=spec.states,
        actions=spec.actions,
        layout=spec.layout,
        latents=noise(spec),
        ended=ended_states(spec),
        longest=spec.longest,
    )
    demand(inspect_ends(tables))
    demand(inspect_scope(spec))
    with torch.no_grad():
        for t in {0, (spec.horizon or 1) - 1}:
            demand(inspect_pointwise(spec, tables, t))
    return tables


def tabulate_slice(spec: Spec, t: int, rows: Tensor | None = None) -> Slice:
    """Enumerate, check and flatten the slice of time ``t``, or the rows of the states of these numbers."""
    factors = enumerate_slice(spec, t, rows=rows)
    demand(inspect_slice(factors, spec, t, rows))
    full = full_shape(spec, rows)
    inner = full[len(spec.latents) :]
    log_prior = _total(factors.log_prior, factors.dims, inner, spec.dtype)
    log_prob = _total(factors.log_prob, factors.dims, full, spec.dtype)
    outcomes = (spec.states.size if rows is None else len(rows), spec.actions.size, spec.outcomes)
    return Slice(
        log_prior=_flat(log_prior, inner).reshape(outcomes[:2]),
        log_prob=_flat(log_prob, full).reshape(outcomes),
        successor=_flat(spec.states.join(factors.next_values), full).reshape(outcomes),
        reward=_flat(factors.reward.to(spec.dtype), full).reshape(outcomes),
    )


def _flat(value: Tensor, sizes: tuple[int, ...]) -> Tensor:
    # All dimensions reversed give [s…, a…, k…]; for single variables this is a view, stride 0 where nothing varies.
    return value.expand(sizes).permute(*range(len(sizes) - 1, -1, -1))


def require_equal_slices(spec: Spec, rows: Tensor | None = None) -> None:
    """Hold a world to its claim: its slices of two times must be equal."""
    early, late = (tabulate_slice(spec, t, rows) for t in (0, (spec.horizon or 2) - 1))
    for name in SLICE:
        if not torch.equal(getattr(early, name), getattr(late, name)):
            raise fault("stationary", f"True, but {name} differs over time", "slices that do not depend on t")


def inspect_slice(factors: Enumerated, spec: Spec, t: int, rows: Tensor | None = None) -> list[Finding]:
    """Return every finding on an enumerated slice."""
    factors = _detached(factors)
    full = full_shape(spec, rows)
    inner = full[len(spec.latents) :]
    act = list(inspect_factors(f"act, t = {t}", factors.log_prior, factors.dims, inner))
    if all(fits(factor, inner) for factor in factors.log_prior.values()):
        log_prior = _flat(sum(factors.log_prior.values(), torch.zeros(())), inner).reshape(-1, spec.actions.size)
        act = list(inspect_prior(f"act, t = {t}", log_prior, spec.states, rows)) or act
    return [
        *act,
        *inspect_factors(f"step, t = {t}", factors.log_prob, factors.dims, full),
        *inspect_next(f"step, t = {t}", factors.next_values, spec.states, full),
        *inspect_rewards(f"step, t = {t}", factors.reward, full),
    ]


def _detached(factors: Enumerated) -> Enumerated:
    def plain(named: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in named.items()}

    prior, prob, values = plain(factors.log_prior), plain(factors.log_prob), plain(factors.next_values)
    return Enumerated(prior, prob, values, factors.reward.detach(), factors.dims, factors.sizes)


def full_shape(spec: Spec, rows: Tensor | None = None) -> tuple[int, ...]:
    """Return the sizes of all dimensions of an enumerated slice, leftmost first."""
    states = spec.states.sizes[::-1] if rows is None else (len(rows),)
    return (*list(spec.latents.values())[::-1], *spec.actions.sizes[::-1], *states)


def _total(factors: dict[str, Tensor], dims: dict[str, int], full: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Add the factors. One of lower precision is normalised again in ``dtype``, so that it sums to one there too."""
    total = torch.zeros((), dtype=dtype)
    for name, factor in factors.items():
        log_prob = factor.to(dtype)
        if name in dims and factor.dtype != dtype and factor.dim() >= -dims[name]:
            log_prob = log_prob - log_prob.logsumexp(dims[name], keepdim=True)
        total = total + log_prob
    return total


def start_log_prob(spec: Spec) -> Tensor:
    """Return log p(s_0), nats, ``[S]``."""
    begin, full = start(spec), spec.states.sizes[::-1]
    demand(inspect_factors("initial", {n: f.detach() for n, f in begin.log_probs.items()}, begin.dims, full))
    total = _total(begin.log_probs, begin.dims, full, spec.dtype).expand(full)
    return total.permute(*range(len(full) - 1, -1, -1)).reshape(-1)


def terminal_reward(spec: Spec, rows: Tensor | None = None) -> Tensor:
    """Return the checked reward of s_T, reward units, ``[S]`` or that of some rows; zero where the world has none."""
    numbers = torch.arange(spec.states.size) if rows is None else rows
    reward = torch.zeros(len(numbers), dtype=spec.dtype)
    if spec.terminal is None:
        return reward
    values = spec.states.split(numbers)
    with user_code("terminal", "code that broadcasts over a batch of states"):
        reward = torch.as_tensor(spec.terminal(spec.states.pack(values))).to(spec.dtype)
    demand(inspect_rewards("terminal", reward.detach(), (len(numbers),)))
    return reward.expand(len(numbers))


def _equal_or_stacked(slices: list[Slice]) -> tuple[bool, Slice]:
    """Return whether the slices differ over time, and all of them, stacked where they do."""
    first, T = slices[0], len(slices)

    def constant(name: str) -> bool:
        # A tensor with gradients keeps its time axis, even if the values are equal now.
        values = [cast(Tensor, getattr(slice_, name)) for slice_ in slices]
        return not any(v.requires_grad for v in values) and all(torch.equal(v, values[0]) for v in values)

    same = {name: constant(name) for name in SLICE}
    if all(same.values()):
        return False, first

    def over_time(name: str) -> Tensor:
        head = cast(Tensor, getattr(first, name))
        return head.expand(T, *head.shape) if same[name] else torch.stack([getattr(slice_, name) for slice_ in slices])

    return True, Slice(*(over_time(name) for name in SLICE))


def refuse_large(spec: Spec, max_bytes: float = MAX_BYTES) -> None:
    """Raise an ``IntractableError`` where the tables of a world would exceed ``max_bytes``."""
    S, A, K, T = spec.states.size, spec.actions.size, spec.outcomes, spec.times
    need = T * S * A * K * (8 + 2 * spec.dtype.itemsize)
    if need > max_bytes:
        sizes = f"S = {S:,} states, A = {A:,} actions, K = {K:,} outcomes" + (f", T = {T:,} times" if T > 1 else "")
        seen = f"{sizes}, which need {need:,.0f} bytes"
        expected = (
            f"at most max_bytes = {max_bytes:,.0f}: keep fewer latents, or make the next state a cai.Point of them"
        )
        raise IntractableError([Finding("tables", seen, expected)])


def _drop_unreachable(tables: Tables) -> Tables:
    reached = tables.log_initial > -torch.inf
    edges = [(slice_.successor, slice_.log_prob > -torch.inf) for slice_ in tables.slices()]
    while True:
        grown = reached.clone()
        for successor, possible in edges:
            grown[successor[reached][possible[reached]]] = True
        if torch.equal(grown, reached):
            break
        reached = grown
    numbers = reached.nonzero().flatten()
    row = torch.full((len(reached),), 0).index_copy(0, numbers, torch.arange(len(numbers)))
    axis = 1 if tables.timed else 0
    layout = tables.layout
    if layout is not None:
        entered = None if layout.entered is None else layout.entered[numbers]
        layout = replace(layout, cell=layout.cell[numbers], entered=entered)
    return replace(
        tables,
        log_initial=tables.log_initial[numbers],
        log_prior=tables.log_prior.index_select(axis, numbers),
        log_prob=tables.log_prob.index_select(axis, numbers),
        successor=row[tables.successor.index_select(axis, numbers)],
        reward=tables.reward.index_select(axis, numbers),
        terminal=tables.terminal[numbers],
        states=replace(tables.states, kept=numbers),
        layout=layout,
        ended=None if tables.ended is None else tables.ended[numbers],
    )
