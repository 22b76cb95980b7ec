"""The picture of a world before anything is solved: its map where it has one, else its graph."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cai.view.graph import graph_figure
from cai.view.style import INK, WALL, save_figure
from cai.world.definition import World
from cai.world.dependencies import graph
from cai.world.spaces import Layout
from cai.world.spec import read

FREE = "#e9edf1"
"""The colour of a cell that holds a state."""


def draw_world(world: World, path: Path) -> Path:
    """Write the picture of a world as SVG, PNG or PDF by the suffix; return the path.

    Raises:
        WorldError: the suffix is none of these, or the world does not conform.
    """
    layout = read(world).layout
    figure = graph_figure(graph(world, 1)) if layout is None else map_figure(layout)
    return save_figure(figure, path, "draw_world, path")


def map_figure(layout: Layout) -> Figure:
    """Draw the cells of a map with the world's own marks; a cell without a state is dark."""
    rows, columns = layout.shape
    size = min(0.6, 8.0 / max(rows, columns))
    figure = Figure(figsize=(columns * size + 0.1, rows * size + 0.1))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    taken = np.zeros(rows * columns)
    cells = layout.cell.numpy()
    taken[cells[cells >= 0]] = 1.0
    for row, column in np.ndindex(rows, columns):
        colour = FREE if taken[row * columns + column] else WALL
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.2))
    for cell, mark in layout.marks.items():
        place = cell % columns + 0.5, cell // columns + 0.5
        axes.text(*place, mark, ha="center", va="center", fontsize=22 * size, fontweight="bold", color=INK)
    axes.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05), aspect="equal")
    axes.axis("off")
    return figure
