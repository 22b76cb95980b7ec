"""One look for every picture: inks, and palettes that colour-blind readers can tell apart."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

INK, GREY, FAINT = "#1f2933", "#66727f", "#d5dae0"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", INK)
"""The palette of Okabe and Ito, the order of the policies."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 110


def plain(axes: Axes, title: str) -> None:
    """Give an axes the house's look: a small bold title on the left, thin grey spines and ticks."""
    axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold", color=INK, pad=5, parse_math=False)
    axes.tick_params(labelsize=8, colors=INK, length=2.5, width=0.6)
    for spine in axes.spines.values():
        spine.set(color=GREY, linewidth=0.6)


def pale(name: str, share: float) -> Colormap:
    """Blend a sequential colour map with white, keeping a share of it, so that dark text is legible on it.

    The order in lightness stays, which is what makes it readable without colour.
    """
    colours = colormaps[name](np.linspace(0, 1, 256))
    colours[:, :3] = 1 - share * (1 - colours[:, :3])
    return ListedColormap(colours, name=f"pale {name}").with_extremes(bad=(0, 0, 0, 0))


def amounts(name: str) -> Colormap:
    """Return a one-hue map for amounts from 0 up; what is nothing or not finite is transparent.

    The largest is still light enough for dark digits, and to be seen on a dark page.
    """
    colours = colormaps[name](np.linspace(0.08, 0.62, 256))
    return ListedColormap(colours, name=f"amounts {name}").with_extremes(bad=(0, 0, 0, 0), under=(0, 0, 0, 0))


def png(figure: Figure) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor="white")
    return out.getvalue()
