"""Where states lie on the page: the layout of the world, a chain where states lead to their neighbours, or a graph."""

from collections import deque
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from cai.compile.table_model import Slice, Tables

DRAWN_BY_FORCES = 200
"""States up to which a graph is laid out by forces; above, in layers by the number of steps from the start."""
MOST_EDGES = 20_000


def map_of(tables: Tables) -> dict[str, Any]:
    """Return the ``map`` of the data: kind, cells and marks, and rows and columns, or positions and edges."""
    S = tables.states.size
    if tables.layout is not None:
        rows, columns = tables.layout.shape
        marks = {str(cell): text for cell, text in tables.layout.marks.items()}
        cells = {"cell": tables.layout.cell.tolist(), "marks": marks}
        return {"kind": "grid", "rows": int(rows), "columns": int(columns), **cells}
    cells = {"cell": list(range(S)), "marks": {}}
    steps = _steps(tables)
    if _is_chain(tables, steps):
        return {"kind": "grid", "rows": 1, "columns": S, **cells}
    positions = _positions(steps, tables)
    edges = steps[(steps[:, 0] != steps[:, 1])][:MOST_EDGES].tolist()
    return {"kind": "graph", **cells, "x": positions[:, 0].tolist(), "y": positions[:, 1].tolist(), "edges": edges}


def moves_of(tables: Tables) -> list[list[float] | None]:
    """Return the step on the map of each action as [right, down], None where it means none."""
    if tables.layout is None:
        return [None] * tables.actions.size
    return [None if move is None else [float(x) for x in move] for move in tables.layout.moves]


def cells_entered(tables: Tables, slice_: Slice) -> NDArray[Any]:
    """Return the cell that each outcome enters, ``[S, A, K]``; -1 off the map."""
    layout, successor = tables.layout, slice_.successor
    if layout is None:
        return successor.numpy()
    if layout.entered is not None and layout.entered.shape == successor.shape:
        return layout.entered.numpy()
    return layout.cell[successor].numpy()


def _steps(tables: Tables) -> NDArray[Any]:
    """Return the pairs of states between which a step can lead, ``[E, 2]``."""
    pairs = []
    for slice_ in tables.slices():
        possible = ((slice_.log_prob > -np.inf) & (slice_.log_prior > -np.inf).unsqueeze(-1)).numpy()
        states = np.broadcast_to(np.arange(possible.shape[0])[:, None, None], possible.shape)
        pairs.append(np.stack([states[possible], slice_.successor.numpy()[possible]], 1))
    return np.unique(np.concatenate(pairs), axis=0)


def _is_chain(tables: Tables, steps: NDArray[Any]) -> bool:
    """Return whether the states are the values of one variable, each of which leads to the next or from it."""
    S = tables.states.size
    near = {tuple(sorted(pair)) for pair in steps.tolist() if abs(pair[0] - pair[1]) == 1}
    return len(tables.states.names) == 1 and S > 1 and len(near) == S - 1


def _positions(steps: NDArray[Any], tables: Tables) -> NDArray[Any]:
    """Place the states in the unit square, ``[S, 2]``."""
    S = tables.states.size
    dag = nx.DiGraph()
    dag.add_nodes_from(range(S))
    dag.add_edges_from(steps.tolist())
    places = _layers(dag, np.flatnonzero(tables.log_initial.numpy() > -np.inf).tolist())
    depth = np.array([places[s][0] for s in range(S)])
    if len({x for x, _ in places.values()}) == 1:
        places = nx.circular_layout(dag)  # forces leave on a line what lies on one
    if S <= DRAWN_BY_FORCES:
        places = nx.spring_layout(dag.to_undirected(), pos=places, iterations=200, seed=0)
    xy = _onward(np.array([places[s] for s in range(S)], dtype=float), depth)
    low, high = xy.min(0), xy.max(0)
    placed: NDArray[Any] = (xy - low) / np.where(high > low, high - low, 1.0)
    return placed


def _onward(xy: NDArray[Any], depth: NDArray[Any]) -> NDArray[Any]:
    """Turn a layout so that what is further from the start lies further to the right."""
    right, down = (depth - depth.mean()) @ (xy - xy.mean(0))
    length = float(np.hypot(right, down))
    turned: NDArray[Any] = xy @ np.array([[right, -down], [down, right]]) / length if length > 1e-9 else xy
    return turned


def _layers(dag: "nx.DiGraph[int]", start: list[int]) -> dict[int, tuple[float, float]]:
    """Place states from left to right by the number of steps from the start; what is never reached comes last."""
    depth = dict.fromkeys(start, 0)
    queue = deque(start)
    while queue:
        s = queue.popleft()
        for after in dag.successors(s):
            if after not in depth:
                depth[after] = depth[s] + 1
                queue.append(after)
    last = max(depth.values(), default=0) + 1
    layers: dict[int, list[int]] = {}
    for s in dag:
        layers.setdefault(depth.get(s, last), []).append(s)
    return {s: (float(d), (i + 0.5) / len(row) + 1e-3 * d) for d, row in layers.items() for i, s in enumerate(row)}
