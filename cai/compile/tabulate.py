"""tabulate: a world's program, enumerated once, as sparse tables of outcomes."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from cai.compile.ends import audit_ends, ended_states
from cai.compile.inspect import (
    audit_factors,
    audit_next,
    audit_pointwise,
    audit_prior,
    audit_rewards,
    audit_scope,
    fits,
)
from cai.compile.slices import Enumerated, Shape, enumerate_slice, start
from cai.compile.survey import demand, survey
from cai.compile.table_model import Slice, Tables
from cai.compile.validate import require_valid
from cai.errors import Finding, IntractableError, blamed, fault
from cai.support.process import precision
from cai.world.definition import World, horizon_of
from cai.world.spaces import Space

MAX_BYTES = 8e9


def tabulate(
    world: World | Tables,
    *,
    dtype: torch.dtype = torch.float64,
    reachable: bool = False,
    max_bytes: float = MAX_BYTES,
) -> Tables:
    """Compile a world to tables: for every (s, a) its outcomes ``(log_prob, successor, reward)``.

    The slice runs once under an enumerating messenger, each variable on its own dimension; K is the number of joint
    values of the slice's latents (a ``Point`` is a function of them and takes no room). Where ``t`` is read by the
    world's code the tables carry a time axis, unless all slices turn out equal.

    Args:
        world: the world, or tables, which are returned as they are.
        dtype: of probabilities and rewards.
        reachable: drop the states that no action ever reaches, a forbidden one included: ``do`` and policies may take
            it; ``states.kept`` lists those that stay.
        max_bytes: refuse larger tables before allocating them.

    Raises:
        WorldError: the world does not conform (``cai.check`` lists every finding).
        IntractableError: a variable is not finite, or the tables would exceed ``max_bytes``.
    """
    if isinstance(world, Tables):
        require_valid(world)
        if reachable or (dtype, max_bytes) != (torch.float64, MAX_BYTES):
            raise fault("tabulate", "options beside tables that are compiled already", "the world itself")
        return world
    with precision(dtype):
        tables = _compile(world, dtype, max_bytes)
    return _drop_unreachable(tables) if reachable else tables


def _compile(world: World, dtype: torch.dtype, max_bytes: float) -> Tables:
    found = survey(world)
    shape, horizon, discount, timed = found.shape, found.horizon, found.discount, found.timed
    refuse_large(shape, horizon if timed else None, max_bytes, dtype)
    if found.claims:
        require_equal_slices(world, shape, dtype)
    slices = [tabulate_slice(world, shape, t, dtype) for t in range(horizon or 1)] if timed else None
    fields = _stationary_or_stacked(slices) if slices else tabulate_slice(world, shape, 0, dtype)
    tables = Tables(
        log_initial=start_log_prob(world, dtype),
        log_prior=fields.log_prior,
        log_prob=fields.log_prob,
        successor=fields.successor,
        reward=fields.reward,
        terminal=terminal_reward(world, shape.states, dtype),
        horizon=horizon,
        discount=discount,
        timed=fields.log_prior.dim() == 3,
        states=shape.states,
        actions=shape.actions,
        layout=getattr(world, "layout", None),
        latents=shape.noise,
        ended=ended_states(world, shape.states),
    )
    demand(audit_ends(tables))
    demand(audit_scope(world))
    with torch.no_grad():
        for t in {0, (horizon or 1) - 1}:
            demand(audit_pointwise(world, shape, tables, t))
    return tables


def tabulate_slice(world: World, shape: Shape, t: int, dtype: torch.dtype) -> Slice:
    """Enumerate, check and flatten the slice of time ``t``; a shape that keeps some states only gives their rows."""
    factors = enumerate_slice(world, shape, t)
    demand(audit_slice(factors, shape, t))
    states, actions = shape.states, shape.actions
    full = full_shape(shape)
    inner = full[len(shape.latents) :]

    log_prior = _total(factors.log_prior, factors.dims, inner, dtype)
    log_prob = _total(factors.log_prob, factors.dims, full, dtype)
    successor = replace(states, kept=None).join(factors.next_values)  # a kept state may lead to any
    outcomes = (states.size, actions.size, shape.outcomes)
    return Slice(
        log_prior=_flat(log_prior, inner).reshape(outcomes[:2]),
        log_prob=_flat(log_prob, full).reshape(outcomes),
        successor=_flat(successor, full).reshape(outcomes),
        reward=_flat(factors.reward.to(dtype), full).reshape(outcomes),
    )


def _flat(value: Tensor, sizes: tuple[int, ...]) -> Tensor:
    # All dimensions reversed give [s…, a…, k…]; for single variables this is a view, stride 0 where nothing varies.
    return value.expand(sizes).permute(*range(len(sizes) - 1, -1, -1))


def require_equal_slices(world: World, shape: Shape, dtype: torch.dtype) -> None:
    """Hold a world to its claim: its slices of two times must be equal."""
    early = tabulate_slice(world, shape, 0, dtype)
    late = tabulate_slice(world, shape, (horizon_of(world) or 2) - 1, dtype)
    for name in ("log_prior", "log_prob", "successor", "reward"):
        if not torch.equal(getattr(early, name), getattr(late, name)):
            raise fault("stationary", f"True, but {name} differs over time", "slices that do not depend on t")


def audit_slice(factors: Enumerated, shape: Shape, t: int) -> list[Finding]:
    """Return every finding on an enumerated slice."""
    factors = _detached(factors)
    full = full_shape(shape)
    inner = full[len(shape.latents) :]
    act = list(audit_factors(f"act, t = {t}", factors.log_prior, factors.dims, inner))
    if all(fits(factor, inner) for factor in factors.log_prior.values()):
        log_prior = _flat(sum(factors.log_prior.values(), torch.zeros(())), inner).reshape(shape.states.size, -1)
        act = list(audit_prior(f"act, t = {t}", log_prior, shape.states)) or act
    return [
        *act,
        *audit_factors(f"step, t = {t}", factors.log_prob, factors.dims, full),
        *audit_next(f"step, t = {t}", factors.next_values, shape.states, full),
        *audit_rewards(f"step, t = {t}", factors.reward, full),
    ]


def _detached(factors: Enumerated) -> Enumerated:
    def plain(named: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in named.items()}

    prior, prob, values = plain(factors.log_prior), plain(factors.log_prob), plain(factors.next_values)
    return Enumerated(prior, prob, values, factors.reward.detach(), factors.dims, factors.sizes)


def full_shape(shape: Shape) -> tuple[int, ...]:
    """Return the sizes of all dimensions of an enumerated slice, leftmost first."""
    rows = shape.states.sizes[::-1] if shape.states.kept is None else (shape.states.size,)
    return (*list(shape.latents.values())[::-1], *shape.actions.sizes[::-1], *rows)


def _total(factors: dict[str, Tensor], dims: dict[str, int], full: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Add the factors. One of lower precision is normalised again in ``dtype``, so that it sums to one there too."""
    total = torch.zeros((), dtype=dtype)
    for name, factor in factors.items():
        log_prob = factor.to(dtype)
        if name in dims and factor.dtype != dtype and factor.dim() >= -dims[name]:
            log_prob = log_prob - log_prob.logsumexp(dims[name], keepdim=True)
        total = total + log_prob
    return total


