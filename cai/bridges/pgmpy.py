"""pgmpy in: its dynamic Bayesian networks, and the BIF and XMLBIF files that it reads, become worlds."""

import importlib
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from cai.bridges.networks import from_networkx
from cai.errors import fault, quoted
from cai.world import World

Slot = tuple[Any, int]
"""A variable and its slice, as pgmpy names a node (its own ``DynamicNode`` is equal to it)."""
SUFFIXES = {".bif": "BIFReader", ".xmlbif": "XMLBIFReader", ".xml": "XMLBIFReader"}
DIGITS = 0.01
"""How far from 1 pgmpy lets a row of probabilities sum: the digits that were written down."""


def from_pgmpy(
    dbn: Any,
    *,
    actions: str | Iterable[Any],
    rewards: Mapping[Any, Any],
    horizon: int | None,
    discount: float = 1.0,
) -> World:
    """Import a ``pgmpy.models.DynamicBayesianNetwork`` as a world.

    A variable is a state where its next value reads the slice before, or where an action or another state of its own
    slice reads it; what is neither state nor action is a latent of the slice, which who acts does not see. The second
    slice stands for all later ones: a distribution that is given in one slice only holds in both, if all its parents
    lie there. Rows off 1 by written digits (0.01 at most, as pgmpy admits) are normalised.

    Args:
        dbn: the network with its CPDs.
        actions: the variables that are controlled; a CPD of theirs is the prior, else it is uniform.
        rewards: by node, or by tuple of nodes, a table with an axis for each or a function of their values (see
            ``cai.from_networkx``). A node is ``("cell", 0)``, ``("cell", 1)`` for the next state, or ``"cell"``, which
            is ``("cell", 0)``.
        horizon: T, or None for the infinite horizon with a discount below 1.
        discount: the chance γ to survive a step.

    Raises:
        WorldError: pgmpy is missing, or the network does not conform; ``findings`` list every fault.
    """
    where = "from_pgmpy"
    if not isinstance(dbn, _module(where, "pgmpy.models").DynamicBayesianNetwork):
        raise fault(where, f"a {type(dbn).__name__}", "a pgmpy.models.DynamicBayesianNetwork")
    names = list(dict.fromkeys(node[0] for node in dbn.nodes()))
    acting = _listed(where, actions, names)
    states = _states(dbn, acting)
    cpds = {(cpd.variable[0], cpd.variable[1]): cpd for cpd in dbn.cpds}
    sizes = {one[0]: int(n) for cpd in cpds.values() for one, n in zip(cpd.variables, cpd.cardinality, strict=True)}
    dag = nx.DiGraph(name=getattr(dbn, "name", None) or "dynamic network")
    for name in names:
        kind = "state" if name in states else "action" if name in acting else "latent"
        if kind != "state":
            _require_alike(where, cpds, name)
        for time in (0, 1) if kind == "state" else (0,):
            parents, values, said = _conditional(cpds, (name, time))
            said = said or ({"cardinality": sizes[name]} if name in sizes else {})
            _add(dag, _key((name, time)), kind, [_key(one) for one in parents], values, said)
    _require_order(where, dag, cpds)
    _require_edges(where, dbn, cpds)
    _finish(dag, {tuple(_key(one) for one in _slots(key)): table for key, table in rewards.items()})
    return from_networkx(dag, horizon=horizon, discount=discount)


