"""Gymnasium's registered ids: an environment made of one, and in words what is wrong with an id or an option."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from cai.errors import fault, user_code
from cai.support.outline import Argument
from cai.support.wording import meant


def made(env_id: str, options: Mapping[str, Any]) -> Any:
    """Make the environment of an id.

    Args:
        env_id: such as "FrozenLake-v1".
        options: passed on to ``gymnasium.make``.

    Raises:
        WorldError: the id is not installed, it has no such option, or it refuses a value.
    """
    import gymnasium

    require_options(env_id, options)
    given = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
    with user_code(f"{_where(env_id)} with {given}", "options that the environment takes"):
        return gymnasium.make(env_id, **options)


def vectorised(env_id: str, options: Mapping[str, Any], n: int) -> Any:
    """Return n copies in the vector environment that an id is registered with; None where it has none of that kind.

    Its spaces must be boxes and numbers from 0.

    Raises:
        WorldError: the id is not installed.
    """
    import gymnasium

    if _spec(env_id).vector_entry_point is None:
        return None
    try:
        envs = gymnasium.make_vec(env_id, n, vectorization_mode="vector_entry_point", **options)
    except (TypeError, gymnasium.error.Error):  # the vector form need not take every option
        return None
    seen, taken = envs.single_observation_space, envs.single_action_space
    plain = isinstance(taken, gymnasium.spaces.Box) or (
        isinstance(taken, gymnasium.spaces.Discrete) and not taken.start
    )
    return envs if isinstance(seen, gymnasium.spaces.Box) and plain else None


def require_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Raise a ``WorldError`` where an id is not installed, has no such option, or has no map of that name.

    Nothing is made for it, and of the libraries Gymnasium alone is imported.
    """
    import gymnasium

    known = arguments(env_id)
    names = list(options) if known is None else [one.name for one in known]
    unknown = sorted(set(options) - set(names) - set(inspect.signature(gymnasium.make).parameters))
    if unknown:
        expected = f"some of: {', '.join(map(str, known or ()))}{meant(unknown[0], names)}"
        raise fault(_where(env_id), f"no option {', '.join(unknown)}", expected)
    maps, asked = getattr(sys.modules[_creator(env_id).__module__], "MAPS", None), options.get("map_name")
    if maps is not None and asked not in (None, *maps):
        raise fault(_where(env_id), f"map_name = {asked!r}", f"one of {', '.join(maps)}{meant(str(asked), maps)}")


def time_limit(env_id: str) -> int | None:
    """Return the time limit that an id is registered with; None where it has none.

    Raises:
        WorldError: the id is not installed.
    """
    limit: int | None = _spec(env_id).max_episode_steps
    return limit


def entry_point(env_id: str) -> str:
    """Return the place of the class that an id is registered with, ``module:Class``.

    Raises:
        WorldError: the id is not installed.
    """
    return str(_spec(env_id).entry_point)


def arguments(env_id: str) -> list[Argument] | None:
    """Return the options that the environment of an id takes; None where it takes any.

    Raises:
        WorldError: the id is not installed.
    """
    parameters = inspect.signature(_creator(env_id)).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    own = _spec(env_id).kwargs
    return [
        Argument(name, _annotation(one), None if one.default is one.empty else repr(own.get(name, one.default)), "")
        for name, one in parameters.items()
        if name not in ("self", "render_mode")
    ]


def _annotation(parameter: inspect.Parameter) -> str:
    said = parameter.annotation
    return "" if said is parameter.empty else said if isinstance(said, str) else getattr(said, "__name__", str(said))


def _where(env_id: str) -> str:
    return f"Gymnasium id '{env_id}'"


def _spec(env_id: str) -> Any:
    import gymnasium

    try:
        return gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        said = "" if isinstance(error, gymnasium.error.UnregisteredEnv) else f" ({error})"
        near = meant(env_id, gymnasium.registry)
        raise fault(_where(env_id), f"no such id{said}", f"an installed id{near}") from error


def _creator(env_id: str) -> Any:
    import gymnasium

    entry = _spec(env_id).entry_point
    if not isinstance(entry, str):
        return entry
    try:
        return gymnasium.envs.registration.load_env_creator(entry)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise fault(_where(env_id), str(error).partition(",")[0], _extra(entry)) from error


def _extra(entry: str) -> str:
    """Say how to install what the class at an entry point imports: Gymnasium has an extra for each of its folders."""
    own = re.match(r"gymnasium\.envs\.(\w+)", entry)
    if own is None:
        return f"an environment whose module {entry.partition(':')[0]} can be imported"
    return f"the extra: pip install '{'cai' if own[1] == 'box2d' else 'gymnasium'}[{own[1]}]'"
