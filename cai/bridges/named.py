"""A world by its name: of the catalogue, of a file, of Gymnasium, of rddlrepository."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cai.errors import fault
from cai.simulate.registered import arguments, entry_point, require_options, time_limit
from cai.support.catalogue import file_of, literal, namesake, world_of_file
from cai.support.outline import Argument, outline


def load_world(spec: str, settings: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> Any:
    """Return the world of this name, ``load_world("grid", {"rows": 3})`` or ``load_world("FrozenLake-v1")``.

    An id of Gymnasium has the horizon of its own time limit unless another is given.

    Args:
        spec: a name of the catalogue (``cai list``), a file ``my_world.py``, ``my_world.py:Class``, a Gymnasium id
            whose environment has a table ``P``, or ``rddl:PROBLEM:INSTANCE`` of rddlrepository.
        settings: arguments of the world, or options of the id. Text that is a Python literal (a number, True, None, a
            list or a tuple) becomes its value.
        overrides: ``horizon`` or ``discount`` in place of the world's own.

    Raises:
        WorldError: there is no such world, file, id, class or argument, or the world raises an error when it is made.
    """
    if not isinstance(spec, str):
        raise fault("load_world, spec", f"a {type(spec).__name__}", "the name of a world, a file or a Gymnasium id")
    settings, overrides = settings or {}, overrides or {}
    if spec.startswith("rddl:"):
        return _of_rddl(spec, settings, overrides)
    return _of_gymnasium(spec, settings, overrides) if is_id(spec) else world_of_file(spec, settings, overrides)


def is_id(spec: str) -> bool:
    """Tell a Gymnasium id from the names of other worlds."""
    return re.fullmatch(r"([\w-]+/)?[\w-]+-v\d+", spec) is not None


@dataclass(frozen=True)
class Source:
    """Where a world of a name is written, and what is known of it without making it.

    Attributes:
        summary: its first sentence; empty where nothing says one.
        place: its file, its id's entry point, or the name itself.
        options: the options that it takes; None where they are not known.
    """

    summary: str
    place: str
    options: tuple[Argument, ...] | None


def source_of(spec: str) -> Source:
    """Return where the world of a name is written, and its options; nothing heavy is imported.

    Raises:
        WorldError: there is no such world, file or id.
    """
    if is_id(spec):
        known = arguments(spec)
        return Source("", entry_point(spec), None if known is None else tuple(known))
    if spec.startswith("rddl:"):
        return Source("", spec, ())
    path, attribute = file_of(spec)
    said = outline(path, attribute)
    return Source(said.summary if said else "", str(path), said.arguments if said and said.rest is None else None)


def _of_gymnasium(spec: str, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Any:
    given = {name: literal(value) for name, value in settings.items()} | dict(overrides)
    require_options(spec, {name: value for name, value in given.items() if name not in ("horizon", "discount")})
    if "horizon" not in given:
        given["horizon"] = time_limit(spec)
        if given["horizon"] is None and given.get("discount", 1.0) == 1.0:
            expected = "a horizon T, or a discount below 1 for an infinite horizon (--horizon, --discount)"
            known = namesake(spec)
            other = f"; or the world '{known}' of the catalogue" if known else ""
            raise fault(f"world '{spec}'", "no time limit of its own", expected + other)
    from cai.bridges.gymnasium import from_gymnasium

    return from_gymnasium(spec, **given)


def _of_rddl(spec: str, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Any:
    _, _, problem = spec.partition(":")
    name, _, instance = problem.partition(":")
    if settings:
        raise fault(f"world '{spec}'", f"settings {', '.join(settings)}", "none: an instance already has its settings")
    if "horizon" in overrides and overrides["horizon"] is None:
        raise fault(f"world '{spec}'", "an infinite horizon", "a positive integer")
    from cai.bridges.rddl.rddl_world import from_rddl

    return from_rddl(name, instance or "1", **overrides)
