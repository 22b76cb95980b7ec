"""Fields over states and time: a heat map for a finite horizon, bars over states for the infinite one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cai.support.numbers import show
from cai.view.scene import Scene
from cai.view.style import DPI, FAINT, GREY, INK, amounts, colour_bar, hatch_ground, pale, plain
from cai.world.spaces import Space

Array = NDArray[Any]
NEGLIGIBLE = 1e-12
"""Amounts below this share of the largest are rounding, and drawn as nothing."""


@dataclass(frozen=True)
class FieldStyle:
    """What a field holds: its unit, its palette, and whether each panel has a scale of its own."""

    unit: str
    palette: str
    own_scale: bool


def panel_size(scene: Scene) -> tuple[float, float]:
    """Return the size of a panel, inches: readable rows, wide enough for time."""
    rows = len(scene.states)
    height = float(np.clip(0.15 * rows, 1.5, 5.2))
    return (2.75, height)


def _value(space: Space, number: int) -> str:
    """Say the value of the one variable, by its name where it has one."""
    ((variable, value),) = space.split(torch.tensor(number)).items()
    return space.value_label(variable, int(value)) or str(int(value))


def row_labels(scene: Scene) -> list[str]:
    """Name the states that are shown: their values, with the map's mark where there is one."""
    space, layout = scene.tables.states, scene.tables.layout
    labels = []
    for number in scene.states.tolist():
        name = space.label(number) if len(space.names) > 1 else _value(space, number)
        cell = int(layout.cell[number]) if layout is not None else -1
        mark = layout.marks.get(cell) if layout is not None else None
        away = " (off map)" if layout is not None and cell < 0 else ""
        labels.append(f"{name} {mark}" if mark else name + away)
    return labels


def shared_norm(fields: Sequence[Array], depth: float) -> LogNorm:
    """Return one logarithmic scale for amounts from 0 up, ``depth`` times deep; below it is white, as nothing is."""
    finite = np.concatenate([field[np.isfinite(field)].reshape(-1) for field in fields])
    positive = finite[finite > 1e-9]
    if not positive.size:
        return LogNorm(1 / depth, 1.0)
    high = float(positive.max())
    return LogNorm(min(max(high / depth, 0.9 * float(positive.min())), high / 10), high)


def draw_field(axes: Axes, title: str, field: Array, labels: Sequence[str], style: FieldStyle, norm: Normalize) -> None:
    """Draw a field ``[T, R]`` as a heat map, or ``[R]`` as bars; no ``labels`` leaves the rows unnamed."""
    plain(axes, title)
    if field.ndim == 1:
        _bars(axes, field, style)
    else:
        _heat_map(axes, field, style, norm)
    rows = field.shape[-1]
    step = max(1, -(-rows // int(axes.get_window_extent().height / DPI / 0.125)))  # labels need an eighth of an inch
    ticks = list(range(0, rows, step))
    axes.set_yticks(ticks, [labels[n] for n in ticks] if labels else [])
    if labels:
        axes.set_ylabel("state", fontsize=8, color=INK)


def _heat_map(axes: Axes, field: Array, style: FieldStyle, norm: Normalize) -> None:
    cmap = pale(style.palette, 0.92) if style.own_scale else amounts(style.palette)
    hatch_ground(axes)
    picture = np.ma.masked_invalid(field.T)
    if not style.own_scale:
        picture = np.ma.maximum(picture, 0.25 * float(norm.vmin or 0.0))  # a log scale has no 0: lift it to "under"
    axes.imshow(picture, aspect="auto", cmap=cmap, norm=norm, interpolation="nearest")
    axes.set_xlabel("time t", fontsize=8, color=INK, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if style.own_scale:
        colour_bar(axes, norm, cmap, style.unit)
    elif not (field > float(norm.vmin or 0.0)).any() and np.isfinite(field).all():
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9}
        peak = float(field.max(initial=0.0))
        text = (
            "zero everywhere" if peak <= NEGLIGIBLE * float(norm.vmax or 1.0) else f"at most {show(peak)} {style.unit}"
        )
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY, bbox=box)


def _bars(axes: Axes, field: Array, style: FieldStyle) -> None:
    rows = np.arange(len(field))
    finite = np.isfinite(field)
    colour = pale(style.palette, 1.0)(0.62)
    axes.barh(rows, np.where(finite, field, 0.0), color=colour, height=0.8)
    axes.set_ylim(len(field) - 0.5, -0.5)
    axes.axvline(0.0, color=GREY, linewidth=0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(style.unit, fontsize=8, color=INK, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for row in np.nonzero(~finite)[0].tolist():
        axes.axhspan(row - 0.4, row + 0.4, facecolor="#e9e9ec", edgecolor="#9aa3ad", hatch="////", linewidth=0)
        axes.text(
            0.5,
            row,
            show(float(field[row])),
            transform=axes.get_yaxis_transform(),
            ha="center",
            va="center",
            fontsize=8,
        )
