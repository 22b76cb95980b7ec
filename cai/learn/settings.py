"""What a learner's settings may be: checked before any work is done, for all learners by name."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from cai.errors import fault

WHOLE = {
    "batch": 1,
    "minibatch": 1,
    "updates": 1,
    "epochs": 1,
    "n_step": 1,
    "warmup": 0,
    "capacity": 1,
    "max_steps": 1,
}
"""Whole numbers, and the least that each may be."""
NUMBERS = {
    "lr": (0.0, math.inf),
    "explore": (0.0, 1.0),
    "polyak": (0.0, 1.0),
    "average": (0.0, 1.0),
    "clip": (0.0, math.inf),
    "target_kl": (0.0, math.inf),
    "value_gradient": (-math.inf, math.inf),
}
"""Numbers, and between what each must lie."""
SWITCHES = ("settle", "double", "reward_to_go", "stationary")
OPTIONAL = ("max_steps", "clip", "target_kl", "stationary")


def require_settings(algorithm: Any) -> None:
    """Raise unless every setting of a learner is what its name promises.

    Raises:
        WorldError: a setting has another type, or lies outside its bounds.
    """
    assert is_dataclass(algorithm)
    for name in (one.name for one in fields(algorithm)):
        value, where = getattr(algorithm, name), f"{getattr(algorithm, 'name', 'learner')}, {name}"
        if (value is None and name in OPTIONAL) or (name == "lr" and callable(value)):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in WHOLE and not (number and isinstance(value, int) and value >= WHOLE[name]):
            raise fault(where, f"{value!r}", f"a whole number, at least {WHOLE[name]}")
        if name in NUMBERS and not (number and NUMBERS[name][0] <= value <= NUMBERS[name][1] and abs(value) < math.inf):
            low, high = NUMBERS[name]
            raise fault(where, f"{value!r}", "a finite number" + (f" from {low:g} to {high:g}" if low == 0.0 else ""))
        if name in SWITCHES and not isinstance(value, bool):
            raise fault(where, f"{value!r}", "True or False")
        if name == "dtype" and not (isinstance(value, torch.dtype) and value.is_floating_point):
            raise fault(where, f"{value!r}", "torch.float32 or torch.float64")
