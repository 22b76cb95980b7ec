"""The catalogue: worlds of files, by name, by file or by ``file.py:Class``, with their arguments from strings."""

import ast
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from cai.errors import fault, user_code
from cai.support.outline import Outline, camel, outline
from cai.support.wording import meant

LOADED = "cai_world_"
"""How the names of modules begin that were made of a world's file: they cannot be imported elsewhere."""


def folder() -> Path:
    """Return the folder of the catalogue: inside the package where it was installed from a wheel, else beside it."""
    package = Path(__file__).parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def names() -> list[str]:
    """Return the names of the worlds in the catalogue."""
    return sorted(path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))


def namesake(env_id: str) -> str | None:
    """Return the world of the catalogue that has the name of a Gymnasium id, "blackjack" of "Blackjack-v1"; or None."""
    base = re.sub(r"^.*/|-v\d+$", "", env_id).lower()
    return next((name for name in names() if name.replace("_", "") == base), None)


def outlines() -> dict[str, Outline]:
    """Return what the file of each world of the catalogue says of it, by name; nothing heavy is imported."""
    known = {name: outline(folder() / f"{name}.py") for name in names()}
    return {name: one for name, one in known.items() if one is not None}


def file_of(spec: str) -> tuple[Path, str]:
    """Return the file that a spec names, and the class in it, if the spec names one.

    Raises:
        WorldError: there is no such file or name; nothing heavy is imported to say so.
    """
    target, _, attribute = spec.partition(":") if re.search(r"\.py(:|$)", spec) else (spec, "", "")
    path = Path(target) if target.endswith(".py") else folder() / f"{target}.py"
    if not path.is_file():
        expected = f"a Python file, a Gymnasium id, or one of the catalogue: {', '.join(names())}{meant(spec, names())}"
        raise fault(f"world '{spec}'", f"no such {'file' if target.endswith('.py') else 'name'}", expected)
    return path, attribute


def world_of_file(
    spec: str, settings: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> Any:
    """Make the world that a spec names, ``world_of_file("grid", {"rows": 3})``.

    Args:
        spec: a name of the catalogue (``cai list``), a file ``my_world.py``, or ``my_world.py:Class``.
        settings: arguments for the world; of text, numbers, True, None, lists and tuples are read as Python literals.
        overrides: ``horizon`` or ``discount`` in place of the world's own.

    Raises:
        WorldError: there is no such world, file, class or argument, or the file or the class fails.
    """
    path, attribute = file_of(spec)
    arguments, overrides = {name: literal(value) for name, value in (settings or {}).items()}, overrides or {}
    written = outline(path, attribute)
    if written is not None and written.rest is None:  # a name that is wrong is told before the file imports torch
        _refuse_unknown(spec, arguments, {argument.name: str(argument) for argument in written.arguments})
    module = module_of_file(path)
    make = _pick(module, path, attribute)
    taken = {name: value for name, value in overrides.items() if name in inspect.signature(make).parameters}
    _require_arguments(spec, make, {**arguments, **taken})
    with user_code(f"world '{spec}'", "a world that can be made"):
        world = make(**{**arguments, **taken})
        for name in set(overrides) - set(taken):
            setattr(world, name, overrides[name])
        return world


def module_of_file(path: Path) -> ModuleType:
    """Run a Python file, and return it as a module.

    Raises:
        WorldError: it raises an error.
    """
    name = f"{LOADED}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a module up by its name
    with user_code(str(path), "a Python file that runs"):
        spec.loader.exec_module(module)
    return module


def _pick(module: ModuleType, path: Path, attribute: str) -> Callable[..., Any]:
    own: dict[str, Callable[..., Any]] = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    }
    if attribute:
        if attribute not in own:
            raise fault(str(path), f"no '{attribute}'", f"one of {', '.join(sorted(own))}{meant(attribute, own)}")
        return own[attribute]
    for name in (path.stem, camel(path.stem)):
        if name in own:
            return own[name]
    worlds = {name: value for name, value in own.items() if inspect.isclass(value) and hasattr(value, "step")}
    if len(worlds) != 1:
        if not worlds:
            return _only_function(own, path)
        seen = f"{len(worlds)} classes with a method step: {', '.join(sorted(worlds))}"
        raise fault(str(path), seen, f"a single one, one called {camel(path.stem)}, or the spec '{path}:Class'")
    return next(iter(worlds.values()))


def _only_function(own: Mapping[str, Callable[..., Any]], path: Path) -> Callable[..., Any]:
    """Return the function of a file whose only public name it is."""
    public = {name: value for name, value in own.items() if not name.startswith("_")}
    functions = sorted(name for name, value in public.items() if inspect.isfunction(value))
    if len(public) == len(functions) == 1:
        return public[functions[0]]
    expected = "a class with the methods initial, act and step"
    named = f", or the spec '{path}:{functions[0]}', whose function returns a world" if functions else ""
    raise fault(str(path), "no class with a method step", expected + named)


def _require_arguments(spec: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    _refuse_unknown(
        spec, arguments, {n: n if p.default is p.empty else f"{n}={p.default!r}" for n, p in parameters.items()}
    )
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and name not in arguments
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    if missing:
        raise fault(f"world '{spec}'", f"no value for {', '.join(missing)}", f"--set {missing[0]}=…")


def _refuse_unknown(spec: str, arguments: Mapping[str, Any], known: Mapping[str, str]) -> None:
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        near = meant(unknown[0], known)
        expected = f"some of: {', '.join(known.values()) or 'none at all'}{near}"
        raise fault(f"world '{spec}'", f"no argument {', '.join(unknown)}", expected)


def literal(text: Any) -> Any:
    """Return the Python literal that a text is, or else the text; what is no text is taken as it is."""
    try:
        return ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # what Python says it may raise
        return text
