"""The exercises check themselves: ``check`` compares an answer with a number that is computed, not shown."""

from typing import Any

import torch


def check(answer: Any, expected: Any, tolerance: float = 1e-6, unit: str = "nats") -> None:
    """Print whether an answer is right: a number, several numbers, or a word. The unit is that of the numbers."""
    print(verdict(answer, expected, tolerance, unit))


def verdict(answer: Any, expected: Any, tolerance: float, unit: str) -> str:
    """Return what ``check`` prints; ``...`` is no answer yet."""
    if answer is ... or (isinstance(answer, list | tuple) and ... in answer):
        return "No answer yet."
    if isinstance(expected, str):
        same = str(answer).casefold() == expected.casefold()
        return "Right." if same else f"Not yet: {answer!r} is not the answer."
    yours, ours = (torch.as_tensor(numbers, dtype=torch.float64).detach() for numbers in (answer, expected))
    if yours.shape != ours.shape:
        return f"Not yet: your answer has the shape {list(yours.shape)}, expected {list(ours.shape)}."
    away = float((yours - ours).abs().max())
    if away <= tolerance:
        return f"Right, to within {tolerance:g} {unit}."
    return f"Not yet: yours is {away:.3g} {unit} away, and {tolerance:g} are allowed."
