"""An overview of a world before anything is solved: size, horizon, variables, and a picture for the terminal."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cai.compile.linear_model import LinearGaussian
from cai.errors import IntractableError, WorldError
from cai.exact.forms import compiled
from cai.support.outline import Argument
from cai.support.process import precision
from cai.view.system_words import equations, prior_kind
from cai.world.definition import World
from cai.world.dependencies import graph
from cai.world.spaces import Layout, Space
from cai.world.spaces import Variable as Described
from cai.world.spec import Spec, read

WIDE = 60
"""Columns of the widest map that a terminal is given."""
WRITTEN = 12
"""Coordinates of the state up to which a system is written out."""
NAMES = 8
"""The most names of values that are told of one variable."""


@dataclass(frozen=True)
class Variable:
    """A variable of a world.

    Attributes:
        name: its name.
        role: "state", "action" or "latent".
        size: how many values it takes; None for real numbers.
        labels: what they are called, None for a value without a name; empty where no value has one.
    """

    name: str
    role: str
    size: int | None
    labels: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Overview:
    """A world as it is before anything is solved.

    Attributes:
        name: its name.
        states, actions, outcomes: S, A and K; None where a variable is a real number.
        variables: those of the state, of the action, and the latents of a slice.
        horizon, discount: T (None: for ever) and γ.
        seen_in_part: whether it has ``observe``.
        timed: whether its slices may differ over time.
        size: its size in words.
        exact: whether there are exact answers, in words, and why not.
        system: of a linear-Gaussian world its equations at t = 0, a name and a formula each.
        picture: the lines that show it on a terminal: its map, or what each variable of a slice depends on.
    """

    name: str
    states: int | None
    actions: int | None
    outcomes: int | None
    variables: tuple[Variable, ...]
    horizon: int | None
    discount: float
    seen_in_part: bool
    timed: bool
    size: str
    exact: str
    system: tuple[tuple[str, str], ...]
    picture: tuple[str, ...]

    @property
    def finite(self) -> bool:
        """Whether all variables have finitely many values."""
        return self.states is not None and self.actions is not None

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {**asdict(self), "finite": self.finite}


def overview(world: World) -> Overview:
    """Describe a world from runs on single values: a finite world is not compiled, so its size does not matter.

    Raises:
        WorldError: the program fails, or is not valid.
    """
    with precision(torch.float64):
        spec = read(world)
        known = spec.variables
        latents = _latents(spec)
        size = size_words(spec)
        exact, system = _exact(spec)
        picture = tuple(map_lines(spec.layout)) if spec.layout is not None else tuple(_edges(world))
    states, actions = known.state_space, known.action_space
    return Overview(
        spec.name,
        None if states is None else states.size,
        None if actions is None else actions.size,
        None if latents is None else math.prod(latents.values()),
        (
            *_described(known.states, "state", states),
            *_described(known.actions, "action", actions),
            *_others(latents or {}, {one.name for one in known.states}),
        ),
        spec.horizon,
        spec.discount,
        spec.observe is not None,
        spec.timed,
        size,
        exact,
        system,
        picture,
    )


def size_words(world: World | Spec) -> str:
    """Say in a line how large a world is: states, actions and outcomes, or how many real numbers they are."""
    spec = read(world)
    known, latents = spec.variables, _latents(spec)
    several = f" of {len(known.states)} variables" if len(known.states) > 1 else ""
    words = [_count(known.states, known.state_space, "state", several)]
    words.append(_count(known.actions, known.action_space, "action"))
    if latents is not None:
        outcomes = math.prod(latents.values())
        words.append(f"{outcomes:,} outcome{'s' * (outcomes > 1)}")
    return ", ".join(words)


def print_overview(title: str, seen: Overview, place: str, options: Sequence[Argument]) -> None:
    """Print what a world is: facts in lines, its variables, its options, and its picture.

    Args:
        title: its name and first sentence.
        seen: the overview.
        place: where it is written.
        options: what it can be set to.
    """
    clock = f"T = {seen.horizon:,}" if seen.horizon is not None else "infinite"
    timed = "; slices differ over time" if seen.timed else ""
    facts = [
        ("size", seen.size),
        ("horizon", f"{clock}, discount γ = {seen.discount:g}{timed}"),
        ("answers", seen.exact),
        ("written in", place),
    ]
    variables = [(one.name, one.role, _values(one), _names(one)) for one in seen.variables]
    print(title, *_aligned(facts), "", "variables", *_aligned(variables), sep="\n")
    if options:
        print("", "options (--set name=value)", *_aligned([(str(one), one.words) for one in options]), sep="\n")
    if seen.system:
        print("", "the system" + (" at t = 0" if seen.timed else ""), *_aligned(seen.system), sep="\n")
    print("", *seen.picture, sep="\n")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of words as lines whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return [f"  {line}".rstrip() for line in lines]


def map_lines(layout: Layout) -> list[str]:
    """Draw a map with letters: a mark where the world gives one, a dot for any other cell, # where no state is."""
    rows, columns = layout.shape
    placed = set(layout.cell.tolist())
    if columns > WIDE:
        return [f"a map of {rows} × {columns} cells, too wide for a terminal"]
    cells = [layout.marks.get(cell, "." if cell in placed else "#") for cell in range(rows * columns)]
    width = max(map(len, cells))
    lines = [" ".join(text.ljust(width) for text in cells[row * columns : (row + 1) * columns]) for row in range(rows)]
    drawn = ["letters are the world's own marks"] * bool(layout.marks) + ["# is no state"] * ("#" in cells)
    return [*(f"  {line.rstrip()}" for line in lines), *([f"  ({'; '.join(drawn)})"] if drawn else [])]


