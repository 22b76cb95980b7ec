"""Numbers as text: one way to write a number for people, one for terminals and one for JSON."""

import math
from collections.abc import Mapping
from typing import Any

MINUS = "−"
ROUNDING = 1e-9
"""Relative size below which a difference of two exact numbers is rounding."""
NOTHING = 5e-10
"""Absolute size below which a number is written as 0."""


def show(value: float | None) -> str:
    """Write a number for people: four or five digits, a true minus, ∞ in symbols; an en dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return _finite(value).replace("-", MINUS)


def _finite(value: float) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}×10{superscript(int(exponent))}"
    if size >= 1000:
        return f"{value:,.1f}" if size < 1e5 else f"{value:,.0f}"
    return f"{value:.4g}" if size < 1 else f"{value:.5g}"


def superscript(number: int) -> str:
    """Write a whole number as an exponent."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def brief(value: float, digits: int = 3) -> str:
    """Write a number for people with so many digits; what is next to nothing is 0."""
    return show(0.0 if abs(value) < ROUNDING else float(f"{value:.{digits}g}")).removesuffix(".0")


def between(low: float, high: float) -> str:
    """Write an interval with as many digits as tell its ends apart, three at least; empty where it is a point."""
    ends = ((brief(low, digits), brief(high, digits)) for digits in range(3, 8))
    return next((f"[{first}, {last}]" for first, last in ends if first != last), "")


def digits(value: float | None, most: int = 6) -> str:
    """Write a number in plain ASCII for a terminal: so many digits, large ones with commas; a hyphen where none is."""
    if value is None:
        return "-"
    if 10**most <= abs(value) < math.inf:
        return f"{value:,.0f}"
    return f"{0.0 if abs(value) < NOTHING else value:.{most}g}"


def amount(value: float) -> str:
    """Write an amount in a sentence, in three digits."""
    return "infinitely many" if value == math.inf else f"{value:.3g}"


def chance(p: float) -> str:
    """Write a probability in a sentence."""
    return "0" if p == 0 else f"{p:.2f}" if p >= 0.005 else f"{p:.2g}"


def large(number: int) -> str:
    """Write a count: in full up to a million, else as a power of ten."""
    if number < 1_000_000:
        return f"{number:,}"
    power = len(str(number)) - 1
    return f"{number / 10**power:.1f}·10{superscript(power)}"


def short(count: float) -> str:
    """Write a number of steps: 500, 20k, 1.5M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:g}{letter}"
    return f"{count:g}"


def finite(value: Any) -> Any:
    """Return plain data as JSON can hold it: null for a number that is not finite, however deep it lies."""
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rounded(value: float | None, scale: float | None = None) -> float | None:
    """Return the value, or 0 where it is only the rounding of a difference of numbers as large as ``scale``."""
    if value is None or math.isinf(value):
        return value
    return 0.0 if abs(value) <= ROUNDING * max(1.0, abs(scale or 0.0)) else value
