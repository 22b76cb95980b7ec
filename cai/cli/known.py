"""The names that an option takes, known without torch, which is slow to import: read from where they are written."""

import re
import sys
from pathlib import Path

from cai.support.outline import Argument, outline

CAI = Path(__file__).parents[1]
ALGORITHMS = CAI / "learn" / "algorithms"


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


def learner_arguments(learner: str) -> list[Argument]:
    """Return the settings of a learner, by its name without ``soft_``."""
    (file,) = re.findall(rf"^from \.algorithms\.(\w+) import {learner}\b", _text("learn/__init__.pyi"), re.MULTILINE)
    written = outline(ALGORITHMS / f"{file}.py", learner)
    return [] if written is None else list(written.arguments)


def _written(file: str, pattern: str) -> list[str]:
    return re.findall(pattern, _text(file), re.MULTILINE)


def _text(file: str) -> str:
    return (CAI / file).read_text(encoding="utf-8")
