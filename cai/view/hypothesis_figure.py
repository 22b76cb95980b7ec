"""How far a learner is from each exact answer on each probe, in nats: a matrix."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cai.errors import fault
from cai.support.numbers import show
from cai.verification.diagnosis import Diagnosis
from cai.verification.hypotheses import APART, RIGHT
from cai.verification.verification import Verification
from cai.view.canvas import DARK as ON_COLOUR
from cai.view.canvas import Room, cells, colour_key, hatched, panel
from cai.view.panel_rows import Panels
from cai.view.style import INK, amounts
from cai.view.vector import tell

COLUMNS = 12
"""The answers of a panel: two panels stand side by side on a page, one on a phone."""
CELL = 0.185
"""The side of a cell, inches."""


def nats_from_answers(found: Verification) -> Mapping[str, Figure]:
    """Draw the path KL of the learned policies to each exact answer, nats, the mean over seeds: a row a probe.

    The right answer comes first, then the mistakes, the nearest over all probes first; those that make no difference on
    these probes are left out. Less than 0.01 nats is drawn as nothing: a column without colour is an answer that
    explains all that was learned. A ring is around the answer that a policy is held against; hatched is what a mistake
    does not determine.

    Args:
        found: what ``cai.verify`` returned.

    Raises:
        WorldError: nothing was learned.
    """
    rows = [one for one in found.verdicts if one.distances]
    if not rows:
        raise fault("nats_from_answers", "no probe on which a policy was learned", "at least one")
    names = _ordered(rows)
    largest = max(average.value for one in rows for average in one.distances.values())
    norm = LogNorm(APART, max(largest, 10 * APART))
    width = math.ceil(len(names) / math.ceil(len(names) / COLUMNS))  # panels alike, none with a single column
    parts = [names[n : n + width] for n in range(0, len(names), width)]
    return Panels({part[0]: _panel(rows, part, norm, first=n == 0) for n, part in enumerate(parts)})


def _ordered(rows: Sequence[Diagnosis]) -> list[str]:
    """Return the right answer, and by their total distance the mistakes that make a difference.

    Where a mistake determines no answer it counts as the right one.
    """

    def nats(name: str) -> list[float]:
        return [one.distances.get(name, one.distances[RIGHT]).value for one in rows]

    names = dict.fromkeys(name for one in rows for name in one.distances)
    apart = {name: max(abs(x - y) for x, y in zip(nats(name), nats(RIGHT), strict=True)) for name in names}
    return [RIGHT, *sorted((name for name in names if apart[name] >= APART), key=lambda name: sum(nats(name)))]


def _panel(rows: Sequence[Diagnosis], names: Sequence[str], norm: LogNorm, *, first: bool) -> Figure:
    room = Room(left=1.05, right=0.15 + CELL * (COLUMNS - len(names)), top=0.3, bottom=2.0)
    title = "nats from each answer" if first else "the other mistakes"
    ax = panel(None, (CELL * len(names), CELL * len(rows)), room, title)
    field = np.array(
        [[one.distances[name].value if name in one.distances else np.nan for name in names] for one in rows]
    )
    row, column = (axis.reshape(-1) for axis in np.indices(field.shape))
    number = field.reshape(-1)
    shown, unknown = number >= APART, np.isnan(number)
    cells(ax, column[shown], row[shown], number[shown], amounts("Oranges"), norm, wide=0.9, high=0.9)
    hatched(ax, column[unknown], row[unknown], 0.9)
    rings = [(names.index(one.rival), n) for n, one in enumerate(rows) if one.rival in names]
    for x, y in rings:  # in the page's own ink on the page, dark on a colour
        ink = ON_COLOUR if field[y, x] >= APART else INK
        ax.scatter(x, y, marker="o", s=22, facecolors="none", edgecolors=ink, linewidths=0.9)
    _label(ax, [one.probe for one in rows], names)
    colour_key(ax, amounts("Oranges"), norm, "nats", below=1.62)
    return tell(ax, _words(rows, names), (float(norm.vmin or 0.0), float(norm.vmax or 0.0)))


def _label(ax: Axes, probes: Sequence[str], names: Sequence[str]) -> None:
    ax.set_yticks(range(len(probes)), probes)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.tick_params(length=0)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylim(len(probes) - 0.5, -0.5)


def _words(rows: Sequence[Diagnosis], names: Sequence[str]) -> str:
    """Say how far each probe's policy is from the right answer and from the one that it is held against."""
    told = []
    for one in rows:
        numbers = [f"{show(one.distances[name].value)} from {name}" for name in (RIGHT, one.rival) if name in names]
        if numbers:
            told.append(f"{one.probe}: {', '.join(numbers)}")
    return f"Nats from {len(names)} answers on {len(rows)} probes. " + "; ".join(told)
