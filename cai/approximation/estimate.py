"""Estimate: what is known of a number that is not computed exactly."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """What is known of a number, nats: a value with its standard error, an interval, or both.

    Attributes:
        value: the estimate; None where there are only bounds.
        standard_error: of the value; 0 where it is exact, infinite where it is not known.
        lower, upper: bounds on the number; infinite where there are none.
        sampled: whether a bound holds with high probability only, since it was sampled.
    """

    value: float | None = None
    standard_error: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    sampled: bool = False

    @property
    def gap(self) -> float:
        """upper - lower, nats."""
        return self.upper - self.lower

    def scaled(self, by: float) -> "Estimate":
        """Return what is known of ``by`` times the number, ``by > 0``: α times nats are reward units."""
        value = None if self.value is None else by * self.value
        return Estimate(value, by * self.standard_error, by * self.lower, by * self.upper, self.sampled)

    def plain(self) -> dict[str, float | bool | None]:
        """Return plain numbers, None where there is no such number or bound."""
        ends = {"value": self.value, "lower": self.lower, "upper": self.upper}
        numbers = {**ends, "standard_error": self.standard_error}
        known = {name: x if x is not None and math.isfinite(x) else None for name, x in numbers.items()}
        return {**known, "sampled": self.sampled}

    def __str__(self) -> str:
        known = "" if self.value is None else f"{self.value:.6g}"
        error = f"{self.standard_error:.2g}" if math.isfinite(self.standard_error) else "unknown"
        known += f" ± {error}" if self.value is not None and self.standard_error else ""
        ends = math.isfinite(self.lower), math.isfinite(self.upper)
        if all(ends):
            between = f"between {self.lower:.6g} and {self.upper:.6g}"
        else:
            between = f"at least {self.lower:.6g}" if ends[0] else f"at most {self.upper:.6g}" if ends[1] else ""
        return ", ".join(part for part in (known, between) if part) or "unknown"


UNKNOWN = Estimate()
"""Nothing is known."""