def start_log_prob(world: World, dtype: torch.dtype) -> Tensor:
    """Return log p(s_0), nats, ``[S]``."""
    states, begin = start(world)
    full = states.sizes[::-1]
    demand(audit_factors("initial", {n: f.detach() for n, f in begin.log_probs.items()}, begin.dims, full))
    total = _total(begin.log_probs, begin.dims, full, dtype).expand(full)
    return total.permute(*range(len(full) - 1, -1, -1)).reshape(-1)


def terminal_reward(world: World, states: Space, dtype: torch.dtype) -> Tensor:
    """Return the checked reward of s_T, reward units, ``[S]``; zero where the world has none."""
    reward = torch.zeros(states.size, dtype=dtype)
    terminal = getattr(world, "terminal", None)
    if terminal is None:
        return reward
    values = states.split(torch.arange(states.size))
    with blamed("terminal", "code that broadcasts over a batch of states"):
        reward = torch.as_tensor(terminal(states.pack(values))).to(dtype)
    demand(audit_rewards("terminal", reward.detach(), (states.size,)))
    return reward.expand(states.size)


def _stationary_or_stacked(slices: list[Slice]) -> Slice:
    fields = ("log_prior", "log_prob", "successor", "reward")
    first = slices[0]

    def constant(name: str) -> bool:
        # A tensor that is differentiated keeps its times apart even where the values agree today.
        values = [cast(Tensor, getattr(one, name)) for one in slices]
        return not any(v.requires_grad for v in values) and all(torch.equal(v, values[0]) for v in values)

    same = {name: constant(name) for name in fields}
    if all(same.values()):
        return first
    T = len(slices)

    def over_time(name: str) -> Tensor:
        head = cast(Tensor, getattr(first, name))
        return head.expand(T, *head.shape) if same[name] else torch.stack([getattr(one, name) for one in slices])

    return Slice(*(over_time(name) for name in fields))


def refuse_large(shape: Shape, times: int | None, max_bytes: float, dtype: torch.dtype) -> None:
    """Raise an ``IntractableError`` where tables of a world of this shape would exceed ``max_bytes``."""
    S, A, K, T = shape.states.size, shape.actions.size, shape.outcomes, times or 1
    need = T * S * A * K * (8 + 2 * dtype.itemsize)
    if need > max_bytes:
        sizes = f"S = {S:,} states, A = {A:,} actions, K = {K:,} outcomes" + (f", T = {T:,} times" if times else "")
        seen = f"{sizes}, which need {need:,.0f} bytes"
        expected = (
            f"at most max_bytes = {max_bytes:,.0f}: keep fewer latents, or make the next state a cai.Point of them"
        )
        raise IntractableError([Finding("tables", seen, expected)])


def _drop_unreachable(tables: Tables) -> Tables:
    seen = tables.log_initial > -torch.inf
    edges = [(one.successor, one.log_prob > -torch.inf) for one in tables.slices()]
    while True:
        grown = seen.clone()
        for successor, possible in edges:
            grown[successor[seen][possible[seen]]] = True
        if torch.equal(grown, seen):
            break
        seen = grown
    kept = seen.nonzero().flatten()
    row = torch.full((len(seen),), 0).index_copy(0, kept, torch.arange(len(kept)))
    axis = 1 if tables.timed else 0
    layout = tables.layout and replace(tables.layout, cell=tables.layout.cell[kept])
    return replace(
        tables,
        log_initial=tables.log_initial[kept],
        log_prior=tables.log_prior.index_select(axis, kept),
        log_prob=tables.log_prob.index_select(axis, kept),
        successor=row[tables.successor.index_select(axis, kept)],
        reward=tables.reward.index_select(axis, kept),
        terminal=tables.terminal[kept],
        states=replace(tables.states, kept=kept),
        layout=layout,
        ended=None if tables.ended is None else tables.ended[kept],
    )
