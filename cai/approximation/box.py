"""The box of states that a grid covers: given, the world's own, or what roll-outs of the action prior visit."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.approximation.lattice import Lattice
from cai.compile.noise_program import NoiseProgram
from cai.errors import Finding, IntractableError, fault
from cai.learn.loop import require_number, require_whole

MOST = 4
"""The most dimensions of a grid."""
ROLLOUTS, LONGEST = 256, 500
"""Roll-outs of the action prior that find the box, and how long they are at most."""


@dataclass(frozen=True)
class Asked:
    """What was said of the box; see ``Grid``."""

    points: int | Sequence[int]
    low: float | Sequence[float] | None
    high: float | Sequence[float] | None
    periodic: Sequence[str] | None


def lattice_of(program: NoiseProgram, asked: Asked, generator: torch.Generator) -> tuple[Lattice, str]:
    """Return the grid, and where its box is from, in words.

    Raises:
        WorldError: an option has another length, a box is empty, or a coordinate has fewer than two points.
        IntractableError: there are more than four dimensions.
    """
    labels, d = program.states.labels, program.states.dimension
    if d > MOST:
        seen = f"{d} dimensions: {', '.join(labels)}"
        raise IntractableError([Finding("grid, state", seen, f"at most {MOST}; 'particles' takes any number")])
    sizes = [v.size for v in program.spec.variables.states for _ in range(max(1, v.shape.numel()))]
    round_ = _periodic(program, asked)
    low, high, found = _box(program, asked, sizes, round_, generator)
    points = _each("points", asked.points, d)
    for n, name, size in zip(points, labels, sizes, strict=True):
        if size is None:
            require_whole(f"grid, points of '{name}'", n, 2)
    for a, b, name, size in zip(low, high, labels, sizes, strict=True):
        if size is None and not a < b:
            raise fault(f"grid, box of '{name}'", f"low {a:g}, high {b:g}", "finite numbers, low below high")
    n_of = tuple(int(n) if size is None else size for n, size in zip(points, sizes, strict=True))
    ends = torch.tensor([low, high], dtype=torch.float64)
    return Lattice(labels, ends[0], ends[1], n_of, round_, tuple(size is not None for size in sizes)), found


def _periodic(program: NoiseProgram, asked: Asked) -> tuple[bool, ...]:
    given = getattr(program.spec.world, "periodic", ()) if asked.periodic is None else asked.periodic
    named = [given] if isinstance(given, str) else given
    if (
        not isinstance(named, Collection)
        or isinstance(named, Tensor)
        or not all(isinstance(name, str) for name in named)
    ):
        raise fault("grid, periodic", f"{given!r}", f"names of coordinates, of {', '.join(program.states.labels)}")
    goes_round = program.states.where(list(named))
    return tuple(i in goes_round for i in range(program.states.dimension))


def _each(name: str, given: Any, d: int) -> list[Any]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [given] * d
    if len(given) != d:
        raise fault(f"grid, {name}", f"{len(given)} numbers", f"one number, or one for each of {d} coordinates")
    return list(given)


def _box(
    program: NoiseProgram,
    asked: Asked,
    sizes: Sequence[int | None],
    goes_round: Sequence[bool],
    generator: torch.Generator,
) -> tuple[list[float], list[float], str]:
    d, labels = program.states.dimension, program.states.labels
    given = [_each(name, getattr(asked, name), d) for name in ("low", "high")]
    own: Mapping[str, tuple[float, float]] = getattr(program.spec.world, "bounds", {})
    visited: tuple[Tensor, Tensor] | None = None
    ends: list[tuple[float, float]] = []
    for i, (name, size) in enumerate(zip(labels, sizes, strict=True)):
        if size is not None:
            ends.append((0.0, float(size - 1)))
            continue
        told = own.get(name, (-math.pi, math.pi) if goes_round[i] else (None, None))
        pair: list[Any] = [told[k] if given[k][i] is None else given[k][i] for k in (0, 1)]
        if None in pair:
            visited = visited or _visited(program, generator)
            pair = [float(visited[k][i]) if pair[k] is None else pair[k] for k in (0, 1)]
        low, high = (
            require_number(f"grid, {end} of '{name}'", x, math.isfinite, "a finite number")
            for end, x in zip(("low", "high"), pair, strict=True)
        )
        ends.append((low, high))
    return [a for a, _ in ends], [b for _, b in ends], "given" if visited is None else "from roll-outs of the prior"


def _visited(program: NoiseProgram, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value of each coordinate in roll-outs of the action prior, ``[d]``."""

    def noise(k: int) -> Tensor:
        return torch.randn(ROLLOUTS, k, generator=generator, dtype=torch.float64)

    s = program.start(noise(program.start_noise))
    low, high = s.amin(0), s.amax(0)
    steps = program.spec.horizon or LONGEST
    for t in range(min(steps if program.begins is None else program.horizon, LONGEST)):
        _, s, _ = program.advance(t, s, noise(program.act_noise), noise(program.step_noise))
        low, high = torch.minimum(low, s.amin(0)), torch.maximum(high, s.amax(0))
    same = high <= low
    return torch.where(same, low - 0.5, low), torch.where(same, high + 0.5, high)
