"""grid: a continuous world of few dimensions as tables on a grid, solved on the kernels (Kushner & Dupuis 2001)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.box import Asked, lattice_of
from cai.approximation.discretise import discretise, nodes_of
from cai.approximation.estimate import UNKNOWN, Estimate
from cai.approximation.grid_policy import GridPolicy
from cai.approximation.lattice import Lattice
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule, require_a_rule
from cai.exact.solve import solve
from cai.learn.loop import require_whole
from cai.world.spec import read

ORDER = 2
"""The order of multilinear interpolation: its error is of the order h²."""


@dataclass(frozen=True)
class Grid:
    """A grid over a box of states with multilinear interpolation, compiled to tables and solved under any rule.

    The corners of the cell in which the next state falls are outcomes, their probabilities the weights of the
    interpolation; noise is integrated by Gauss-Hermite nodes. VARIATIONAL, the default, holds the dynamics and gives
    ELBO*; POSTERIOR tilts them and gives log Z. The error of a smooth value is of the order h² a step. It is estimated
    from the solution on twice the step (Richardson), and told as the standard error. POSTERIOR takes the interpolation
    itself for luck, so that its error grows as α falls.

    Attributes:
        points: how many points each coordinate has; one number, or one for each. A finite variable has all its values.
        low, high: the box, for each coordinate; by default the world's own ``bounds``, ``{"state[1]": (-8, 8)}``, else
            what roll-outs of the action prior visit.
        periodic: the coordinates that go round, by name; by default the world's own ``periodic``. Their box is -π … π
            unless given.
        actions: nodes for each coordinate of the action.
        nodes: nodes for each coordinate of the noise of a step.
        rule: how outcomes and actions are marginalised.
        halved: whether twice the step is solved, too, for the error.
    """

    points: int | Sequence[int] = 51
    low: float | Sequence[float] | None = None
    high: float | Sequence[float] | None = None
    periodic: Sequence[str] | None = None
    actions: int = 21
    nodes: int = 5
    rule: Rule = VARIATIONAL
    halved: bool = True

    name: ClassVar[str] = "grid"

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Solve the world on the grid; see ``Method.run``."""
        require_a_rule(self.rule)
        require_whole("grid, actions", self.actions, 1)
        require_whole("grid, nodes", self.nodes, 1)
        program, horizon = _read(world)
        lattice, found = lattice_of(program, self._box, generator)
        messages, policy, left = self._solved(program, horizon, lattice, temperature, progress)
        coarse = lattice.halved() if self.halved else None
        error = 0.0
        if coarse is not None:
            twice = self._solved(program, horizon, coarse, temperature, progress)[0]
            error = abs(float(messages.value - twice.value)) / (2**ORDER - 1)
        value = float(messages.value)
        estimate = Estimate(value / temperature, error / temperature)
        return Approximation(
            self.name,
            temperature,
            policy,
            log_evidence=estimate if self.rule == POSTERIOR else UNKNOWN,
            elbo=estimate if self.rule == VARIATIONAL else UNKNOWN,
            notes=(*_notes(lattice, found, left), *self._told(value, error, coarse)),
        )

    @property
    def _box(self) -> Asked:
        return Asked(self.points, self.low, self.high, self.periodic)

    def _solved(
        self, program: NoiseProgram, horizon: int | None, lattice: Lattice, alpha: float, progress: bool
    ) -> tuple[Messages, GridPolicy, float]:
        nodes = nodes_of(program, self.actions, self.nodes)
        tables, left = discretise(program, lattice, nodes, horizon, progress)
        messages = solve(tables, self.rule, temperature=alpha)
        return messages, GridPolicy(program, lattice, nodes, self.rule, messages.temperature, messages.v), left

    def _told(self, value: float, error: float, coarse: Lattice | None) -> list[str]:
        known = [] if self.rule in (POSTERIOR, VARIATIONAL) else [f"start value under {self.rule}: {value:.6g}"]
        if coarse is None:
            return [*known, "no error estimate: the step was not halved"]
        return [*known, f"error by Richardson from twice the step: {error:.2g} reward units"]