def from_bif(
    path: str | Path,
    *,
    actions: str | Iterable[str],
    rewards: Mapping[Any, Any],
    horizon: int | None,
    discount: float = 1.0,
) -> World:
    """Import a network of two slices from a BIF file, or an XMLBIF file (.xmlbif, .xml), as pgmpy reads them.

    Variables are named as ``cai.graph`` names nodes: ``cell_0`` and ``cell_1`` are a state and its next value, a
    variable without such a twin is an action where ``actions`` names it, else a latent of the slice. Rows off 1 by
    written digits (0.01 at most) are normalised.

    Args:
        path: the file.
        actions: the variables that are controlled, ``"move"`` or ``"move_0"``; their distribution is the prior.
        rewards: by variable, or by tuple of variables, a table with an axis for each or a function of their values.
        horizon: T, or None for the infinite horizon with a discount below 1.
        discount: the chance γ to survive a step.

    Raises:
        WorldError: pgmpy is missing, the file cannot be read, or the network does not conform.
    """
    path = Path(path)
    where = f"from_bif('{path.name}')"
    states, parents, cpds = _read(where, path)
    given = [actions] if isinstance(actions, str) else list(actions)
    acting = _listed(where, [one if one in states else f"{one}_0" for one in given], list(states))
    dag = nx.DiGraph(name=path.stem)
    for name, values in states.items():
        base, time = name[:-2], name[-2:]
        twins = f"{base}_0" in states and f"{base}_1" in states
        kind = "action" if name in acting else "state" if time == "_1" or (twins and time == "_0") else "latent"
        above = parents.get(name, [])
        table = cpds.get(name)
        if table is not None:
            table = np.moveaxis(table.reshape(len(values), *(len(states[one]) for one in above)), 0, -1)
        _add(dag, name, kind, above, table, {"states": values})
    _finish(dag, {key if isinstance(key, tuple) else (key,): table for key, table in rewards.items()})
    return from_networkx(dag, horizon=horizon, discount=discount)


def _read(where: str, path: Path) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, Any]]:
    """Return the states, the parents and the probabilities ``[own, parents]`` of a file's variables.

    The reader's own model is left aside: of XMLBIF it gives parents the names of the child's states.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise fault(where, f"the suffix '{path.suffix}'", f"a file in {', '.join(SUFFIXES)}")
    kind = SUFFIXES[path.suffix.lower()]
    reader = getattr(_module(where, "pgmpy.readwrite"), kind)
    form = kind.removesuffix("Reader")
    try:
        text = path.read_bytes().decode("utf-8", "replace" if form == "XMLBIF" else "strict").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise fault(where, quoted(error), "a file of text that can be read") from None
    # The reader ends a block where a line ends in "}", and leaves out one that has blanks behind it.
    text = re.sub(r"\}[ \t]*$", "}", text, flags=re.MULTILINE) + "\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader(path=str(path)) if form == "XMLBIF" else reader(string=text)
        states = {str(name): [str(value) for value in values] for name, values in found.variable_states.items()}
        parents = {name: [str(one) for one in above] for name, above in found.variable_parents.items()}
        cpds = dict(found.variable_CPD if form == "XMLBIF" else found.variable_cpds)
        for name, table in cpds.items():
            columns = int(np.prod([len(states[one]) for one in parents[name]]))
            if table.shape != (len(states[name]), columns):
                raise ValueError(f"{table.size} probabilities of '{name}' where {len(states[name])} × {columns} belong")
    except Exception as error:  # the readers' errors have no common base
        words = "text that is no such network" if isinstance(error, AttributeError) else quoted(error)
        raise fault(where, words, f"a network in {form}, as pgmpy reads it") from None
    if form == "BIF":
        _require_blocks(where, found)
    if not states:
        raise fault(where, "no variables", f"a network in {form}, as pgmpy reads it")
    return states, parents, cpds


def _require_blocks(where: str, reader: Any) -> None:
    """Check that the reader left out no block of the text, which it does without a word."""
    for word, found in (("variable", reader.variable_names), ("probability", reader.variable_parents)):
        written = len(re.findall(rf"^\s*{word}\b", reader.network, re.MULTILINE))
        if written != len(found):
            seen = f"{written} blocks '{word}', of which {len(found)} could be read"
            raise fault(where, seen, "one block a variable, each closed by a '}' at the end of a line")


def _module(where: str, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise fault(where, f"{error}", "the package that reads such networks: pip install 'cai[pgmpy]'") from None


def _listed(where: str, actions: Any, names: list[Any]) -> list[Any]:
    acting = [actions] if isinstance(actions, str) else list(actions)
    for one in acting:
        if one not in names:
            raise fault(f"{where}, actions", f"no variable '{one}'", f"variables among {names}")
    return acting


def _states(dbn: Any, acting: list[Any]) -> set[Any]:
    """Return the variables that must be known before the actions are taken."""
    within = [(a[0], b[0]) for a, b in dbn.edges() if a[1] == b[1]]
    states = {b[0] for a, b in dbn.edges() if a[1] != b[1]}
    for one in acting:
        if one in states:
            seen, expected = "an edge from the slice before", "actions that read states of their own slice"
            raise fault(f"from_pgmpy, action '{one}'", seen, expected)
    while more := {a for a, b in within if b in states | set(acting)} - states - set(acting):
        states |= more
    return states


def _conditional(cpds: Mapping[Slot, Any], slot: Slot) -> tuple[list[Slot], Any, dict[str, Any]]:
    """Return the parents, the table with the own value last, and the values' names of a node; None where it has none.

    A node without a distribution has its twin's, if that reads its own slice only.
    """
    name, time = slot
    cpd, shift = cpds.get(slot), 0
    if cpd is None:
        cpd, shift = cpds.get((name, 1 - time)), 2 * time - 1
        if cpd is None or any(one[1] != 1 - time for one in cpd.variables):
            return [], None, {}
    parents = [(one[0], one[1] + shift) for one in cpd.variables[1:]]
    table = np.moveaxis(np.asarray(cpd.values, dtype=np.float64), 0, -1)
    names = list(cpd.state_names[cpd.variables[0]])
    said = {"cardinality": len(names)} if names == list(range(len(names))) else {"states": [str(one) for one in names]}
    return parents, table, said


def _require_alike(where: str, cpds: Mapping[Slot, Any], name: Any) -> None:
    """Check that an action or a latent has one distribution in both slices."""
    if (name, 0) not in cpds or (name, 1) not in cpds:
        return
    (above, one, _), (later, other, _) = _conditional(cpds, (name, 0)), _conditional(cpds, (name, 1))
    if [(parent, time + 1) for parent, time in above] != later or not np.array_equal(one, other):
        seen = "distributions that differ between the slices"
        raise fault(f"{where}, variable '{name}'", seen, "one for all slices, as it is no state")


def _require_order(where: str, dag: nx.DiGraph, cpds: Mapping[Slot, Any]) -> None:
    """Check that every CPD lists the values of its parents in the order in which the parents' own CPDs do."""
    for cpd in cpds.values():
        for parent in cpd.variables[1:]:
            own = dag.nodes.get(_key((parent[0], 0)), {}).get("states")
            listed = [str(one) for one in cpd.state_names[parent]]
            if own is not None and listed not in (own, [str(i) for i in range(len(own))]):
                here = f"{where}, CPD of {cpd.variable[0]}, slice {cpd.variable[1]}"
                raise fault(here, f"the states {listed} of its parent '{parent[0]}'", f"{own}, as its own CPD has them")


