"""The picture of the model: time from left to right, a row a variable, observed nodes shaded; matplotlib alone."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, FancyArrowPatch, Patch

from cai.errors import fault
from cai.support.wording import listed
from cai.view.canvas import Room, panel
from cai.view.style import GREY, INK
from cai.view.vector import save_figure, tell
from cai.world.definition import World
from cai.world.dependencies import graph as read_graph

KINDS = {"action": "#D55E00", "state": "#0072B2", "latent": "#009E73", "survival": "#8c6d31", "optimality": "#8a6bb0"}
"""Kinds from the top row to the bottom one, with their colours (Okabe and Ito)."""
SHIFT = {"action": 0.30, "state": 0.0, "survival": 0.62, "optimality": 0.52}
"""How far into its slice a kind is drawn, so that arrows find room between nodes."""
LATENT_SHIFTS = (0.46, 0.72, 0.34)
HALF_HEIGHT = 0.31
SAID = 12
"""The most dependencies that are said in words."""
BENDS = tuple(sign * bend / 20 for bend in range(17) for sign in (1, -1))[1:]
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def draw_graph(dag: nx.DiGraph, path: str | Path) -> Path:
    """Write the picture of a graph that ``cai.graph`` returns, as SVG, PNG or PDF by the suffix; return the path.

    The file is written whole or not at all.

    Raises:
        WorldError: the suffix is none of these, or the graph has no nodes.
    """
    return save_figure(graph(dag), path, "draw_graph, path")


def graph(world: nx.DiGraph | World, slices: int | None = None, *, title: str | None = None) -> Figure:
    """Draw the graphical model: time from left to right, one row for each variable, observed nodes shaded.

    Args:
        world: a world, or a graph from ``cai.graph``, whose conditions are drawn too.
        slices: the number of slices drawn of a world, 2 unless given (1 where T is 1); of a graph all.
        title: above it; the world's name unless given.

    Raises:
        WorldError: the graph has no nodes, or is not one of ``cai.graph``; or the world is not valid.
    """
    dag = world if isinstance(world, nx.DiGraph) else read_graph(world, slices)
    if not len(dag) or any("kind" not in data for _, data in dag.nodes(data=True)):
        seen = "a graph without nodes" if not len(dag) else "nodes without a kind"
        raise fault("graph", seen, "a graph of at least one slice, from cai.graph")
    half_width = max(_half_width(_label(data)) for _, data in dag.nodes(data=True))
    places = places_of(dag, column=max(1.7, 3.1 * half_width))
    x, y = np.array(list(places.values())).T
    left, right = float(x.min()) - half_width - 0.12, float(x.max()) + half_width + 0.12
    low, high = float(y.min()) - 0.55, float(y.max()) + 0.45
    keys = _keys(dag)
    across = max(1, int((right - left) / 0.98))
    foot = 0.12 + 0.19 * -(-len(keys) // across)
    heading = title or str(dag.graph.get("name") or "The model")
    axes = panel(None, (right - left, high - low), Room(left=0, right=0, top=0.3, bottom=foot), heading)
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.axis("off")
    shapes = {node: _draw_node(axes, dag, node, places[node]) for node in dag}
    for parent, child in dag.edges:
        bend = _clear_bend(dag, places, parent, child)
        ends: dict[str, Any] = {"patchA": shapes[parent], "patchB": shapes[child], "shrinkA": 0, "shrinkB": 1.5}
        tip = "-|>,head_length=4.2,head_width=2.2"
        look: dict[str, Any] = {"arrowstyle": tip, "color": GREY, "linewidth": 0.9, "zorder": 1}
        arrow = FancyArrowPatch(places[parent], places[child], connectionstyle=f"arc3,rad={bend}", **ends, **look)
        axes.add_patch(arrow)
    figure = tell(axes, _told(dag, heading))
    below: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.0), "labelcolor": INK, "handlelength": 1.2}
    figure.legend(handles=keys, ncols=across, frameon=False, fontsize=8, columnspacing=1.2, borderpad=0, **below)
    return figure


def _told(dag: nx.DiGraph, heading: str) -> str:
    """Say the nodes by kind, and what each node of the last full slice depends on."""
    kinds = {kind: [node for node, data in dag.nodes(data=True) if data["kind"] == kind] for kind in _kinds(dag)}
    nodes = "; ".join(f"{kind}: {listed(names)}" for kind, names in kinds.items())
    first = [node for node, data in dag.nodes(data=True) if data["time"] == 0 or data["kind"] == "state"]
    reads = (f"{node} depends on {listed(list(dag.predecessors(node)))}" for node in first if dag.in_degree(node))
    return f"Graphical model of {heading}. Nodes by kind: {nodes}. {'; '.join(list(reads)[:SAID])}."


def places_of(dag: nx.DiGraph, column: float) -> dict[str, tuple[float, float]]:
    """Place every node, inches: the slice and the kind give x, the variable gives y."""
    order = list(KINDS)
    rank = {kind: order.index(kind) if kind in order else order.index("latent") for kind in _kinds(dag)}
    variables = dict.fromkeys((rank[data["kind"]], data["variable"]) for _, data in dag.nodes(data=True))
    rows = {key: row for row, key in enumerate(sorted(variables, key=lambda key: key[0]))}
    nth = {key: n for n, key in enumerate(key for key in rows if key[0] == order.index("latent"))}
    places = {}
    for node, data in dag.nodes(data=True):
        key = (rank[data["kind"]], data["variable"])
        shift = SHIFT.get(data["kind"], LATENT_SHIFTS[nth.get(key, 0) % 3])
        places[node] = (column * (data["time"] + shift), -1.12 * rows[key])
    return places


def _kinds(dag: nx.DiGraph) -> list[str]:
    return list(dict.fromkeys(data["kind"] for _, data in dag.nodes(data=True)))


def _label(data: dict[str, Any]) -> str:
    """Write a node's variable and its time apart: ``machine_0 at 1`` where a subscript could be taken for the name."""
    variable, time = str(data["variable"]), str(data["time"])
    return f"{variable} at {time}" if variable[-1:].isdigit() else variable + time.translate(SUBSCRIPT)


