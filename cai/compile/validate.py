"""Compiled worlds are checked when ``solve``, ``evaluate`` and others receive them: invalid numbers raise an error.

A compiler makes no invalid numbers; ``dataclasses.replace`` and tables made by hand can. Each object is checked once,
so a tensor that is changed in place later is not checked again. The error names the first wrong place of each field.
"""

import math
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from cai.compile.factor_model import Factor, Factors
from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic
from cai.compile.table_model import Tables
from cai.errors import Finding, WorldError

SEEN: "weakref.WeakValueDictionary[int, Tables | Factors | LinearGaussian]" = weakref.WeakValueDictionary()
"""The compiled worlds that were found right, by identity."""
SLACK = 1e-4
"""How far from 0 the logarithm of a row's sum may be: rounding in float32, and what a difference quotient asks."""


def require_valid(compiled: Tables | Factors | LinearGaussian) -> None:
    """Raise a ``WorldError`` that lists what is wrong with a compiled world; each object is looked at once.

    Raises:
        WorldError: a horizon, a discount, a shape, a dtype, a successor, a probability, a matrix or a reward is not
            valid.
    """
    if SEEN.get(id(compiled)) is compiled:
        return
    with torch.no_grad():
        findings = [*_clock(compiled), *_inside(compiled)]
    if findings:
        raise WorldError(findings)
    SEEN[id(compiled)] = compiled


def _inside(compiled: Tables | Factors | LinearGaussian) -> Iterator[Finding]:
    if isinstance(compiled, Tables):
        return _tables(compiled)
    return _factors(compiled) if isinstance(compiled, Factors) else _linear(compiled)


def _clock(compiled: Tables | Factors | LinearGaussian) -> Iterator[Finding]:
    T, gamma = compiled.horizon, compiled.discount
    number = isinstance(gamma, int | float) and not isinstance(gamma, bool)
    if not number or not 0 <= gamma <= 1:
        yield Finding("discount", f"{gamma!r}", "a number from 0 to 1: the probability of surviving a step")
    elif T is None and gamma == 1:
        yield Finding("horizon", "None with a discount of 1", "a positive integer, or a discount below 1")
    if T is not None and (isinstance(T, bool) or not isinstance(T, int) or T < 1):
        yield Finding("horizon", f"{T!r}", "a positive integer, or None with a discount below 1")


def _tables(tables: Tables) -> Iterator[Finding]:
    S, A, lead = tables.states.size, tables.actions.size, tuple(tables.batch_shape)
    if tables.timed and tables.horizon is None:
        yield Finding("tables, timed", "slices that differ over time, and no horizon", "a horizon, or one slice")
        return
    inner = (*lead, tables.horizon) if tables.timed else lead
    K = tables.log_prob.shape[-1]
    shapes = {"log_initial": (*lead, S), "terminal": (*lead, S), "log_prior": (*inner, S, A)}
    shapes |= dict.fromkeys(("log_prob", "successor", "reward"), (*inner, S, A, K))
    shapes |= {} if tables.ended is None else {"ended": (*lead, S)}
    bad = [
        Finding(f"tables, {name}", f"shape {tuple(getattr(tables, name).shape)}", f"shape {shape}")
        for name, shape in shapes.items()
        if tuple(getattr(tables, name).shape) != shape
    ]
    if bad:
        yield from bad
        return
    for name in ("log_initial", "log_prior", "log_prob"):
        yield from _rows(f"tables, {name}", getattr(tables, name))
    for name in ("reward", "terminal"):
        yield from _rewards(f"tables, {name}", getattr(tables, name))
    if tables.successor.is_floating_point():
        yield Finding("tables, successor", f"dtype {tables.successor.dtype}", "whole numbers")
        return
    low, high = (int(end) for end in torch.aminmax(tables.successor))
    if low < 0 or high >= S:
        place = _place((tables.successor < 0) | (tables.successor >= S))
        yield Finding(f"tables, successor{place}", f"states from {low} to {high}", f"states 0 … {S - 1}")


def _factors(factors: Factors) -> Iterator[Finding]:
    sizes = factors.sizes
    T = len(factors.slices)
    if T != 1 and factors.horizon != T:
        yield Finding("factors, slices", f"{T} of them with horizon {factors.horizon}", "one, or one for each time")
    for name, factor in factors.initial.items():
        yield from _factor(f"factors, initial of '{name}'", factor, sizes, chance=True)
    for piece in factors.terminal:
        yield from _factor("factors, terminal", piece, sizes, chance=False)
    for t, part in enumerate(factors.slices):
        if t and part is factors.slices[t - 1]:
            continue
        for name, factor in (*part.prior.items(), *part.chance.items()):
            yield from _factor(f"factors, t = {t}, p of '{name}'", factor, sizes, chance=True)
        for piece in part.reward:
            yield from _factor(f"factors, t = {t}, reward", piece, sizes, chance=False)