def _edges(world: World) -> list[str]:
    """Say of each node of a slice what it depends on."""
    try:
        dag = graph(world, 1)
    except (WorldError, IntractableError):
        return []
    told = [(node, ", ".join(dag.predecessors(node))) for node in dag]
    lines = [f"  {node} ← {parents}" for node, parents in told if parents]
    return ["what depends on what in one slice (O_0 is the optimality node)", *lines]


def _latents(spec: Spec) -> dict[str, int] | None:
    """Return the sizes of the latents of a slice; None where it cannot be enumerated."""
    try:
        return dict(spec.latents)
    except IntractableError:
        return None


def _others(latents: Mapping[str, int], state: Collection[str]) -> list[Variable]:
    """Return the latents that are no variables of the next state."""
    return [Variable(name, "latent", values) for name, values in latents.items() if name not in state]


def _described(variables: Sequence[Described], role: str, space: Space | None) -> list[Variable]:
    labels = dict(zip(space.names, space.labels or (None,) * len(space.names), strict=True)) if space else {}
    return [Variable(one.name, role, one.size, labels.get(one.name) or ()) for one in variables]


def _count(variables: Sequence[Described], space: Space | None, what: str, note: str = "") -> str:
    if space is not None:
        return f"{space.size:,} {what}{'s' * (space.size > 1)}{note}"
    numbers = sum(math.prod(one.shape) for one in variables if one.size is None)
    modes = math.prod(one.size for one in variables if one.size is not None)
    beside = f"{modes:,} modes and " if any(one.size is not None for one in variables) else ""
    return f"{what}s of {beside}{numbers} real number{'s' * (numbers > 1)}"


def _exact(spec: Spec) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Say whether there are exact answers, and give the equations of a linear-Gaussian world."""
    known, sampled = spec.variables, "cai fit and cai learn sample it"
    partial = "" if spec.observe is None else (
        "; seen in part: cai solve --partial finds the policy that sees only observations"
    )  # fmt: skip
    if known.state_space is not None and known.action_space is not None:
        return f"exact: all variables have finitely many values{partial}", ()
    if known.action_space is not None:
        return f"no exact ones: a variable is a real number; {sampled}", ()
    try:
        model = compiled(spec)
    except IntractableError as error:
        return f"no exact ones: {error.findings[0].where}: {error.findings[0].seen}; {sampled}", ()
    if not isinstance(model, LinearGaussian):
        return f"exact: affine dynamics, Gaussian noise and a quadratic reward in each mode{partial}", ()
    small = model.states.dimension <= WRITTEN
    kind = f"exact: affine dynamics, Gaussian noise and a quadratic reward; {prior_kind(model)}{partial}"
    return kind, tuple(equations(model)) if small else ()


def _values(variable: Variable) -> str:
    return "real" if variable.size is None else f"{variable.size:,} value{'s' * (variable.size > 1)}"


def _names(variable: Variable) -> str:
    called = [f"{number}={name}" for number, name in enumerate(variable.labels) if name is not None]
    return ", ".join(called[:NAMES]) + (", …" if len(called) > NAMES else "")
