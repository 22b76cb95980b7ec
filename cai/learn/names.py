"""The learners by name: the functions that the list of public names imports from ``algorithms``.

A learner stands for its hard form; ``soft_`` before its name for the same one at a temperature. One that is nothing
without a temperature, as DPO, has its plain name alone. After a hyphen stands an estimate of the KL: ``soft_grpo-k3``.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.errors import fault

if TYPE_CHECKING:
    from cai.learn.result import Learned

PUBLIC = Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
LEARNERS = tuple(re.findall(r"^from \.algorithms\.\w+ import (\w+)", PUBLIC, re.MULTILINE))
SOFT, KL = "soft_", "-"
FORMS = tuple(form for name in LEARNERS for form in (name, SOFT + name))
"""The names that the command line takes; it refuses the soft form of a learner that has none."""
POLICIES = ("tabular", "stationary", "neural", "neural-stationary", "affine", "affine-stationary", "full")
"""The policies that ``fit`` makes by name; the last one changes the dynamics too, so it is no policy of a world."""
ESTIMATORS = ("tables", "exact", "enumeration", "score", "reparameterised")
"""The estimators of ``fit`` by name."""


def learner_of(form: str) -> "Callable[..., Learned]":
    """Return the function of a learner in either form, with its estimate of the KL where it has one.

    Raises:
        WorldError: the learner has no such form, or no KL to choose.
    """
    plain, _, kl = form.partition(KL)
    name = plain.removeprefix(SOFT)
    function: Callable[..., Learned] = getattr(import_module("cai.learn"), name)
    if plain != name and not _has_both(name):
        seen = "it always has" if _always_soft(name) else "it does not take"
        raise fault(f"learner '{form}'", f"a temperature, which {seen}", name)
    if not kl:
        return function
    if not takes_kl(name):
        raise fault(f"learner '{form}'", "an estimate of the KL, which it does not take", plain)
    chosen = partial(function, kl=kl)
    chosen.__name__ = f"{name}{KL}{kl}"  # type: ignore[attr-defined]  # what the files of its runs are called
    return chosen


def with_kl(names: Sequence[str], estimates: Sequence[str]) -> list[str]:
    """Return learners, those that take an estimate of the KL with each of them, and all in their soft form.

    A hard learner has no KL: its temperature is 0.

    Raises:
        WorldError: there are estimates, and no learner takes one.
    """
    if not estimates:
        return list(names)
    if not any(map(takes_kl, names)):
        raise fault("--kl", f"beside {', '.join(names)}, which take none", "beside soft_grpo or soft_ppo")
    soft = dict.fromkeys(SOFT + name if _has_both(name) else name for name in names)
    found = [[f"{name}{KL}{kl}" for kl in estimates] if takes_kl(name) else [name] for name in soft]
    return [form for each in found for form in each]


def takes_kl(form: str) -> bool:
    """Return whether a learner takes an estimate of the KL."""
    return "kl" in signature(getattr(import_module("cai.learn"), form.removeprefix(SOFT))).parameters


def forms() -> tuple[str, ...]:
    """Return the forms that there are."""
    soft = {SOFT + name for name in LEARNERS if _has_both(name)}
    return tuple(form for form in FORMS if form in LEARNERS or form in soft)


def at_temperature(form: str, alpha: float) -> dict[str, Any]:
    """Return the settings that make a learner soft at α, or have a hard one measured there."""
    return {"temperature" if is_soft(form) else "measured_at": alpha}


def is_soft(form: str) -> bool:
    """Return whether a form needs a temperature."""
    return form.startswith(SOFT) or _always_soft(form.partition(KL)[0])


def _temperature(name: str) -> Parameter | None:
    if name not in LEARNERS:  # one of somebody's own
        return None
    return signature(getattr(import_module("cai.learn"), name)).parameters.get("temperature")


def _always_soft(name: str) -> bool:
    temperature = _temperature(name)
    return temperature is not None and temperature.default is Parameter.empty


def _has_both(name: str) -> bool:
    return _temperature(name) is not None and not _always_soft(name)