def _linear(model: LinearGaussian) -> Iterator[Finding]:
    if model.timed and model.horizon is None:
        yield Finding("timed", "slices that differ over time, and no horizon", "a horizon, or one slice")
        return
    bad = [
        Finding(f"linear-Gaussian, {name}", f"shape {tuple(field.shape)}", f"shape {shape}")
        for name, (field, shape) in _linear_shapes(model).items()
        if tuple(field.shape) != shape
    ]
    if bad:
        yield from bad
        return
    for name, (field, _) in _linear_shapes(model).items():
        if field.dtype == torch.bool:
            continue
        if not field.is_floating_point() or not bool(field.isfinite().all()):
            wrong = ~field.isfinite()
            seen = f"{float(field[wrong].flatten()[0]):g}" if bool(wrong.any()) else f"dtype {field.dtype}"
            yield Finding(f"linear-Gaussian, {name}{_place(wrong)}", seen, "finite real numbers")
    for name, f in (("reward", model.slices.reward), ("terminal", model.terminal)):
        skew = (f.M - f.M.mT).abs() > SLACK * f.M.abs().amax()
        if bool(skew.any()):
            yield Finding(f"linear-Gaussian, {name}.M{_place(skew)}", "a matrix that is not symmetric", "½(M + M')")


def _linear_shapes(model: LinearGaussian) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Return every tensor, with the shape that it should have."""
    B, n, m, d = tuple(model.batch_shape), model.states.dimension, model.actions.dimension, model.sites.dimension
    part, prior = model.slices, model.slices.prior
    L = (*B, model.horizon or 1) if model.timed else B
    N, j, k0 = part.transition.shape[-1], prior.scale.shape[-1], model.start_scale.shape[-1]
    return {
        "start_mean": (model.start_mean, (*B, n)),
        "start_scale": (model.start_scale, (*B, n, k0)),
        "transition": (part.transition, (*L, n, N)),
        "drift": (part.drift, (*L, n)),
        "prior.gain": (prior.gain, (*L, m, n)),
        "prior.offset": (prior.offset, (*L, m)),
        "prior.scale": (prior.scale, (*L, m, j)),
        "flat": (part.flat, (*L, j)),
        "readout": (part.readout, (*L, d, N)),
        "readout_offset": (part.readout_offset, (*L, d)),
        "log_volume": (part.log_volume, L),
        **_quadratic_shapes("reward", part.reward, L, N),
        **_quadratic_shapes("terminal", model.terminal, B, n),
    }


def _quadratic_shapes(
    name: str, f: Quadratic, lead: tuple[int, ...], N: int
) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    shapes = {f"{name}.M": (f.M, (*lead, N, N)), f"{name}.b": (f.b, (*lead, N)), f"{name}.c": (f.c, lead)}
    if f.rows is None or f.sides is None:
        return shapes
    R = f.rows.shape[-2]
    return {**shapes, f"{name}.rows": (f.rows, (*lead, R, N)), f"{name}.sides": (f.sides, (*lead, R))}


def _factor(where: str, factor: Factor, sizes: dict[str, int], *, chance: bool) -> Iterator[Finding]:
    unknown = [name for name in factor.scope if name not in sizes]
    shape = tuple(sizes.get(name, 0) for name in factor.scope)
    if unknown or tuple(factor.table.shape) != shape:
        yield Finding(where, f"{factor!r}", f"known variables, and a table of shape {shape}")
    elif chance:
        yield from _rows(where, factor.table)
    else:
        yield from _rewards(where, factor.table)


def _rows(where: str, logs: Tensor) -> Iterator[Finding]:
    """Check that rows of log-probabilities sum to 1; rows that are repeated in memory are looked at once."""
    if not logs.is_floating_point():
        yield Finding(where, f"dtype {logs.dtype}", "log-probabilities, nats")
        return
    once = _once(logs, last=1)
    total = once.logsumexp(-1) if once.dim() else once
    wrong = ~(total.abs() <= SLACK)  # NaN is wrong too
    if bool(wrong.any()):
        seen = float(total[wrong].flatten()[0].exp()) if total.dim() else float(total.exp())
        words = "NaN" if math.isnan(seen) else f"probabilities that sum to {seen:.6g}"
        yield Finding(f"{where}{_place(wrong)}", words, "log-probabilities (nats) whose exponentials sum to 1")


def _rewards(where: str, rewards: Tensor) -> Iterator[Finding]:
    if not rewards.is_floating_point():
        yield Finding(where, f"dtype {rewards.dtype}", "real numbers")
        return
    once = _once(rewards, last=0)
    if bool((once.amax() < torch.inf) if once.numel() else True):  # NaN is no less
        return
    wrong = once.isnan() | (once == torch.inf)
    seen = "NaN" if bool(once.isnan().any()) else "+inf"
    yield Finding(
        f"{where}{_place(wrong)}",
        f"{int(wrong.sum())} rewards are {seen}",
        "finite numbers, or -inf for what is forbidden",
    )


def _once(field: Tensor, last: int) -> Tensor:
    """Drop repetitions along axes of stride 0, but for the last ``keep`` axes."""
    for axis in range(field.dim() - last):
        if field.stride(axis) == 0 and field.shape[axis] > 1:
            field = field.narrow(axis, 0, 1)
    return field


def _place(wrong: Tensor) -> str:
    place = wrong.nonzero()[0].tolist()
    return f" at {place}" if place else ""
