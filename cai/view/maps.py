"""Maps of worlds with a layout: a number for each cell as colour, the policy as arrows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from numpy.typing import NDArray
from torch import Tensor

from cai.compile.model import FiniteModel
from cai.compile.table_model import Slice, Tables
from cai.view import readings
from cai.view.canvas import DARK as ON_COLOUR
from cai.view.canvas import WIDE, blocks, cells, hatched, inches, show_short
from cai.view.readings import Result
from cai.view.style import GREY, INK
from cai.world.spaces import Layout

Array = NDArray[Any]
REACH = 0.34
"""Length of the arrow of a certain action, in cells."""
ARROW = np.array([[0.1, 0.07], [0.58, 0.07], [0.58, 0.21], [1.0, 0.0], [0.58, -0.21], [0.58, -0.07], [0.1, -0.07]])


def states_on_map(layout: Layout, weight: Float[Tensor, " S"]) -> Array:
    """Return the state drawn in each cell, -1 for none, ``[rows, columns]``: of several in one cell the heaviest."""
    cell, heavy = layout.cell.numpy(), weight.numpy()
    order = np.lexsort((-np.arange(len(cell)), heavy))  # the last write wins: the heaviest, then the lowest number
    order = order[cell[order] >= 0]
    grid = np.full(layout.shape[0] * layout.shape[1], -1)
    grid[cell[order]] = order
    return grid.reshape(layout.shape)


def crowded(layout: Layout) -> bool:
    """Return whether some cell holds several states, so that a map shows only one of them."""
    placed = layout.cell[layout.cell >= 0]
    return bool(len(placed.unique()) < len(placed))


def choices_matter(slice_: Slice) -> Tensor:
    """Return in which states the action changes an outcome, ``[S]``: elsewhere an arrow would say nothing."""
    live = slice_.log_prob.isfinite()
    same = (slice_.log_prob == slice_.log_prob[..., :1, :]).all(-1)
    for field in (slice_.successor, slice_.reward):
        same = same & ((field == field[..., :1, :]) | ~live).all(-1)
    return ~same.all(-1)


def _glyph(move: tuple[float, float] | None) -> Array:
    """Return the outline of an arrow of length 1 in the direction of a move, or of a dot, ``[P, 2]``."""
    if move is None or not any(move):
        angle = np.linspace(0, 2 * np.pi, 24)
        return 0.24 * np.stack([np.cos(angle), np.sin(angle)], -1)
    x, y = np.array(move) / np.hypot(*move)
    turned: Array = ARROW @ np.array([[x, y], [-y, x]])
    return turned


BLOCK = "#87919b"
"""A cell without a state: seen on a dark page and on a light one."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A map to draw on.

    Attributes:
        model: the compiled world.
        layout: where its states lie.
        grid: the state drawn in each cell, -1 for none, ``[rows, columns]``: of several in one cell the most visited.
        matter: in which states the choice of an action matters, ``[S]``.
        never: the states without actions, ``[S]``: they are hatched.
    """

    model: FiniteModel
    layout: Layout
    grid: Array
    matter: Bool[Tensor, " S"]
    never: Bool[Tensor, " S"]

    @classmethod
    def of(cls, result: Result, where: str, t: int) -> "Ground":
        """Lay out the map of a result.

        Raises:
            WorldError: the world has no layout, or the result is a batch or in parts.
        """
        layout, model = readings.layout_of(result, where), result.model
        never = readings.never_entered(model)
        last = (model.horizon or 1) - 1
        matter = choices_matter(model.at(min(t, last))) if isinstance(model, Tables) else torch.ones_like(never)
        weight = readings.visits_of(result) if crowded(layout) else torch.zeros(len(never))
        return cls(model, layout, states_on_map(layout, weight), matter & ~never, never)

    @cached_property
    def shown(self) -> Int[Tensor, " R"]:
        """The states that have a cell, in the order of the cells."""
        return torch.from_numpy(self.grid[self.grid >= 0])

    @property
    def open(self) -> Int[Tensor, " R"]:
        """The states that have a cell and actions."""
        return self.shown[~self.never[self.shown]]

    @property
    def notes(self) -> str:
        """Notes for the reader about the cells; empty if there are none."""
        return "of several states in one cell: the most visited" if crowded(self.layout) else ""

    def added_up(self, field: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        """Add up the states of every cell and give each of them the sum; 0 for a state off the map."""
        cell = self.layout.cell
        placed = cell >= 0
        rows, columns = self.layout.shape
        total = field.new_zeros(rows * columns).index_add(0, cell[placed], field[placed])
        return torch.where(placed, total[cell.clamp(min=0)], 0.0)


def map_inches(layout: Layout) -> tuple[float, float]:
    """Return the width and height of a map, inches: as wide as other panels, wider only where columns are many."""
    rows, columns = layout.shape
    cell = min(0.75, max(WIDE, min(5.6, 0.42 * columns)) / columns, 5.6 / rows)
    return cell * columns, cell * rows


def draw_cells(ax: Axes, ground: Ground, values: Float[Tensor, " S"], cmap: Colormap | None, norm: Normalize) -> None:
    """Draw a number per cell as colour, and in digits where there is room; no colours without a ``cmap``.

    Where nobody ever acts, and what is not finite, is hatched; a cell without a state is grey; what is below the scale
    is drawn as nothing.
    """
    rows, columns = ground.grid.shape
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    y, x = np.nonzero(ground.grid >= 0)
    states = ground.grid[y, x]
    number, room = values.numpy()[states], inches(ax)[0] / columns
    side = 0.95 if room > 0.2 else 1.0
    none = ~np.isfinite(number) | ground.never.numpy()[states]
    low = float(norm.vmin or 0.0) if isinstance(norm, LogNorm) else -np.inf
    coloured = ~none & (number >= low) & (cmap is not None)
    if cmap is not None:
        cells(ax, x[coloured], y[coloured], number[coloured], cmap, norm, wide=side, high=side)
    hatched(ax, x[none], y[none], side)
    wall_y, wall_x = np.nonzero(ground.grid < 0)
    blocks(ax, wall_x, wall_y, side, BLOCK)
    on_colour = set(states[coloured].tolist())
    if room >= 0.34 and cmap is not None:
        _numbers(ax, ground, values, on_colour, room)
    _marks(ax, ground, on_colour, room)


def _numbers(ax: Axes, ground: Ground, values: Float[Tensor, " S"], on_colour: set[int], room: float) -> None:
    digits, size = (3, 7.8) if room > 0.5 else (2, 6.6)
    for (row, column), state in np.ndenumerate(ground.grid):
        value = float(values[state])
        if state < 0 or bool(ground.never[state]) or np.isnan(value):
            continue
        ink = ON_COLOUR if state in on_colour else INK
        words = show_short(value, digits)
        ax.text(column, row + 0.44, words, ha="center", va="bottom", fontsize=size, color=ink)


def _marks(ax: Axes, ground: Ground, on_colour: set[int], room: float) -> None:
    """Write the map's marks: in the corner where there are numbers, else in the middle."""
    columns = ground.grid.shape[1]
    size = 8.5 if room > 0.34 else max(5.0, 22 * room)
    for cell, mark in ground.layout.marks.items():
        row, column = divmod(cell, columns)
        ink = ON_COLOUR if ground.grid[row, column] in on_colour else INK
        corner: dict[str, Any] = {"ha": "left", "va": "top"} if room >= 0.34 else {"ha": "center", "va": "center"}
        aside = 0.42 if room >= 0.34 else 0.0
        ax.text(column - aside, row - aside, mark, **corner, fontsize=size, fontweight="bold", color=ink)


