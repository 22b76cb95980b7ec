"""Numbers in words: one way to write a number for people, everywhere in a report."""

import math
from collections.abc import Sequence

MINUS = "−"
ROUNDING = 1e-9
"""Relative size below which a difference of two exact numbers is rounding."""


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
        return f"{mantissa}×10{_superscript(int(exponent))}"
    if size >= 1000:
        return f"{value:,.1f}" if size < 1e5 else f"{value:,.0f}"
    return f"{value:.4g}" if size < 1 else f"{value:.5g}"


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def rounded(value: float | None, scale: float | None) -> float | None:
    """Return the value, or 0 where it is only the rounding of a difference of numbers as large as ``scale``."""
    if value is None or math.isinf(value):
        return value
    return 0.0 if abs(value) <= ROUNDING * max(1.0, abs(scale or 0.0)) else value


def brief(value: float, digits: int = 3) -> str:
    """Write a number for people with so many digits; what is next to nothing is 0."""
    return show(0.0 if abs(value) < ROUNDING else float(f"{value:.{digits}g}")).removesuffix(".0")


def between(low: float, high: float) -> str:
    """Write an interval with as many digits as tell its ends apart, three at least; empty where it is a point."""
    ends = ((brief(low, digits), brief(high, digits)) for digits in range(3, 8))
    return next((f"[{first}, {last}]" for first, last in ends if first != last), "")


def listed(names: Sequence[str]) -> str:
    """Join names as English does: ``A``, ``A and B``, ``A, B and C``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
