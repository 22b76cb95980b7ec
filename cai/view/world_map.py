"""The picture of a world before anything is solved: its map where it has one, else its graph."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cai.view.canvas import Room, blocks, panel
from cai.view.graph_figure import graph
from cai.view.maps import BLOCK, map_inches
from cai.view.style import INK
from cai.view.vector import save_figure, tell
from cai.world.definition import World
from cai.world.spaces import Layout
from cai.world.spec import read

FREE = "#8f99a333"
"""The colour of a cell that holds a state, on any ground."""


def draw_world(world: World, path: Path) -> Path:
    """Write the picture of a world as SVG, PNG or PDF by the suffix; return the path.

    Raises:
        WorldError: the suffix is none of these, or the world is not valid.
    """
    layout = read(world).layout
    figure = graph(world, 1) if layout is None else map_figure(layout)
    return save_figure(figure, path, "draw_world, path")


def map_figure(layout: Layout, title: str = "") -> Figure:
    """Draw the cells of a map with the world's own marks; a cell without a state is dark."""
    rows, columns = layout.shape
    axes = panel(None, map_inches(layout), Room(top=0.32 if title else 0.1, bottom=0.1), title)
    taken = np.zeros(rows * columns, dtype=bool)
    taken[layout.cell[layout.cell >= 0].numpy()] = True
    for colour, place in ((FREE, np.nonzero(taken)[0]), (BLOCK, np.nonzero(~taken)[0])):
        blocks(axes, place % columns, place // columns, 0.95, colour)
    room = 72 * map_inches(layout)[0] / columns
    for cell, mark in layout.marks.items():
        axes.text(
            cell % columns,
            cell // columns,
            mark,
            ha="center",
            va="center",
            fontsize=min(16.0, 0.45 * room),
            fontweight="bold",
            color=INK,
        )
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
    axes.axis("off")
    marks = ", ".join(
        f"{mark} in row {cell // columns + 1}, column {cell % columns + 1}" for cell, mark in layout.marks.items()
    )
    return tell(axes, f"Map of {rows} × {columns} cells, {int(taken.sum())} with a state. Marks: {marks or 'none'}.")
