"""A two-slice network read off a graph: its nodes with what they mean, and every fault that can be seen in it."""

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from cai.bridges.networks.node_tables import Content, Node, inspect_content
from cai.compile.inspect import RESERVED
from cai.errors import Finding, WorldError, fault, quoted

KINDS = ("state", "action", "latent", "reward")
HOLDERS = ("table", "conditional", "form")
"""The attributes that may hold what a node's value depends on."""


def read_network(graph: Any) -> tuple[Node, ...]:
    """Read the nodes of a two-slice network, parents before children, else in the order of the graph.

    Raises:
        WorldError: it is no such network; ``findings`` list every fault.
    """
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise fault("from_networkx", f"a {type(graph).__name__}", "a networkx.DiGraph")
    if not graph:
        raise fault("from_networkx", "a graph without nodes", "a node for each variable")
    graph = _joined(graph)
    names = {key: _identify(key, data) for key, data in graph.nodes(data=True)}
    findings: list[Finding] = []
    nodes: dict[Hashable, Node] = {}
    for key in graph:
        nodes[key] = _node(graph, key, names, findings)
    nodes = {key: _sized(node, nodes) for key, node in nodes.items()}
    findings += [*_kinds(graph, nodes), *_twins(nodes), *_parents(graph, nodes), *_edges(graph, nodes), *_cycles(graph)]
    for node in nodes.values():
        known = all(parent in nodes and nodes[parent].size for parent in node.parents)
        complete = set(node.parents) == set(graph.pred[node.key]) and len(set(node.parents)) == len(node.parents)
        if node.content is not None and known and complete and (node.size or node.kind == "reward"):
            findings += inspect_content(node, nodes)
    if findings:
        raise WorldError(list(dict.fromkeys(findings)))
    order = {key: i for i, key in enumerate(graph)}
    ordered = [nodes[key] for key in nx.lexicographical_topological_sort(graph, key=order.__getitem__)]
    return (*ordered, *_placeholders(ordered))


def _joined(graph: nx.DiGraph) -> nx.DiGraph:
    """Return the graph with an edge from every parent that a node lists."""
    joined = nx.DiGraph(graph)
    for key, data in graph.nodes(data=True):
        joined.add_edges_from((parent, key) for parent in _listed(data.get("parents", ())) if parent in graph)
    return joined


def _listed(parents: Any) -> tuple[Hashable, ...]:
    return tuple(parents) if isinstance(parents, list | tuple) else (parents,)


def _placeholders(nodes: list[Node]) -> list[Node]:
    """Return a state or an action of a single value where a network has none: a world has both."""
    names, kinds, added = {node.variable for node in nodes}, {node.kind for node in nodes}, []
    for kind, variable, times in (("state", "clock", (0, 1)), ("action", "watch", (0,))):
        while variable in names:
            variable += "_"
        for time in times if kind not in kinds else ():
            certain = torch.ones(1, dtype=torch.float64)
            added.append(Node((variable, time), variable, time, kind, (), 1, None, certain, terminal=False))
    return added


def _identify(key: Hashable, data: Mapping[str, Any]) -> tuple[str, Any]:
    """Return a node's variable and time: by its attributes, else by its name ``cell_0`` or ``("cell", 0)``."""
    if isinstance(key, tuple) and len(key) == 2:
        variable, time = str(key[0]), key[1]
    else:
        match = re.fullmatch(r"(.+)_(\d+)", str(key), re.DOTALL)
        variable, time = (match[1], int(match[2])) if match else (str(key), None)
    return str(data.get("variable", variable)), data.get("time", time)


def _node(graph: nx.DiGraph, key: Hashable, names: Mapping[Hashable, tuple[str, Any]], findings: list[Finding]) -> Node:
    """Read one node, with a finding for each attribute that cannot be read."""
    data, (variable, time) = graph.nodes[key], names[key]
    times = [when for name, when in names.values() if name == variable]
    kind = str(data.get("kind", _inferred(data, variable, times)))
    kind = "reward" if kind == "optimality" else kind
    timed = isinstance(time, int) and not isinstance(time, bool)
    if not timed and kind != "reward":
        expected = "a name such as cell_0, or the attributes variable and time (0 or 1)"
        findings.append(Finding(f"node '{key}'", f"no time: {time!r}", expected))
    content = _content(key, data, findings)
    size, values = _values(key, data, findings)
    if not size and kind != "reward" and content is not None:
        size = content.shape[-1] if isinstance(content, Tensor) and content.dim() else getattr(content, "size", 0)
        size = size if isinstance(size, int) else 0
    listed = data.get("parents")
    parents = tuple(graph.pred[key]) if listed is None else _listed(listed)
    terminal = bool(data.get("terminal", False))
    return Node(key, variable, time if timed else -1, kind, parents, size, values, content, terminal)


