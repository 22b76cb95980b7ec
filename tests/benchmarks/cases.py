"""What is solved, and by whom."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.helpers import load_model


@dataclass(frozen=True)
class Case:
    """A world to solve.

    Attributes:
        build: makes the world.
        temperature: α, reward units.
        rounds: how many timed solves.
        warmup: how many solves before those.
        absent: why a method does not take part, by method.
    """

    build: Callable[[], Any]
    temperature: float
    rounds: int
    warmup: int
    absent: dict[str, str]


def _grid(n: int, start: int, horizon: int) -> Any:
    goal = (n // 2, n // 2, 1.0)
    return load_model("grid")(rows=n, columns=n, goals=[goal], start=(start, start), horizon=horizon)


def _pyro_needs(cells: int) -> str:
    # One factor over (next cell, slip, move, cell), in float64.
    return f"one factor p(cell'|cell, move, slip) alone needs {cells**2 * 15 * 8 / 1e9:,.0f} GB"


CASES = {
    "FrozenLake 8x8, T=200": Case(partial(load_model("frozen_lake"), "8x8", horizon=200), 0.1, 10, 1, {}),
    "Taxi, T=200": Case(partial(load_model("taxi"), horizon=200), 1.0, 10, 1, {}),
    "grid 100x100, T=100": Case(partial(_grid, 100, 30, 100), 0.1, 5, 1, {"Pyro, POSTERIOR": _pyro_needs(10**4)}),
    "grid 1000x1000, T=50": Case(partial(_grid, 1000, 490, 50), 0.1, 2, 0, {"Pyro, POSTERIOR": _pyro_needs(10**6)}),
}

METHODS = (
    "cai, POSTERIOR",
    "SciPy, POSTERIOR",
    "Pyro, POSTERIOR",
    "cai, VARIATIONAL",
    "SciPy, VARIATIONAL",
    "cai, HARD",
    "QuantEcon, HARD",
)


def rule_of(method: str) -> str:
    """Return the rule that a method computes."""
    return method.split(", ")[1]
