"""Compiled worlds under conditions: factors, and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, FactoredSlice, Factors, primed
from cai.compile.table_model import Tables
from cai.compile.tabulate import MAX_BYTES, SLICE
from cai.compile.virtual_evidence import require_alive, seen_factors, seen_tables
from cai.errors import Finding, IntractableError, fault
from cai.world.conditions import Conditions, settled
from cai.world.spaces import Space


def condition_factors(
    factors: Factors, conditions: Conditions, names: Mapping[str, Sequence[str | None]] | None = None
) -> Factors:
    """Return the factors under conditions: evidence is a piece of 0 and -inf, a forced site loses its parents.

    Args:
        factors: the factors.
        conditions: on their sites.
        names: what values are called, where the factors do not say it themselves.

    Raises:
        WorldError: a condition names no site of the world.
    """
    sizes, states = factors.sizes, factors.states.named_sizes
    others = {name: sizes[name] for name in (*factors.actions.names, *factors.latents)}
    names = {**_called(factors.states), **_called(factors.actions), **(names or {})}
    conditions = settled(conditions, states, others, factors.horizon, names)
    require_alive(conditions, factors.horizon, factors.discount)
    whole = factors.unrolled()
    assert whole.horizon is not None
    slices = list(whole.slices)
    initial, terminal = dict(whole.initial), whole.terminal
    for (name, t), value in conditions.hard_evidence.items():
        piece = Factor((name,), point_mass(sizes[name], value, factors.dtype))
        if t == whole.horizon:
            terminal = (*terminal, piece)
        else:
            slices[t] = replace(slices[t], reward=(*slices[t].reward, piece))
    for (name, t), value in conditions.forced_values.items():
        point = point_mass(sizes[name], value, factors.dtype)
        if name in states and t == 0:
            initial[name] = Factor((name,), point)
        elif name in states:
            slices[t - 1] = _forced(slices[t - 1], primed(name), point)
        else:
            slices[t] = _forced(slices[t], name, point)
    ends = whole.ends if conditions.spare_ends(factors.states.names) else None
    conditioned = replace(whole, initial=initial, slices=tuple(slices), terminal=terminal, ends=ends)
    return seen_factors(conditioned, conditions.likelihoods)


def _called(space: Space) -> dict[str, tuple[str | None, ...]]:
    return {name: labels for name, labels in zip(space.names, space.labels, strict=False) if labels is not None}


def _forced(slice_: FactoredSlice, name: str, point: Tensor) -> FactoredSlice:
    def cut(part: dict[str, Factor]) -> dict[str, Factor]:
        return {own: Factor((own,), point) if own == name else factor for own, factor in part.items()}

    return replace(slice_, prior=cut(slice_.prior), chance=cut(slice_.chance))


def point_mass(size: int, value: int, dtype: torch.dtype) -> Tensor:
    """Return the logarithm of a point mass, nats, ``[size]``."""
    return torch.where(torch.arange(size) == value, 0.0, -torch.inf).to(dtype)


def condition_tables(tables: Tables, conditions: Conditions) -> Tables:
    """Return tables under conditions on states and actions: a reward of -inf forbids what disagrees.

    Tables do not store the parents of a state, so only a single action variable can be forced.

    Raises:
        WorldError: a condition names no state or action, or forces what tables cannot.
    """
    states, actions = tables.states.named_sizes, tables.actions.named_sizes
    names = {**_called(tables.states), **_called(tables.actions)}
    conditions = settled(conditions, states, actions, tables.horizon, names)
    require_alive(conditions, tables.horizon, tables.discount)
    barred = [name for name, _ in conditions.forced if name in states or len(actions) > 1]
    if barred:
        seen = f"'{barred[0]}' of a world that is compiled to tables"
        raise fault("do", seen, "the world itself: tables do not store the parents of its other variables")
    tables = _with_time(tables)
    axis, T = len(tables.batch_shape), tables.horizon
    prior, reward, terminal = tables.log_prior.clone(), tables.reward.clone(), tables.terminal.clone()
    spaces = (tables.states, tables.actions)
    values = {name: value for space in spaces for name, value in space.split(torch.arange(space.size)).items()}
    for (name, t), value in conditions.hard_evidence.items():
        wrong = values[name] != value
        if t == T:
            terminal[..., wrong] = -torch.inf
        elif name in states:
            reward.select(axis, t)[..., wrong, :, :] = -torch.inf
        else:
            reward.select(axis, t)[..., wrong, :] = -torch.inf
    for (name, t), value in conditions.forced_values.items():
        prior.select(axis, t)[:] = torch.where(values[name] == value, 0.0, -torch.inf)
    ended = tables.ended if conditions.spare_ends(tables.states.names) else None
    tables = replace(tables, log_prior=prior, reward=reward, terminal=terminal, ended=ended)
    return seen_tables(tables, conditions.likelihoods)


def _with_time(tables: Tables) -> Tables:
    """Return tables of a finite horizon with an axis for time.

    Raises:
        IntractableError: rewards that differ over time would be too large.
    """
    T, axis = tables.horizon or 1, len(tables.batch_shape)
    need = tables.reward.numel() * (1 if tables.timed else T) * tables.reward.element_size()
    if need > MAX_BYTES:
        seen = f"rewards that differ over T = {T:,} times, {need:,} bytes"
        raise IntractableError([Finding("conditions on tables", seen, f"at most {MAX_BYTES:,.0f} bytes")])
    if tables.timed:
        return tables
    lead, slice_ = (*tables.batch_shape, T), {name: getattr(tables, name).unsqueeze(axis) for name in SLICE}
    return replace(
        tables, timed=True, **{name: field.expand(*lead, *field.shape[axis + 1 :]) for name, field in slice_.items()}
    )
