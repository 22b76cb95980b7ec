"""check: the faults of a world, in words."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from cai.compile.factor_model import Factors
from cai.compile.inspect import inspect_layout, inspect_names
from cai.compile.linear_observations import linearise_observations
from cai.compile.linearise import linearise
from cai.compile.observations import factorise_observations, tabulate_observations
from cai.compile.real_program import is_real
from cai.compile.slices import enumerate_slice
from cai.compile.switching import is_mixed
from cai.compile.table_model import Tables
from cai.compile.tabulate import MAX_BYTES, inspect_slice, refuse_large
from cai.errors import Finding, ImpossibleError, IntractableError, NotConvergedError, WorldError, fault
from cai.exact.diagnose import blockers
from cai.exact.forms import SMALL, Compiled, compiled, is_compiled, may_be_factored
from cai.exact.solve import solve
from cai.support.process import precision
from cai.world.spec import Spec, read

CHEAP = 1_000_000
"""Joint states times actions up to which a world that is kept in factors is solved, to see whether it can be."""


def check(world: Any) -> list[Finding]:
    """Check a world and return every finding; an empty list means that the world is valid.

    The checks run in this order: the members, the horizon, one slice on single values, the slice on all states and
    actions at every time, whether ``terminated`` states are absorbing and pay nothing, what each slice reads in the
    program's graph, whether any trajectory can be optimal, and what an optional ``observe`` shows of the state. They
    stop at the first layer with a fault, because later layers would repeat it. The findings are the errors that
    ``solve`` would raise, and those of ``observe``, which only ``cai.partial.solve`` uses.

    A world whose tables would be too large, or slower than its factors, is checked through ``factorise``, as ``solve``
    does it. Then ``terminated`` is checked on sampled states only, and whether any trajectory can be optimal is checked
    up to 10^6 joint states times actions. A world with neither form has a finding that says so. A world of real
    variables is checked through ``linearise``, one that has finite variables, too, through ``switching``.

    Args:
        world: any object.
    """
    with precision(torch.float64):
        try:
            if is_compiled(world):
                raise fault("world", f"a {type(world).__name__}", "an instance of a world, which has a program")
            spec = read(world)
            layers = _layers(spec)
        except WorldError as error:
            return list(error.findings)
        for layer in layers:
            findings = list(dict.fromkeys(_caught(layer, spec)))
            if findings:
                return findings
    return []


def _layers(spec: Spec) -> tuple[Callable[[Spec], Iterator[Finding]], ...]:
    if is_mixed(spec):
        return (_compiled,)
    real = is_real(spec) or (spec.variables.state_space is None and spec.variables.action_space is None)
    return (_compiled, _observed) if real else (_names, _slices, _compiled, _observed)


def _caught(layer: Callable[[Spec], Iterator[Finding]], spec: Spec) -> Iterator[Finding]:
    try:
        yield from layer(spec)
    except (WorldError, IntractableError) as error:
        yield from error.findings


def _names(spec: Spec) -> Iterator[Finding]:
    yield from inspect_names(spec)
    yield from inspect_layout(spec)


def _slices(spec: Spec) -> Iterator[Finding]:
    if may_be_factored(spec):
        return  # the form is not chosen yet; compiling either form finds these faults
    refuse_large(spec)
    for t in range(spec.times):
        findings = inspect_slice(enumerate_slice(spec, t), spec, t)
        if findings:  # later times would repeat them
            yield from findings
            return


def _compiled(spec: Spec) -> Iterator[Finding]:
    model = compiled(spec)
    if not isinstance(model, Tables):
        yield from _impossible(model)
        return
    try:
        solve(model)
    except ImpossibleError:
        yield from blockers(model)
    except NotConvergedError:
        return  # infinite evidence at α = 1 depends on the temperature and is not a fault of the world


def _impossible(model: Compiled) -> Iterator[Finding]:
    """Yield a finding if the evidence of a world is zero; of worlds of factors for those that are cheap to solve."""
    if isinstance(model, Factors) and model.states.size * model.actions.size > CHEAP:
        return
    try:
        with torch.no_grad():
            solve(model)
    except ImpossibleError as error:
        yield Finding("all slices together", str(error), "an outcome that is not forbidden")
    except (NotConvergedError, IntractableError):
        return  # the cost of a solve, or its temperature, is not a fault of the world


def _observed(spec: Spec) -> Iterator[Finding]:
    """Compile an optional ``observe``, which raises what is wrong: to a table if small, else a factor a reading."""
    if spec.observe is not None and is_real(spec):
        linearise_observations(spec, linearise(spec).sites.names)
    elif spec.observe is not None:
        several = len(spec.states.names) > 1
        try:
            tabulate_observations(spec, max_bytes=8.0 * SMALL if several else MAX_BYTES)
        except IntractableError:
            if not several:  # its only factor would be the table
                raise
            factorise_observations(spec)
    return iter(())
