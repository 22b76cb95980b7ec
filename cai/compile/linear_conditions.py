"""Conditions on a linear-Gaussian system: ``observe`` of any variable, ``do`` of its action.

Exact evidence restricts y to a plane, ``rows y = sides``; off it the reward of its time is -inf. For an observation
with Gaussian error the slice has one more noise coordinate, and the sum of variable and error is exact evidence
(virtual evidence, Pearl 1988, section 2.3.3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic, log_volume_of
from cai.errors import Finding, IntractableError, fault
from cai.world.conditions import Conditions, Value, require_sites
from cai.world.coordinates import Coordinates
from cai.world.reparametrise import real_site

NARROW = 1e-5
"""The least noise of a fact on an action, or on what no noise of its slice moves, relative to how much that varies."""


@dataclass(frozen=True)
class Fact:
    """A condition on a variable, or a coordinate of one, at a time: ``x + root ξ = value``, ξ standard normal.

    Attributes:
        variable: the variable.
        t: the time.
        among: the indices of the numbers in the variable's event.
        value: ``[k]``.
        root: a factor of the covariance of the noise, ``[k, k]``; None where it is exact.
    """

    variable: str
    t: int
    among: tuple[int, ...]
    value: Tensor
    root: Tensor | None = None


def observed(model: LinearGaussian, conditions: Conditions) -> LinearGaussian:
    """Return a system under observations of states, actions and latents; its slices then differ over time.

    Raises:
        WorldError: there is no such variable, time or value, or the horizon is infinite.
        IntractableError: the noise of what was seen is too narrow for float64.
    """
    facts = read_facts("observe", conditions.seen, (model.states, model.actions, model.sites), model.horizon)
    if not facts:
        return model
    assert model.horizon is not None
    for fact in facts:
        if fact.t == model.horizon and fact.root is not None and model.discount < 1:
            seen = f"uncertain evidence on the last state, which is entered with probability γ = {model.discount:g}"
            raise fault(f"observe, site '{fact.variable}_{fact.t}'", seen, "a value, or no discount")
    return _seen(with_time(model), facts)


def with_time(model: LinearGaussian) -> LinearGaussian:
    """Return a system of a finite horizon with an axis for time."""
    if model.timed:
        return model
    axis, T = len(model.batch_shape), model.horizon or 1

    def over_time(x: Tensor) -> Tensor:
        return x.unsqueeze(axis).expand(*x.shape[:axis], T, *x.shape[axis:])

    return replace(model, slices=model.slices.each(over_time), timed=True)


def read_facts(
    what: str,
    part: Mapping[tuple[str, int], Value],
    spaces: Sequence[Coordinates],
    horizon: int | None,
) -> list[Fact]:
    """Read conditions on the variables of states, actions and sites, or on single coordinates of them, by label."""
    known = dict.fromkeys(name for space in spaces for name in (*space.names, *space.labels))
    states = (*spaces[0].names, *spaces[0].labels)
    require_sites(what, part, tuple(known), states, horizon)
    shapes = {name: shape for space in spaces for name, shape in zip(space.names, space.shapes, strict=True)}
    facts = []
    for (name, t), value in part.items():
        where = f"{what}, site '{name}_{t}'"
        if name in shapes:
            variable, shape = name, shapes[name]
            among = tuple(range(shape.numel()))
        else:
            space = next(space for space in spaces if name in space.labels)
            place, shape = space.labels.index(name), torch.Size()
            variable, part_of = next((v, s) for v, s in space.slices.items() if s.start <= place < s.stop)
            among = (place - part_of.start,)
        if isinstance(value, Distribution):
            if what == "do":
                raise fault(where, f"{value!r}", "one value: an intervention is certain")
            facts.append(Fact(variable, t, among, *_density(where, value, shape)))
        else:
            facts.append(Fact(variable, t, among, _numbers(where, value, shape)))
    return facts


def _numbers(where: str, value: Any, shape: torch.Size) -> Tensor:
    """Return a value of a variable, flattened; a text has numbers separated by commas, in brackets or not."""
    expected = f"numbers of shape {tuple(shape)}" if shape else "a number"
    try:
        given = [float(part) for part in value.strip("[]() ").split(",")] if isinstance(value, str) else value
        numbers = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise fault(where, f"value {value!r}", expected) from None
    if numbers.numel() == shape.numel() == 1:
        numbers = numbers.reshape(shape)
    if numbers.shape != shape:
        raise fault(where, f"a value of shape {tuple(numbers.shape)}", expected)
    if not bool(numbers.isfinite().all()):
        raise fault(where, f"value {value!r}", f"{expected}, finite")
    return numbers.flatten()


def _density(where: str, fn: Any, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
    """Return the value seen and a factor of the covariance of its error."""
    site = real_site(where, fn, flat=False)
    whole = site.batch + site.shape
    if whole != shape:
        raise fault(where, f"a distribution of shape {tuple(whole)}", f"shape {tuple(shape)}, as the variable")
    value = site.loc.to(torch.float64).flatten()
    if site.scale is None:
        return value, None
    scale = site.scale.to(torch.float64)
    if not site.mixed:
        return value, torch.diag_embed(scale.flatten())
    return value, torch.block_diag(*scale.reshape(-1, *scale.shape[-2:]))


def _seen(model: LinearGaussian, facts: Sequence[Fact]) -> LinearGaussian:
    """Add facts to a system with a time axis."""
    T = model.horizon
    assert T is not None
    slots: dict[int, list[tuple[Tensor, Tensor, Tensor | None]]] = {}
    last: list[tuple[Tensor, Tensor]] = []
    for fact in facts:
        rows, sides = _row(model, fact)
        if fact.root is not None:
            _require_wide(model, fact, rows, sides, fact.root)
        if fact.t == T and fact.root is None:
            last.append((rows, sides))
        else:
            slots.setdefault(_slot(model, fact), []).append((rows, sides, fact.root))
    terminal = model.terminal + _plane(last, model.states.dimension, model.terminal) if last else model.terminal
    more = max((sum(len(root) for _, _, root in slot if root is not None) for slot in slots.values()), default=0)
    slices = _with_noise(model.slices, more)
    N, axis = slices.transition.shape[-1], len(model.batch_shape)
    planes, volumes = {}, {}
    for t, slot in slots.items():
        used, padded, volume = N - more, [], model.start_mean.new_zeros(())
        for rows, sides, root in slot:
            row = torch.nn.functional.pad(rows, (0, more))
            if root is not None:
                noise = torch.nn.functional.pad(root.to(row), (used, N - used - len(root))).expand_as(row)
                row, used = row + noise, used + len(root)
                volume = volume + log_volume_of(root.diagonal()) + 0.5 * math.log(2 * math.pi) * len(root)
            padded.append((row, sides))
        planes[t], volumes[t] = _plane(padded, N, slices.reward.at(t, axis)), volume
    return replace(model, slices=_on_planes(slices, planes, volumes, axis, T), terminal=terminal)


def _on_planes(
    slices: LinearSlice, planes: Mapping[int, Quadratic], volumes: Mapping[int, Tensor], axis: int, T: int
) -> LinearSlice:
    """Restrict the rewards of some times to planes; those of the others have rows of zeros."""
    if not planes:
        return slices
    most = max(plane.rows.shape[-2] for plane in planes.values() if plane.rows is not None)
    b = slices.reward.b
    rows = b.new_zeros(*b.shape[:-1], most, b.shape[-1])
    sides = b.new_zeros(*b.shape[:-1], most)
    log_volume = slices.log_volume.clone()
    for t, plane in planes.items():
        assert plane.rows is not None
        assert plane.sides is not None
        R = plane.rows.shape[-2]
        rows.select(axis, t)[..., :R, :] = plane.rows
        sides.select(axis, t)[..., :R] = plane.sides
        log_volume.select(axis, t).add_(volumes[t])
    reward = slices.reward + Quadratic(0 * slices.reward.M, 0 * b, 0 * slices.reward.c, rows, sides)
    return replace(slices, reward=reward, log_volume=log_volume)


def _row(model: LinearGaussian, fact: Fact) -> tuple[Tensor, Tensor]:
    """Return the rows of y, or of s_T, that give a variable, ``[*B, k, N]``, and their sides, ``[*B, k]``."""
    T, n = model.horizon or 0, model.states.dimension
    value = fact.value.to(model.start_mean)
    if fact.variable in model.states.names:
        places = _picked(model.states, fact)
        if _slot(model, fact) == fact.t:
            N = n if fact.t == T else model.slices.transition.shape[-1]
            return _batched(model, torch.eye(n, N)[places], value)
        slice_ = model.at(fact.t - 1)
        return slice_.transition[..., places, :], value - slice_.drift[..., places]
    if fact.variable in model.actions.names:
        places = [n + place for place in _picked(model.actions, fact)]
        N = model.slices.transition.shape[-1]
        return _batched(model, torch.eye(N)[places], value)
    slice_, places = model.at(fact.t), _picked(model.sites, fact)
    return slice_.readout[..., places, :], value - slice_.readout_offset[..., places]


def _slot(model: LinearGaussian, fact: Fact) -> int:
    """Return the time in whose slice a fact stands.

    An uncertain fact on a state stands where the state is drawn, beside the noise that moves it: of two noises the
    narrow one is then no loss of digits, as it is where the state is given.
    """
    drawn = fact.variable in model.states.names and fact.root is not None and fact.t > 0
    return fact.t - 1 if drawn and (fact.t == model.horizon or model.discount == 1) else fact.t


def _require_wide(model: LinearGaussian, fact: Fact, rows: Tensor, sides: Tensor, root: Tensor) -> None:
    """Raise where the noise of a fact is so narrow that its precision drowns what the action or the start adds.

    Beside noise of the slice it may be as narrow as it likes. Where the variable is certain, its value takes the place
    of what it varies by: ``(value - x)²/2 noise²`` has the digits of ``value²/noise²``.
    """
    n, m = model.states.dimension, model.actions.dimension
    scale = model.at(_slot(model, fact)).prior.scale
    noise = torch.cat((rows[..., n + m :], root.to(rows).expand(*rows.shape[:-1], -1)), -1)
    own = torch.linalg.vector_norm(noise, dim=-1)
    parts = rows[..., n : n + m] @ scale, rows[..., :n] @ model.start_scale
    spread = torch.linalg.vector_norm(torch.cat(parts, -1), dim=-1)
    spread = torch.where(spread > 0, spread, sides.abs())
    narrow = ((own > 0) & (own < NARROW * spread)).flatten()
    if bool(narrow.any()):
        i = int(narrow.nonzero()[0])
        seen = f"noise of {float(own.flatten()[i]):.3g} on what has the size {float(spread.flatten()[i]):.3g}"
        expected = f"noise of at least {NARROW:g} of that, or the value itself"
        raise IntractableError([Finding(f"observe, site '{fact.variable}_{fact.t}'", seen, expected)])


def _picked(space: Coordinates, fact: Fact) -> list[int]:
    whole = range(space.dimension)[space.slices[fact.variable]]
    return [whole[i] for i in fact.among]


def _batched(model: LinearGaussian, rows: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    batch = model.batch_shape
    return rows.to(value).expand(*batch, *rows.shape), value.expand(*batch, *value.shape)


def _plane(pieces: Sequence[tuple[Tensor, Tensor]], N: int, like: Quadratic) -> Quadratic:
    """Return the function that is 0 on the plane of all rows together."""
    rows, sides = torch.cat([row for row, _ in pieces], -2), torch.cat([side for _, side in pieces], -1)
    return Quadratic(0 * like.M, 0 * like.b, 0 * like.c, rows, sides)


def _with_noise(slices: LinearSlice, more: int) -> LinearSlice:
    """Return the slices with more coordinates of noise, on which nothing depends."""
    pad = torch.nn.functional.pad
    return replace(
        slices,
        transition=pad(slices.transition, (0, more)),
        readout=pad(slices.readout, (0, more)),
        reward=slices.reward.lifted(more),
        log_volume=slices.log_volume - 0.5 * math.log(2 * math.pi) * more,
    )


def forced_action(model: LinearGaussian, conditions: Conditions) -> LinearGaussian:
    """Return a system whose one action variable is set at some times.

    Raises:
        WorldError: another variable is set: a system does not keep the parents of a variable.
    """
    spaces = (model.states, model.actions, model.sites)
    facts = read_facts("do", conditions.forced, spaces, model.horizon)
    barred = [fact.variable for fact in facts if (fact.variable,) != model.actions.names]
    if barred:
        seen = f"'{barred[0]}' of a world that is compiled to a linear-Gaussian system"
        raise fault("do", seen, "the world itself: the system does not keep the parents of its other variables")
    if not facts:
        return model
    model = with_time(model)
    axis, prior, flat = len(model.batch_shape), model.slices.prior, model.slices.flat.clone()
    gain, offset, scale = (part.clone() for part in (prior.gain, prior.offset, prior.scale))
    for fact in facts:
        if len(fact.among) < model.actions.dimension:
            raise fault("do", f"a part of '{fact.variable}'", "the world itself, or the whole variable")
        for part in (gain, scale):
            part.select(axis, fact.t).zero_()
        offset.select(axis, fact.t)[:] = fact.value.to(offset)
        flat.select(axis, fact.t)[:] = False
    return replace(model, slices=replace(model.slices, prior=ConditionalGaussian(gain, offset, scale), flat=flat))
