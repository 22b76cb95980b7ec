"""The names that an option takes, known without torch, which is slow to import: read from where they are written."""

import re
import sys
from pathlib import Path

from cai.support.outline import Argument, keys, outline

CAI = Path(__file__).parents[1]
APART = {"world", "temperature", "behaviour", "data", "regressor", "following", "dtype"}
"""Arguments of learners that are other options of the command line, or no words."""
SHARED = {"evaluations", "episodes", "target", "normalise"}
"""The settings among the options of every learner."""


def rules() -> list[str]:
    """Return the names of the rules; once they are loaded, of those that were added, too."""
    loaded = sys.modules.get("cai.exact.rules")
    return list(loaded.NAMED) if loaded else _written("exact/rules.py", r"^([A-Z]\w*) = Rule\(")


def forms() -> list[str]:
    """Return the names of the compiled forms, "auto" first; once they are loaded, of those that were added, too."""
    loaded = sys.modules.get("cai.exact.forms")
    return loaded.names() if loaded else ["auto", *_written("exact/forms.py", r'^ {4}Form\("(\w+)"')]


def methods() -> list[str]:
    """Return the names of the methods of approximate inference."""
    return _written("approximation/methods.py", r'^ {4}"(\w+)": ')


def claims() -> list[str]:
    """Return the names of the claims."""
    return _written("experiments/claims.py", r'^ {4}"([\w-]+)": Claim\(')


def learner_settings(learner: str) -> list[Argument]:
    """Return the settings of a learner, by its name without ``soft_``: its own, and those that it shares."""
    written = outline(_file_of(learner), learner)
    if written is None:
        return []
    (options,) = re.findall(r"Unpack\[(\w+)\]", written.rest or "")
    group = () if options == "Options" else keys(_file_of(options), options)
    shared = [key for key in keys(_file_of("Options"), "Options") if key.name in SHARED]
    return [each for each in (*written.arguments, *group, *shared) if each.name not in APART]


def _file_of(name: str) -> Path:
    """Return the file of a public name of ``cai.learn``."""
    (module,) = re.findall(rf"^from \.([\w.]+) import {name}\b", _text("learn/__init__.pyi"), re.MULTILINE)
    return CAI.joinpath("learn", *module.split(".")).with_suffix(".py")


def _written(file: str, pattern: str) -> list[str]:
    return re.findall(pattern, _text(file), re.MULTILINE)


def _text(file: str) -> str:
    return (CAI / file).read_text(encoding="utf-8")