def draw_arrows_on(ax: Axes, ground: Ground, probs: Float[Tensor, "S A"], *, on_colour: bool = True) -> None:
    """Draw the policy: an arrow per action whose area is its probability, the likelier the darker; staying is a dot."""
    rows, columns = np.nonzero(ground.grid >= 0)
    stride = -(-max(ground.grid.shape) // 32)  # a big map shows every n-th cell
    states = ground.grid[rows, columns]
    shown = (rows % stride == 0) & (columns % stride == 0) & ground.matter.numpy()[states]
    rows, columns, states = rows[shown], columns[shown], states[shown]
    rise = 0.1 if on_colour and inches(ax)[0] / ground.grid.shape[1] >= 0.34 else 0.0
    ink = tuple(int((ON_COLOUR if on_colour else INK)[i : i + 2], 16) / 255 for i in (1, 3, 5))
    glyphs: list[Array] = []
    inks: list[tuple[float, ...]] = []
    for action, move in enumerate(ground.layout.moves):
        p = probs.numpy()[states, action]
        size = np.sqrt(p)[:, None, None] * REACH * stride
        seen = p > 0.01
        centre = np.stack([columns, rows - rise], -1)[:, None, :]
        glyphs.extend((centre + size * _glyph(move))[seen])
        inks.extend((*ink, 0.35 + 0.65 * min(1.0, float(probability))) for probability in p[seen])
    ax.add_collection(PolyCollection(glyphs, facecolors=inks, linewidths=0, zorder=3), autolim=False)


def reading_guide(ax: Axes, ground: Ground, drawn: Float[Tensor, " S"] | None) -> None:
    """Write below the map what its cells do not say themselves."""
    if ground.notes:
        height = inches(ax)[1]
        low = -(0.42 if drawn is not None else 0.08) / height
        ax.text(0.0, low, ground.notes, transform=ax.transAxes, va="top", fontsize=7.5, color=GREY)
