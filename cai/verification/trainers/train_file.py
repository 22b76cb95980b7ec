"""The function ``train(env, seed)`` of somebody's file."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.errors import fault
from cai.learn.names import FORMS
from cai.support.catalogue import module_of_file
from cai.support.wording import meant

EXPECTED = "a Python file with a function train(env, seed), or file.py:function"


def train_of_file(spec: str) -> Callable[[Any, int], Any]:
    """Return the function that a spec names, ``my_agent.py`` or ``my_agent.py:train``.

    The file's folder can be imported from, as when the file is run.

    Raises:
        WorldError: there is no such file or function, the file raises an error, or the function takes other arguments.
    """
    target, _, name = spec.partition(":") if re.search(r"\.py(:|$)", spec) else (spec, "", "")
    path = Path(target)
    if not path.is_file() or path.suffix != ".py":
        here = f"; did you mean --algorithm {spec}?" if spec in FORMS else meant(target, _files())
        raise fault(f"verify '{spec}'", "no such file" if target.endswith(".py") else "no Python file", EXPECTED + here)
    sys.path.insert(0, str(path.parent.resolve()))
    found = vars(module_of_file(path))
    train = found.get(name or "train")
    if train is None:
        own = [one for one, value in found.items() if inspect.isfunction(value) and not one.startswith("_")]
        raise fault(str(path), f"no '{name or 'train'}'", EXPECTED + meant(name or "train", own))
    if not callable(train):
        raise fault(f"{path}, {name or 'train'}", "no function", "train(env, seed)")
    _require_arguments(f"{path}, {name or 'train'}", train)
    return train  # type: ignore[no-any-return]


def _files() -> list[str]:
    return [str(path) for path in Path().glob("*.py") if path.is_file()]


def _require_arguments(where: str, train: Callable[..., Any]) -> None:
    try:
        written = inspect.signature(train)
    except ValueError:  # some functions of C have none that can be read
        return
    try:
        written.bind(None, 0)
    except TypeError:
        raise fault(where, f"it takes {written}", "a function of two arguments, (env, seed)") from None
