"""The looks of policies: each has one colour, and one mark beside it, on all figures of a page."""

from collections.abc import Iterable
from dataclasses import dataclass

from cai.evaluation.comparison import Comparison
from cai.view.style import LINES, MARKERS

DASHES = ("-", "--", ":")
HATCHES = ("", "////", "....")
"""What tells policies of the same colour apart, where there are more than colours: of lines, and of bars."""


@dataclass(frozen=True)
class Look:
    """How a policy is drawn: the colour, the marker of its points, the dashes of its line, the hatch of its bar."""

    colour: str
    marker: str
    dash: str
    hatch: str


def look(n: int) -> Look:
    """Return the look of the n-th policy; no two of the first 24 are alike."""
    again = n // len(LINES)
    return Look(LINES[n % 8], MARKERS[(n + again) % 8], DASHES[again % 3], HATCHES[again % 3])


def looks_of(results: Comparison | Iterable[str]) -> dict[str, Look]:
    """Return the look of each policy by name, that of its row in a comparison, whatever part of it a figure draws."""
    names = results.subjects if isinstance(results, Comparison) else results
    return {name: look(n) for n, name in enumerate(names)}
