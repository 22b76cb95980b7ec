"""Gymnasium's registered ids: an environment made of one, and in words what is wrong with an id or an option."""

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from cai.errors import fault, user_code
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


def require_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Raise a ``WorldError`` where an id is not installed, has no such option, or has no map of that name.

    Nothing is made for it, and of the libraries Gymnasium alone is imported.
    """
    import gymnasium

    known = option_names(env_id)
    unknown = sorted(set(options) - set(known or options) - set(inspect.signature(gymnasium.make).parameters))
    if unknown:
        near = meant(unknown[0], known or ())
        raise fault(_where(env_id), f"no option {', '.join(unknown)}", f"some of: {', '.join(known or ())}{near}")
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


def option_names(env_id: str) -> list[str] | None:
    """Return the options that the environment of an id takes; None where it takes any.

    Raises:
        WorldError: the id is not installed.
    """
    parameters = inspect.signature(_creator(env_id)).parameters
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if anything else [name for name in parameters if name not in ("self", "render_mode")]


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
    return gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