def _require_edges(where: str, dbn: Any, cpds: Mapping[Slot, Any]) -> None:
    """Check that every CPD reads the parents that the graph shows."""
    for (name, time), cpd in cpds.items():
        read = {_key(one) for one in cpd.variables[1:]}
        shown = {_key(one) for one in dbn.predecessors((name, time))}
        if read != shown:
            seen, expected = f"parents {sorted(read)}", f"{sorted(shown)}, as the edges of the network say"
            raise fault(f"{where}, CPD of {name}, slice {time}", seen, expected)


def _slots(key: Any) -> list[Slot]:
    """Return the nodes that a reward reads, as (variable, slice)."""
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], int):
        return [key]
    several = key if isinstance(key, tuple) else (key,)
    return [one if isinstance(one, tuple) else (one, 0) for one in several]


def _key(slot: Any) -> str:
    return f"{slot[0]}_{slot[1]}"


def _add(dag: nx.DiGraph, key: str, kind: str, parents: list[str], table: Any, said: dict[str, Any]) -> None:
    if table is not None:
        total = table.sum(-1, keepdims=True)
        table = np.where(np.abs(total - 1) <= DIGITS, table / np.where(total == 0, 1.0, total), table)
    dag.add_node(key, kind=kind, table=table, parents=parents, **said)


def _finish(dag: nx.DiGraph, rewards: Mapping[tuple[str, ...], Any]) -> nx.DiGraph:
    """Add the reward nodes, and the edges from all parents that are there."""
    for i, (parents, table) in enumerate(rewards.items()):
        key = "O_0" if len(rewards) == 1 else f"O.{i + 1}_0"
        _add(dag, key, "reward", list(parents), None, {})
        dag.nodes[key]["table"] = table
    edges = [(parent, key) for key, data in dag.nodes(data=True) for parent in data["parents"] if parent in dag]
    dag.add_edges_from(edges)
    return dag
