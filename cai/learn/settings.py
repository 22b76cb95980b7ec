"""What a setting of an algorithm may be: said and checked where the algorithm is made, before any work is done."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from cai.errors import fault


@dataclass(frozen=True)
class Whole:
    """A whole number, at least ``least``."""

    least: int = 1

    def __str__(self) -> str:
        return f"a whole number, at least {self.least}"

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one."""
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.least


@dataclass(frozen=True)
class Number:
    """A finite number between two bounds."""

    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        return "a finite number" + (f" from {self.low:g} to {self.high:g}" if self.low == 0.0 else "")

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and abs(value) < math.inf


@dataclass(frozen=True)
class Switch:
    """True or False."""

    def __str__(self) -> str:
        return "True or False"

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Positive:
    """A number above 0."""

    def __str__(self) -> str:
        return "a number above 0"

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one."""
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass(frozen=True)
class Floating:
    """A dtype of floating-point numbers."""

    def __str__(self) -> str:
        return "torch.float32 or torch.float64"

    def allows(self, value: Any) -> bool:
        """Tell whether a value is one."""
        return isinstance(value, torch.dtype) and value.is_floating_point


Kind = Whole | Number | Switch | Positive | Floating


def check(algorithm: Any, optional: tuple[str, ...] = (), **kinds: Kind) -> None:
    """Raise unless the settings are what is said of them; those that are optional may be None.

    Raises:
        WorldError: a setting has another type, or lies outside its bounds.
    """
    for name, kind in kinds.items():
        value = getattr(algorithm, name)
        if not (kind.allows(value) or (value is None and name in optional)):
            raise fault(f"{algorithm.name}, {name}", f"{value!r}", str(kind))