def _read(world: Any) -> tuple[NoiseProgram, int | None]:
    """Return the program, and its horizon; None for ever."""
    if isinstance(world, NoiseProgram):
        return world, world.horizon
    horizon = read(world).horizon
    return noise_program(world, None if horizon is not None else 1), horizon


def _notes(lattice: Lattice, found: str, left: float) -> list[str]:
    ends = zip(lattice.labels, lattice.low.tolist(), lattice.high.tolist(), lattice.points, strict=True)
    box = ", ".join(f"{name} {low:.4g} … {high:.4g} in {n} points" for name, low, high, n in ends)
    notes = [f"box ({found}): {box}"]
    if left > 0:
        notes.append(f"{left:.2%} of the prior's steps from points of the grid leave the box, and are put on its edge")
    return notes


@dataclass(frozen=True)
class GridRow:
    """One grid: points of each coordinate, its largest step h, the start value and its difference, reward units."""

    points: tuple[int, ...]
    step: float
    value: float
    difference: float
    ratio: float | None


@dataclass(frozen=True)
class GridConvergence:
    """The start value against the step of the grid.

    Attributes:
        rows: a grid each, the coarsest first.
        reference: what the values are compared to, reward units.
        slope: of log |difference| against log h, by least squares; 2 for the interpolation of a smooth value.
        exact: whether the reference was given, else it is the finest grid's value.
    """

    rows: tuple[GridRow, ...]
    reference: float
    slope: float
    exact: bool

    def __str__(self) -> str:
        against = "the given value" if self.exact else "the finest grid"
        lines = [f"{'points':>12} {'h':>9} {'value':>13} {'difference':>12} {'ratio':>7}"]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            points = " × ".join(map(str, row.points))
            lines.append(f"{points:>12} {row.step:>9.4g} {row.value:>13.6f} {row.difference:>12.3e} {ratio:>7}")
        return "\n".join([*lines, f"slope {self.slope:.2f}, against {against}, {self.reference:.6f} reward units"])


def grid_convergence(
    world: Any,
    points: Sequence[int | Sequence[int]],
    *,
    temperature: float = 1.0,
    reference: float | None = None,
    seed: int = 0,
    **options: Any,
) -> GridConvergence:
    """Return the start value of a world against the step of its grid.

    Args:
        world: a world of up to four state dimensions.
        points: the grids, the coarsest first; at least two, three where no reference is given.
        temperature: α, reward units.
        reference: the true start value, reward units; the finest grid's where it is not known.
        seed: of the roll-outs that find the box, where it is not given.
        options: those of ``Grid``.

    Raises:
        WorldError: an option is not valid, or there are too few grids for a slope.
        IntractableError: see ``cai.approximate``.
    """
    require_whole("grid_convergence, number of grids", len(points), 2 if reference is not None else 3)
    program, horizon = _read(world)
    found = []
    for n in points:
        method = replace(Grid(**options), points=n)
        lattice, _ = lattice_of(program, method._box, torch.Generator().manual_seed(seed))
        messages = method._solved(program, horizon, lattice, temperature, False)[0]
        real = [h for h, fixed in zip(lattice.step.tolist(), lattice.finite, strict=True) if not fixed]
        found.append((lattice.points, max(real, default=1.0), float(messages.value)))
    true = found[-1][2] if reference is None else reference
    rows: list[GridRow] = []
    for own, h, value in found if reference is not None else found[:-1]:
        off = value - true
        ratio = rows[-1].difference / off if rows and off else None
        rows.append(GridRow(own, h, value, off, ratio))
    return GridConvergence(tuple(rows), true, _slope(rows), reference is not None)


def _slope(rows: Sequence[GridRow]) -> float:
    known = [(math.log(row.step), math.log(abs(row.difference))) for row in rows if row.difference]
    if len(known) < 2:
        return math.nan
    x, y = torch.tensor(known, dtype=torch.float64).unbind(-1)
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))