def _inferred(data: Mapping[str, Any], variable: str, times: list[Any]) -> str:
    """Return the kind of a node that does not say: "" where it is not certain."""
    if 0 in times and 1 in times:
        return "state"
    return "reward" if variable == "O" or data.get("terminal", False) else ""


def _content(key: Hashable, data: Mapping[str, Any], findings: list[Finding]) -> Content | None:
    holders = [name for name in HOLDERS if data.get(name) is not None]
    if len(holders) > 1:
        findings.append(Finding(f"node '{key}'", f"both {' and '.join(holders)}", f"one of {', '.join(HOLDERS)}"))
    if not holders:
        return None
    content: Any = data[holders[0]]
    if callable(content):
        return content  # type: ignore[no-any-return]
    if isinstance(content, Tensor):
        return content if content.is_floating_point() else content.to(torch.float64)
    try:
        return torch.as_tensor(np.array(content, dtype=np.float64))
    except (TypeError, ValueError) as error:
        seen, expected = f"a {holders[0]} that is no array: {quoted(error)}", "numbers, or a function of the parents"
        findings.append(Finding(f"node '{key}'", seen, expected))
        return None


def _values(key: Hashable, data: Mapping[str, Any], findings: list[Finding]) -> tuple[int, tuple[str, ...] | None]:
    """Return how many values a node has, as far as its attributes say, and their names."""
    size, listed, where = data.get("cardinality"), data.get("states"), f"node '{key}'"
    values = tuple(str(value) for value in listed) if isinstance(listed, list | tuple) else None
    if listed is not None and values is None:
        findings.append(Finding(f"{where}, states", f"a {type(listed).__name__}", "a list of names"))
    if size is not None and (not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1):
        findings.append(Finding(f"{where}, cardinality", f"{size!r}", "a whole number from 1 on"))
        size = None
    if values is not None and (not values or len(set(values)) < len(values)):
        findings.append(Finding(f"{where}, states", f"{list(values)}", "a name for each value, no two alike"))
        values = None
    if values is not None and size is not None and size != len(values):
        findings.append(Finding(f"{where}, states", f"{len(values)} names", f"{size}, its cardinality"))
        values = None
    return int(size or len(values or ())), values


def _sized(node: Node, nodes: Mapping[Hashable, Node]) -> Node:
    """Let a state variable that does not say how many values it has, or what they are called, take its twin's."""
    twin = next((other for other in nodes.values() if _twinned(node, other)), None)
    if twin is None:
        return node
    values = twin.values if node.values is None and node.size in (0, twin.size) else node.values
    return replace(node, size=node.size or twin.size, values=values)


def _twinned(node: Node, other: Node) -> bool:
    return node.kind == other.kind == "state" and node.variable == other.variable and node.time == 1 - other.time


def _kinds(graph: nx.DiGraph, nodes: Mapping[Hashable, Node]) -> Iterator[Finding]:
    """Check what each node is, when it is, and that it has what it needs."""
    seen: dict[tuple[str, int], Hashable] = {}
    for node in nodes.values():
        if node.kind not in KINDS:
            known = "kind = " + ", ".join(repr(kind) for kind in KINDS)
            unasked = f"{known} (a variable with nodes at times 0 and 1 is a state unless kind says otherwise)"
            yield Finding(node.where, f"unknown kind '{node.kind}'" if node.kind else "no kind", unasked)
            continue
        if node.kind == "reward":
            if node.content is None and not _holds_something(graph, node):
                yield Finding(node.where, "a reward without a table", "table = rewards, an axis for each parent")
            continue
        times = (0, 1) if node.kind == "state" else (0,)
        if node.time not in times and node.time != -1:
            expected = f"time {' or '.join(map(str, times))}: {node.kind}s of later slices are equal to it"
            yield Finding(node.where, f"a {node.kind} at time {node.time}", expected)
        if node.variable in RESERVED:
            yield Finding(node.where, "a name that the trajectory program uses itself", "another name")
        if not node.size:
            yield Finding(node.where, "an unknown number of values", "cardinality, states, or a table")
        if node.content is None and node.kind != "action" and not _holds_something(graph, node):
            yield Finding(
                node.where, "no distribution", f"one of {', '.join(HOLDERS)}; only actions are uniform by default"
            )
        if seen.setdefault((node.variable, node.time), node.key) != node.key:
            twin = seen[node.variable, node.time]
            yield Finding(node.where, f"the variable and time of node '{twin}'", "one node for each variable and time")


