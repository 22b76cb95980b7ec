"""The allowed values of an algorithm's settings, checked before any work is done."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cai.errors import fault


@dataclass(frozen=True)
class Kind:
    """What a setting may be, in words, and whether a value is so."""

    words: str
    allows: Callable[[Any], bool]


def whole(least: int = 1, multiple: int = 1) -> Kind:
    """Return the whole numbers from ``least`` on, or the multiples of one among them."""
    words = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
    return Kind(
        f"{words}, at least {least}", lambda x: isinstance(x, int) and _plain(x) and x >= least and x % multiple == 0
    )


def number(low: float = 0.0, high: float = math.inf) -> Kind:
    """Return the finite numbers between two bounds."""
    words = "a finite number" + (f" from {low:g} to {high:g}" if low == 0.0 else "")
    return Kind(words, lambda x: _plain(x) and low <= x <= high and abs(x) < math.inf)


POSITIVE = Kind("a number above 0", lambda x: _plain(x) and 0 < x < math.inf)
SWITCH = Kind("True or False", lambda x: isinstance(x, bool))
FLOATING = Kind("torch.float32 or torch.float64", lambda x: isinstance(x, torch.dtype) and x.is_floating_point)


def check(algorithm: Any, optional: tuple[str, ...] = (), **kinds: Kind) -> None:
    """Raise unless the settings are what is said of them; those that are optional may be None.

    Raises:
        WorldError: a setting has another type, or lies outside its bounds.
    """
    for name, kind in kinds.items():
        value = getattr(algorithm, name)
        if not (kind.allows(value) or (value is None and name in optional)):
            raise fault(f"{algorithm.name}, {name}", f"{value!r}", kind.words)


def require_soft(learner: str, temperature: float | None, **settings: Any) -> None:
    """Raise where a setting of the KL is given without a temperature, its weight, so that it would do nothing."""
    for name, value in settings.items():
        if temperature is None and value is not None:
            seen = f"{value!r} without a temperature, the weight of the KL"
            raise fault(f"{learner}, {name}", seen, "temperature=… (cai learn -t)")


def _plain(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)
