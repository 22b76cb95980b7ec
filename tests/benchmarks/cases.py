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
        absent: why a method does not take part, by method.
    """

    build: Callable[[], Any]
    temperature: float
    rounds: int
    absent: dict[str, str]


def grid(side: int, horizon: int = 50) -> Any:
    """Return the slippery grid of the benchmarks: five actions, three outcomes, the goal in the middle."""
    middle, start = side // 2, side // 2 - 10
    goals = [(middle, middle, 1.0)]
    return load_model("grid")(rows=side, columns=side, goals=goals, start=(start, start), horizon=horizon)


def _pyro_needs(cells: int) -> str:
    # One factor over (next cell, slip, move, cell), in float64.
    return f"one factor p(cell'|cell, move, slip) alone needs {cells**2 * 15 * 8 / 1e9:,.0f} GB"


CASES = {
    "FrozenLake 8x8, T=200": Case(partial(load_model("frozen_lake"), "8x8", horizon=200), 0.1, 20, {}),
    "Taxi, T=200": Case(partial(load_model("taxi"), horizon=200), 1.0, 20, {}),
    "grid 100x100, T=100": Case(partial(grid, 100, 100), 0.1, 20, {"Pyro, POSTERIOR": _pyro_needs(10**4)}),
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