def _holds_something(graph: nx.DiGraph, node: Node) -> bool:
    """Return whether it holds something that could not be read, which has a finding of its own."""
    return any(graph.nodes[node.key].get(name) is not None for name in HOLDERS)


def _twins(nodes: Mapping[Hashable, Node]) -> Iterator[Finding]:
    """Check that each state variable is there at both times, with the same values."""
    for node in nodes.values():
        if node.kind != "state" or node.time not in (0, 1):
            continue
        twin = next((other for other in nodes.values() if _twinned(node, other)), None)
        where = f"variable '{node.variable}'"
        if twin is None:
            seen = f"a state at time {node.time} only"
            yield Finding(where, seen, f"a state node of this variable at time {1 - node.time} too")
        elif node.time == 1 and node.size and twin.size and node.size != twin.size:
            yield Finding(where, f"{node.size} values at time 1", f"{twin.size}, as at time 0")
        elif node.time == 1 and node.values != twin.values:
            yield Finding(where, f"states {node.values} at time 1", f"{twin.values}, as at time 0")


def _parents(graph: nx.DiGraph, nodes: Mapping[Hashable, Node]) -> Iterator[Finding]:
    """Check that the parents that a node lists are those that the graph shows."""
    for node in nodes.values():
        above = list(graph.pred[node.key])
        for parent in dict.fromkeys(node.parents):
            if parent not in nodes:
                yield Finding(node.where, f"a missing parent '{parent}'", "parents that are nodes of the graph")
            if node.parents.count(parent) > 1:
                yield Finding(node.where, f"the parent '{parent}' twice", "one axis for each parent")
        for parent in above:
            if parent not in node.parents:
                seen = f"an edge {parent} → {node.key} without an axis in its table"
                yield Finding(node.where, seen, f"'{parent}' among parents = {list(node.parents)}")


def _edges(graph: nx.DiGraph, nodes: Mapping[Hashable, Node]) -> Iterator[Finding]:
    """Check that no node reads a node that comes later in the order of the slice."""
    for node in nodes.values():
        read = [nodes[parent] for parent in graph.pred[node.key] if nodes[parent].kind in KINDS]
        for parent in read:
            words = _forbidden(node, parent)
            if words is not None:
                yield Finding(f"edge {parent.key} → {node.key}", *words)
        times = {parent.time for parent in read}
        if (
            node.kind == "reward"
            and node.terminal
            and (len(times) > 1 or any(parent.kind != "state" for parent in read))
        ):
            seen = f"a terminal reward that reads {[str(parent.key) for parent in read]}"
            yield Finding(node.where, seen, "states of one time only, the last state of all")


def _forbidden(child: Node, parent: Node) -> tuple[str, str] | None:
    if parent.kind == "reward":
        return "a reward that is read", "rewards without children"
    later = parent.kind == "state" and parent.time == 1
    if child.kind == "state" and child.time == 0 and (later or parent.kind != "state"):
        seen = "an edge backwards in time" if later else f"a start that reads {_an(parent.kind)}"
        return seen, "states of time 0 as the parents of states of time 0"
    if child.kind == "action" and (later or parent.kind == "latent"):
        seen = "an action that reads a next state" if later else "an action that reads a latent"
        return seen, "states of time 0 and other actions: the policy sees nothing else"
    return None


def _an(kind: str) -> str:
    return f"an {kind}" if kind == "action" else f"a {kind}"


def _cycles(graph: nx.DiGraph) -> Iterator[Finding]:
    """Name one cycle of each knot."""
    for knot in nx.strongly_connected_components(graph):
        if len(knot) > 1 or any(graph.has_edge(node, node) for node in knot):
            edges = nx.find_cycle(graph.subgraph(knot))
            path = " → ".join(str(node) for node in (*(start for start, _ in edges), edges[0][0]))
            yield Finding("from_networkx", f"a cycle {path}", "a graph without cycles")
