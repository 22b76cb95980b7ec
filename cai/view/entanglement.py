"""The picture of an elimination: which variables the backward message holds after each of its steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from cai.compile.factor_model import Factors, primed
from cai.compile.factorise import factorise
from cai.graphs.elimination_steps import Step, elimination_trace
from cai.support.numbers import large
from cai.view.canvas import Room, panel
from cai.view.graph_figure import KINDS
from cai.view.style import FAINT, GREY, INK
from cai.view.vector import save_figure, tell
from cai.world.definition import World

NEXT, HERE, BETWEEN = "#E69F00", KINDS["state"], KINDS["latent"]
"""The colours of the next state, of the state, and of the latents of the slice."""
LISTED = 24
"""The most factors that are written out below."""
LINE = 0.8
"""The height of the panel of sizes, inches."""


def draw_entanglement(factors: World | Factors, path: str | Path, t: int = 0) -> Path:
    """Write the picture of one elimination as SVG, PNG or PDF by the suffix; return the path.

    The file is written whole or not at all.

    Raises:
        WorldError: the suffix is none of these, there is no such time, or the world is not valid.
        IntractableError: the world cannot be factorised.
    """
    return save_figure(entanglement_figure(factors, t), path, "draw_entanglement, path")


def entanglement_figure(factors: World | Factors, t: int = 0) -> Figure:
    """Draw ``elimination_trace``: a column a step, a row a variable; filled where the message holds the variable.

    A state variable has two lanes in its row, its next value above its value now, so that the message can be seen to
    move from the next state to this one. The line above counts the numbers of the message.

    Raises:
        WorldError: there is no such time, or the world is not valid.
        IntractableError: the world cannot be factorised.
    """
    world = factorise(factors)
    steps = elimination_trace(world, t)
    scopes = [{primed(name) for name in world.states.names}, *(set(step.scope) for step in steps)]
    lanes = _lanes(world, scopes)
    column = min(0.5, max(0.16, 4.6 / len(scopes)))
    lane_h = min(0.2, max(0.1, 9 / len(lanes)))
    names = [_short(step) for step in steps]
    listed = names if len(names) <= LISTED else []
    grid_w, grid_h = column * len(scopes), lane_h * (lanes[-1].low + 0.5)
    left = 0.35 + 0.075 * max(len(lane.name) for lane in lanes)
    wide = max(4.2, left + grid_w + 0.2)
    abreast = max(1, min(2, int(wide / (0.25 + 0.062 * max(map(len, names))))))
    foot = 0.7 + 0.17 * -(-len(listed) // abreast)
    room = Room(left=left, right=wide - left - grid_w, top=0.35 + LINE + 0.2, bottom=foot)
    grid = panel(None, (grid_w, grid_h), room, "")
    sizes = grid.inset_axes((0.0, 1 + 0.12 / grid_h, 1.0, LINE / grid_h))
    _draw_sizes(sizes, [world.states.size, *(step.size for step in steps)], column)
    _draw_lanes(grid, scopes, lanes)
    _key(grid, lanes, (-left / grid_w, -0.38 / grid_h))
    for n, name in enumerate(listed):
        row, side = divmod(n, abreast)
        place: dict[str, Any] = {"transform": grid.transAxes, "va": "top", "fontsize": 7.5, "color": INK}
        x = (-left + 0.05 + side * wide / abreast) / grid_w
        grid.text(x, -(0.67 + 0.17 * row) / grid_h, f"{n + 1}  {name}", **place, parse_math=False)
    return tell(grid, _told(world, steps, names))


def _key(axes: Axes, lanes: list["_Lane"], below: tuple[float, float]) -> None:
    """Say what the colours are."""
    held = {"next state": NEXT, "state": HERE, "latent": BETWEEN}
    used = {lane.colour for lane in lanes}
    keys = [Patch(facecolor=colour, label=f"held: {what}") for what, colour in held.items() if colour in used]
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": INK, "loc": "upper left"}
    axes.legend(handles=keys, ncols=3, bbox_to_anchor=below, **look)


def _told(world: Factors, steps: list[Step], names: list[str]) -> str:
    most = max([world.states.size, *(step.size for step in steps)])
    applied = "; ".join(f"{n}: {name}" for n, name in enumerate(names[:LISTED], 1))
    return (
        "How the backward message entangles in one backup. It starts with a message over the whole next state; each "
        "step multiplies a factor onto it and sums out what no other factor reads. All variables of one column are "
        f"tied in one table, of {large(most)} numbers at most, where a table over (s, s') would hold "
        f"{large(world.states.size**2)}. Factors by step: {applied}."
    )


@dataclass(frozen=True)
class _Lane:
    """Where one variable of the message is drawn: from ``low - 1`` to ``low``, in lanes from the top."""

    name: str
    colour: str
    low: float


def _lanes(world: Factors, scopes: list[set[str]]) -> list[_Lane]:
    """Lay out the next and the present value of each state variable side by side, then the latents."""
    lanes: list[_Lane] = []
    low = 0.0
    for name in world.states.names:
        lanes += [_Lane(primed(name), NEXT, low + 1), _Lane(name, HERE, low + 2)]
        low += 2.5
    for name in world.latents:
        if any(name in scope for scope in scopes):
            lanes.append(_Lane(name, BETWEEN, low + 1))
            low += 1.5
    return lanes


def _draw_sizes(axes: Axes, sizes: list[int], column: float) -> None:
    axes.set_facecolor("none")
    axes.set_title("numbers in the message (logarithmic)", loc="left", fontsize=9.5, fontweight="bold", color=INK)
    most, least = max(sizes), min(sizes)
    axes.step(range(len(sizes)), sizes, where="mid", color=INK, linewidth=1.4)
    axes.set_yscale("log")
    room = max(most / least, 4.0)
    axes.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(least / room**0.35, most * room**0.4))
    axes.fill_between(range(len(sizes)), sizes, axes.get_ylim()[0], step="mid", color=FAINT, linewidth=0)
    written = -1.0
    for x, size in enumerate(sizes):
        changed = x == 0 or size != sizes[x - 1]
        text = large(size)
        wide = 0.068 * len(text) / column
        if (changed and x - wide / 2 > written) or (size == most and x == sizes.index(most)):
            # A number wider than its column would cross the line: at the ends there is room beside it.
            side = "center" if wide < 1 or 0 < x < len(sizes) - 1 else "left" if x else "right"
            place = (x + {"center": 0.0, "left": -0.45, "right": 0.45}[side], size)
            bold = "bold" if size == most else "normal"
            look: dict[str, Any] = {"ha": side, "fontsize": 8, "color": INK, "fontweight": bold}
            axes.annotate(text, place, (0, 4), textcoords="offset points", **look)
            written = x + wide / 2
    axes.set_xticks([])
    axes.set_yticks([])
    axes.minorticks_off()
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_lanes(axes: Axes, scopes: list[set[str]], lanes: list[_Lane]) -> None:
    bottom = lanes[-1].low + 0.5
    small = 7.5 if len(lanes) <= 60 else 5.5
    for lane in lanes:
        for x, scope in enumerate(scopes):
            before, now = x > 0 and lane.name in scopes[x - 1], lane.name in scope
            if now:
                axes.add_patch(Rectangle((x - 0.47, lane.low - 0.96), 0.94, 0.92, color=lane.colour, linewidth=0))
            if x and before != now:
                sign, colour = ("+", "white") if now else ("×", GREY)
                axes.text(x, lane.low - 0.5, sign, ha="center", va="center_baseline", fontsize=small, color=colour)
        if lane.colour != HERE:
            axes.axhline(lane.low - 1.25, color=FAINT, linewidth=0.6, zorder=0)
    axes.set(xlim=(-0.5, len(scopes) - 0.5), ylim=(bottom, -0.25))
    axes.set_yticks([lane.low - 0.5 for lane in lanes], [lane.name for lane in lanes])
    every = max(1, -(-len(scopes) // 24))
    shown = range(0, len(scopes), every)
    axes.set_xticks(shown, ["start" if n == 0 and every == 1 and len(scopes) < 16 else str(n) for n in shown])
    axes.set_xlabel("step: the factor of the product", fontsize=8.5, color=INK, labelpad=2)
    axes.tick_params(length=0, labelsize=8)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    for text in axes.get_yticklabels():
        text.set(color=INK, fontsize=small)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(step: Step) -> str:
    """Name a factor, the middle of its parents left out where they are many."""
    *parents, own = step.factor.scope
    if len(parents) > 4:
        parents = [*parents[:2], "…", parents[-1]]
    return f"p({own}|{', '.join(parents)})" if parents else f"p({own})"
