"""The learners by name, read off the list of public names: what is imported from ``algorithms`` there is a learner.

A learner stands for its hard form; ``soft_`` before its name for the same one at a temperature.
"""

import re
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cai.learn.result import Learned

PUBLIC = Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
LEARNERS = tuple(re.findall(r"^from \.algorithms\.\w+ import (\w+)", PUBLIC, re.MULTILINE))
SOFT = "soft_"
FORMS = tuple(form for name in LEARNERS for form in (name, SOFT + name))
"""The names that the command line takes; it refuses the soft form of a learner that has none."""


def learner_of(form: str) -> "Callable[..., Learned]":
    """Return the function of a learner in either form."""
    function: Callable[..., Learned] = getattr(import_module("cai.learn"), form.removeprefix(SOFT))
    return function


def forms() -> tuple[str, ...]:
    """Return the forms that there are."""
    return tuple(form for form in FORMS if not form.startswith(SOFT) or _has_temperature(form))


def at_temperature(form: str, alpha: float) -> dict[str, Any]:
    """Return the settings that make a learner soft at α, or have a hard one measured there."""
    return {"temperature" if form.startswith(SOFT) else "measured_at": alpha}


def _has_temperature(form: str) -> bool:
    return "temperature" in signature(learner_of(form)).parameters
