"""Names at the ends of curves, in the place of a legend: each as near to its curve as the others let it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from cai.view.canvas import inches
from cai.view.style import INK

LINE = 0.165
"""The height of a label, inches."""
LEADER: dict[str, Any] = {"linewidth": 1.3, "clip_on": False, "zorder": 5}


@dataclass(frozen=True)
class Label:
    """A name at the right of a panel: the height it points to, in data units, its words, its line's colour and dash."""

    height: float
    name: str
    words: str
    colour: str
    dash: str = "-"


def width_of(labels: Sequence[tuple[str, str]]) -> float:
    """Return the room that names and words need at the right of a panel, inches."""
    return 0.3 + max((0.078 * len(name) + 0.07 * len(words) for name, words in labels), default=0.0)


def name_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Write labels at the right of an axes, with a leader in the colour of each curve; the words are black."""
    if not labels:
        return
    width, height = inches(axes)
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: label.height)
    to_share = axes.transData + axes.transAxes.inverted()
    wished = [float(to_share.transform((1.0, min(max(label.height, low), high)))[1]) for label in ordered]
    gap = LINE / height
    top = 1 - gap / 2  # clear of the title; where there are too many, they go on below the axis
    places = spread(wished, gap, min(0.0, top - gap * (len(ordered) - 1)), top)
    for label, y, to in zip(ordered, wished, places, strict=True):
        leader = ([1.0, 1 + 0.06 / width, 1 + 0.16 / width], [y, to, to])
        axes.plot(*leader, transform=axes.transAxes, color=label.colour, linestyle=label.dash, **LEADER)
        place: dict[str, Any] = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False}
        words = f"{label.name}: {label.words}" if label.words else label.name
        axes.annotate(words, (1 + 0.21 / width, to), **place, fontsize=8, color=INK)


def spread(wished: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Move ascending heights apart until neighbours are ``gap`` apart, within the bounds where they fit."""
    top = max(high, low + gap * (len(wished) - 1))
    placed: list[float] = []
    for n, height in enumerate(wished):
        placed.append(max(height, placed[-1] + gap) if n else max(height, low))
    for n in reversed(range(len(placed))):
        placed[n] = min(placed[n], top if n == len(placed) - 1 else placed[n + 1] - gap)
    return placed
