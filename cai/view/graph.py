"""The picture of the model: time from left to right, a row a variable, observed nodes shaded; matplotlib alone."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, FancyArrowPatch, Patch

from cai.errors import fault
from cai.view.style import DPI, GREY, INK, foot_key, head, save_figure

KINDS = {"action": "#D55E00", "state": "#0072B2", "latent": "#009E73", "survival": "#8c6d31", "optimality": "#7b5aa6"}
"""Kinds from the top row to the bottom one, with their colours (Okabe and Ito)."""
SHIFT = {"action": 0.30, "state": 0.0, "survival": 0.62, "optimality": 0.52}
"""How far into its slice a kind is drawn, so that arrows find room between nodes."""
LATENT_SHIFTS = (0.46, 0.72, 0.34)
HALF_HEIGHT = 0.31
SHADE = "#cfd4da"
BENDS = tuple(sign * bend / 20 for bend in range(17) for sign in (1, -1))[1:]
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def draw_graph(dag: nx.DiGraph, path: str | Path) -> Path:
    """Write the picture of a graph that ``cai.graph`` returns, as SVG, PNG or PDF by the suffix; return the path.

    The file is written whole or not at all.

    Raises:
        WorldError: the suffix is none of these, or the graph has no nodes.
    """
    return save_figure(graph_figure(dag), path, "draw_graph, path")


def graph_figure(dag: nx.DiGraph) -> Figure:
    """Draw a graph that ``cai.graph`` returns: its nodes' ``kind``, ``time``, ``variable``, ``observed``, ``plates``.

    Raises:
        WorldError: the graph has no nodes.
    """
    if not len(dag):
        raise fault("draw_graph", "a graph without nodes", "a graph of at least one slice, from cai.graph")
    half_width = max(_half_width(node) for node in dag)
    places = places_of(dag, column=max(2.1, 3.4 * half_width))
    x, y = np.array(list(places.values())).T
    left, right = float(x.min()) - half_width - 0.25, float(x.max()) + half_width + 0.25
    low, high = float(y.min()) - 0.55, float(y.max()) + 0.45
    width, height = max(right - left, 6.8), high - low + 1.35
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.5 / height, (right - left) / width, (high - low) / height))
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.axis("off")
    shapes = {node: _draw_node(axes, dag, node, places[node]) for node in dag}
    for parent, child in dag.edges:
        bend = _clear_bend(places, parent, child)
        ends: dict[str, Any] = {"patchA": shapes[parent], "patchB": shapes[child], "shrinkA": 0, "shrinkB": 1.5}
        look: dict[str, Any] = {
            "arrowstyle": "-|>,head_length=5,head_width=2.6",
            "color": GREY,
            "linewidth": 1.0,
            "zorder": 1,
        }
        arrow = FancyArrowPatch(places[parent], places[child], connectionstyle=f"arc3,rad={bend}", **ends, **look)
        axes.add_patch(arrow)
    _explain(figure, dag)
    return figure


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


def _label(node: str, data: dict[str, Any]) -> str:
    variable, time = str(data["variable"]), str(data["time"])
    return variable + time.translate(SUBSCRIPT)


def _half_width(node: str) -> float:
    return max(0.36, 0.12 + 0.044 * len(node))


def _draw_node(axes: Any, dag: nx.DiGraph, node: str, place: tuple[float, float]) -> Ellipse:
    data = dag.nodes[node]
    colour = KINDS.get(data["kind"], KINDS["latent"])
    face = SHADE if data["observed"] else "white"
    shape = Ellipse(
        place, 2 * _half_width(node), 2 * HALF_HEIGHT, facecolor=face, edgecolor=colour, linewidth=1.8, zorder=2
    )
    if data.get("forced"):  # a thick rim, and no arrow from above
        shape.set(linewidth=4.0, edgecolor=INK)
    axes.add_patch(shape)
    axes.text(*place, _label(node, data), ha="center", va="center", fontsize=9, color=INK, zorder=3, parse_math=False)
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
            parse_math=False,
        )
    return shape


def _clear_bend(places: dict[str, tuple[float, float]], parent: str, child: str) -> float:
    """Return the smallest bend with which the arrow passes no other node, or the one that passes them widest."""
    start, end = np.array(places[parent]), np.array(places[child])
    others = [node for node in places if node not in (parent, child)]
    if not others:
        return 0.0
    centres = np.array([places[node] for node in others])
    reach = np.array([[_half_width(node) + 0.1, HALF_HEIGHT + 0.1] for node in others])
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


def _explain(figure: Figure, dag: nx.DiGraph) -> None:
    title = dag.graph.get("name") or "The model"
    slices = dag.graph.get("slices")
    how = "time from left to right; an arrow: the child's distribution reads the parent"
    head(figure, str(title), f"{slices} slice{'s' if slices != 1 else ''}, {how}" if slices else how)
    handles: list[Any] = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            markersize=9,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.8,
            label=kind,
        )
        for kind, colour in KINDS.items()
        if kind in _kinds(dag)
    ]
    handles.append(Patch(facecolor=SHADE, edgecolor=GREY, label="shaded: observed"))
    if any(data.get("forced") for _, data in dag.nodes(data=True)):
        handles.append(Patch(facecolor="white", edgecolor=INK, linewidth=3, label="thick rim: forced, its causes cut"))
    plates = sorted({plate for _, data in dag.nodes(data=True) for plate in data["plates"]})
    if plates:
        handles.append(Line2D([], [], linestyle="", label=f"plates: {', '.join(plates)}"))
    foot_key(figure, handles)
