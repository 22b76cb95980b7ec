"""The figures that a chapter draws itself, in the look of ``cai.view``, and how any figure gets onto a page."""

from typing import Any

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.axes import Axes

import cai
from cai.view.canvas import Room, open_axes, panel
from cai.view.panel_rows import ROW
from cai.view.style import GREY, INK

# What a chapter draws by pyplot is in the page's ink, too: cai.view.svg knows these two colours.
PARTS = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
plt.rcParams.update({**dict.fromkeys(PARTS, INK), "axes.edgecolor": GREY})


def curves(title: str, below: str, *, wide: float = 3.0, high: float = 2.3, left: float = 0.6) -> Axes:
    """Return the axes of a new figure for curves; sizes in inches."""
    ax = panel(None, (wide, high), Room(left=left, right=0.15), title)
    open_axes(ax, below)
    return ax


def key(ax: Axes, **options: Any) -> None:
    """Say which curve is which."""
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, **options)


def shown(*pictures: tuple[Any, str]) -> HTML:
    """Return pictures, axes, figures or panels with words on what is seen, as a row of vector graphics that wraps.

    Of several panels the first says what is seen on all, and each what it shows itself.
    """
    figures = [each for one, words in pictures for each in _each(one, words)]
    drawn = "".join(cai.view.svg(figure, alt=words) for figure, words in figures)
    for figure, _ in figures:
        plt.close(figure)  # pyplot would draw it once more at the end of the cell
    return HTML(f'<div class="cai-row" style="{ROW}">{drawn}</div>')


def _each(one: Any, words: str) -> list[tuple[Any, str]]:
    if isinstance(one, cai.view.Panels):
        first, *others = one.values()
        return [(first, f"{words} {cai.view.alt(first)}"), *((other, cai.view.alt(other)) for other in others)]
    return [(one.figure if isinstance(one, Axes) else one, words)]