def _half_width(label: str) -> float:
    return max(0.3, 0.12 + 0.038 * len(label))


def _draw_node(axes: Any, dag: nx.DiGraph, node: str, place: tuple[float, float]) -> Ellipse:
    data = dag.nodes[node]
    colour = KINDS.get(data["kind"], KINDS["latent"])
    label = _label(data)
    face = (*to_rgb(colour), 0.28) if data["observed"] else "none"
    shape = Ellipse(
        place, 2 * _half_width(label), 2 * HALF_HEIGHT, facecolor=face, edgecolor=colour, linewidth=1.6, zorder=2
    )
    if data.get("forced"):  # a thick rim, and no arrow from above
        shape.set(linewidth=4.0, edgecolor=INK)
    axes.add_patch(shape)
    axes.text(*place, label, ha="center", va="center", fontsize=9, color=INK, zorder=3)
    if data["plates"]:
        note = "plate " + ", ".join(data["plates"])
        axes.text(
            place[0],
            place[1] - 0.4,
            note,
            ha="center",
            va="center",
            fontsize=6.5,
            style="italic",
            color=GREY,
        )
    return shape


def _clear_bend(dag: nx.DiGraph, places: dict[str, tuple[float, float]], parent: str, child: str) -> float:
    """Return the smallest bend with which the arrow passes no other node, or the one that passes them widest."""
    start, end = np.array(places[parent]), np.array(places[child])
    others = [node for node in places if node not in (parent, child)]
    if not others:
        return 0.0
    centres = np.array([places[node] for node in others])
    reach = np.array([[_half_width(_label(dag.nodes[node])) + 0.1, HALF_HEIGHT + 0.1] for node in others])
    s = np.linspace(0, 1, 41)[:, None]
    every = np.array(list(places.values()))
    low, high = every.min(0) - 0.55, every.max(0) + 0.55
    best, widest = 0.0, -1.0
    for bend in BENDS:
        # matplotlib's arc3: the control point lies beside the middle, by bend times the length
        control = (start + end) / 2 + bend * np.array([end[1] - start[1], start[0] - end[0]])
        curve = (1 - s) ** 2 * start + 2 * s * (1 - s) * control + s**2 * end
        if (curve < low).any() or (curve > high).any():  # it would leave the canvas
            continue
        room = float(np.hypot(*np.moveaxis((curve[:, None, :] - centres) / reach, -1, 0)).min())
        if room > 1:
            return bend
        if room > widest:
            best, widest = bend, room
    return best


def _keys(dag: nx.DiGraph) -> list[Any]:
    """Return the legend's entries: the kinds of nodes, and what shading and a thick rim mean."""
    ring: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 8, "markerfacecolor": "none"}
    handles: list[Any] = [
        Line2D([], [], **ring, markeredgecolor=colour, markeredgewidth=1.6, label=kind)
        for kind, colour in KINDS.items()
        if kind in _kinds(dag)
    ]
    every = [data for _, data in dag.nodes(data=True)]
    if any(data["observed"] for data in every):
        handles.append(Patch(facecolor=(0.5, 0.5, 0.5, 0.3), label="filled: observed"))
    if any(data.get("forced") for data in every):
        handles.append(Patch(facecolor="none", edgecolor=INK, linewidth=2.5, label="thick rim: forced"))
    plates = sorted({plate for data in every for plate in data["plates"]})
    return [*handles, *([Line2D([], [], linestyle="", label=f"plates: {', '.join(plates)}")] if plates else [])]
