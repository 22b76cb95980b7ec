"""check: everything that is wrong with a world, in words, as far as it can be seen."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from cai.compile.audit import audit_layout, audit_members, audit_names
from cai.compile.enumerate import precision
from cai.compile.slices import enumerate_slice, is_timed, measure
from cai.compile.tabulate import MAX_BYTES, audit_slice, refuse_large, tabulate
from cai.errors import Finding, ImpossibleError, IntractableError, NotConvergedError, WorldError
from cai.exact.blame import blockers
from cai.exact.solve import solve
from cai.world import World, horizon_of


def check(world: Any) -> list[Finding]:
    """Look a world over and return every finding; an empty list means that it conforms.

    Goes from the outside in: the members, the horizon, one slice on single values, the slice on all states and
    actions at every time, the reach of each slice on the program's graph, and whether any trajectory can be optimal.
    It stops at the first layer that shows a fault, since the next would only show its echo. The findings are the
    errors of ``solve``.

    Args:
        world: any object.
    """
    layers: tuple[Callable[[Any], Iterator[Finding]], ...] = (audit_members, _names, _slices, _compiled)
    for layer in layers:
        with precision(torch.float64):
            findings = list(dict.fromkeys(_caught(layer, world)))
        if findings:
            return findings
    return []


def _caught(layer: Callable[[Any], Iterator[Finding]], world: Any) -> Iterator[Finding]:
    try:
        yield from layer(world)
    except (WorldError, IntractableError) as error:
        yield from error.findings


def _names(world: World) -> Iterator[Finding]:
    shape = measure(world)
    yield from audit_names(shape)
    yield from audit_layout(world, shape)


def _slices(world: World) -> Iterator[Finding]:
    shape, horizon = measure(world), horizon_of(world)
    times = (horizon or 1) if is_timed(world) else 1
    refuse_large(shape, times, MAX_BYTES, torch.float64)
    for t in range(times):
        findings = audit_slice(enumerate_slice(world, shape, t), shape, t)
        if findings:  # later times would repeat them
            yield from findings
            return


def _compiled(world: World) -> Iterator[Finding]:
    tables = tabulate(world)
    try:
        solve(tables)
    except ImpossibleError:
        yield from blockers(tables)
    except NotConvergedError:
        return  # infinite evidence at α = 1 is a matter of the temperature, no fault of the world
