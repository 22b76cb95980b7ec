"""pgmpy in: its dynamic Bayesian networks, and the BIF and XMLBIF files that it reads, become worlds."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from cai.bridges.networks.bif_files import located, module, normalised, read
from cai.bridges.networks.networkx import from_networkx
from cai.bridges.networks.static import Conditional, static_world
from cai.errors import fault
from cai.world.definition import World

Slot = tuple[Any, int]
"""A variable and its slice, as pgmpy names a node (its own ``DynamicNode`` is equal to it)."""


def from_pgmpy(
    network: Any,
    *,
    actions: str | Iterable[Any] = (),
    rewards: Mapping[Any, Any] | None = None,
    horizon: int | None = 1,
    discount: float = 1.0,
) -> World:
    """Import a ``pgmpy.models.DynamicBayesianNetwork``, or a static ``DiscreteBayesianNetwork``, as a world.

    A variable is a state if its next value depends on the slice before, or if an action or another state of its own
    slice depends on it. Every other variable, actions apart, is a latent of the slice, which the policy does not see.
    The second slice stands for all later ones. A distribution that is given in one slice only is used in both, if all
    its parents exist there. Rows whose sum is off 1 by rounding (0.01 at most, as pgmpy admits) are normalised.

    A static network is a world of horizon 1: the parents of the actions are the state, all other variables are latents.
    A condition names them with their time, "smoke_0"; ``marginal(0, "smoke")`` is their distribution. A network without
    actions gets one action variable "watch" with a single value, one without states a state "clock". Variables called
    "O" or "alive" become ``"O_"`` and ``"alive_"``, because the trajectory program uses those names.

    Args:
        network: the network with its CPDs.
        actions: the variables that are controlled, if any. Their CPD is the prior; without a CPD the prior is uniform.
        rewards: a dict by node, or by tuple of nodes. An entry is a table with an axis for each node, or a function of
            their values (see ``cai.from_networkx``). A node is ``("cell", 0)``, ``("cell", 1)`` for the next state, or
            ``"cell"``, which means ``("cell", 0)``.
        horizon: T, or None for the infinite horizon with a discount below 1; 1 for a static network.
        discount: the probability γ of surviving a step.

    Raises:
        WorldError: pgmpy is missing, or the network is not valid; ``findings`` list every fault.
    """
    where, paid = "from_pgmpy", {} if rewards is None else rewards
    models = module(where, "pgmpy.models")
    if isinstance(network, models.DiscreteBayesianNetwork):
        variables = _static_variables(where, network)
        controlled = _listed(where, actions, list(variables))
        name = getattr(network, "name", None) or "network"
        return static_world(where, name, variables, controlled, _by_names(paid), horizon, discount)
    if not isinstance(network, models.DynamicBayesianNetwork):
        expected = "a pgmpy.models.DynamicBayesianNetwork or DiscreteBayesianNetwork"
        raise fault(where, f"a {type(network).__name__}", expected)
    dbn = network
    names = list(dict.fromkeys(node[0] for node in dbn.nodes()))
    controlled = _listed(where, actions, names)
    states = _states(dbn, controlled)
    cpds = {(cpd.variable[0], cpd.variable[1]): cpd for cpd in dbn.cpds}
    sizes = {slot[0]: int(n) for cpd in cpds.values() for slot, n in zip(cpd.variables, cpd.cardinality, strict=True)}
    dag = nx.DiGraph(name=getattr(dbn, "name", None) or "dynamic network")
    for name in names:
        kind = "state" if name in states else "action" if name in controlled else "latent"
        if kind != "state":
            _require_alike(where, cpds, name)
        for time in (0, 1) if kind == "state" else (0,):
            parents, values, domain = _conditional(cpds, (name, time))
            domain = domain or ({"cardinality": sizes[name]} if name in sizes else {})
            above = [_key(slot) for slot in parents]
            dag.add_node(_key((name, time)), kind=kind, table=normalised(values), parents=above, **domain)
    _require_order(where, dag, cpds)
    _require_edges(where, dbn, cpds)
    _finish(dag, {tuple(_key(slot) for slot in _slots(key)): table for key, table in paid.items()})
    return from_networkx(dag, horizon=horizon, discount=discount)


def from_bif(
    path: str | Path,
    *,
    actions: str | Iterable[str] = (),
    rewards: Mapping[Any, Any] | None = None,
    horizon: int | None = 1,
    discount: float = 1.0,
) -> World:
    """Import a network from a BIF file, or an XMLBIF file (.xmlbif, .xml), as pgmpy reads them; either may be .gz.

    In a network of two slices variables are named as ``cai.graph`` names nodes: ``cell_0`` and ``cell_1`` are a state
    and its next value. A variable with one node only is an action if ``actions`` names it, else a latent of the slice.
    A network without any such pair, or with later slices, is static: a world of horizon 1, see ``cai.from_pgmpy``. Rows
    whose sum is off 1 by rounding in the file (0.01 at most) are normalised; the format's default rows are not read.

    Args:
        path: the file, or the name of a network that pgmpy ships, such as "asia".
        actions: the variables that are controlled, if any, ``"move"`` or ``"move_0"``; their distribution is the prior.
        rewards: a dict by variable, or by tuple of variables. An entry is a table with an axis for each variable, or a
            function of their values.
        horizon: T, or None for the infinite horizon with a discount below 1; 1 for a static network.
        discount: the probability γ of surviving a step.

    Raises:
        WorldError: pgmpy is missing, the file cannot be read, or the network is not valid.
    """
    path = located(Path(path))
    where = f"from_bif('{path.name}')"
    states, parents, cpds = read(where, path)
    paid = _by_names({} if rewards is None else rewards)
    names = [actions] if isinstance(actions, str) else list(actions)
    controlled = _listed(where, [name if name in states else f"{name}_0" for name in names], list(states))
    variables = {}
    for name, values in states.items():
        above, table = parents.get(name, []), cpds.get(name)
        if table is not None:
            table = np.moveaxis(table.reshape(len(values), *(len(states[parent]) for parent in above)), 0, -1)
        variables[name] = Conditional({"states": values}, above, normalised(table))
    if not _in_two_slices(states):
        return static_world(where, path.name.split(".")[0], variables, controlled, paid, horizon, discount)
    dag = nx.DiGraph(name=path.name.split(".")[0])
    for name, node in variables.items():
        base, time = name[:-2], name[-2:]
        twins = f"{base}_0" in states and f"{base}_1" in states
        kind = "action" if name in controlled else "state" if time == "_1" or (twins and time == "_0") else "latent"
        dag.add_node(name, kind=kind, table=node.table, parents=list(node.parents), **node.domain)
    _finish(dag, paid)
    return from_networkx(dag, horizon=horizon, discount=discount)


def _in_two_slices(names: Iterable[str]) -> bool:
    """Return whether variables have a time, 0 or 1, and one of them both."""
    timed = [match for name in names if (match := re.fullmatch(r"(.+)_([01])", name))]
    base = {match[1] for match in timed if match[2] == "0"}
    return bool(base & {match[1] for match in timed if match[2] == "1"}) and not any(
        f"{match}_2" in names for match in base
    )


def _by_names(rewards: Mapping[Any, Any]) -> dict[tuple[Any, ...], Any]:
    return {key if isinstance(key, tuple) else (key,): table for key, table in rewards.items()}


def _listed(where: str, actions: Any, names: list[Any]) -> list[Any]:
    controlled = [actions] if isinstance(actions, str) else list(actions)
    for name in controlled:
        if name not in names:
            raise fault(f"{where}, actions", f"no variable '{name}'", f"variables among {names}")
    return controlled


def _static_variables(where: str, network: Any) -> dict[str, Conditional]:
    """Return the variables of a static network, each CPD held to the edges and to its parents' own values."""
    cpds = {str(cpd.variable): cpd for cpd in network.get_cpds()}
    named = {name: [str(value) for value in cpd.state_names[cpd.variable]] for name, cpd in cpds.items()}
    variables = {}
    for node in network.nodes():
        name, cpd = str(node), cpds.get(str(node))
        if cpd is None:
            sizes = [other.get_cardinality([node])[node] for other in cpds.values() if node in other.variables]
            variables[name] = Conditional({"cardinality": int(sizes[0])} if sizes else {}, [], None)
            continue
        parents = [str(parent) for parent in cpd.variables[1:]]
        edges = sorted(str(parent) for parent in network.predecessors(node))
        if sorted(parents) != edges:
            raise fault(f"{where}, CPD of {name}", f"parents {sorted(parents)}", f"{edges}, as the edges say")
        for parent in cpd.variables[1:]:
            listed = [str(value) for value in cpd.state_names[parent]]
            own = named.get(str(parent), listed)
            if listed not in (own, [str(i) for i in range(len(own))]):
                here, seen = f"{where}, CPD of {name}", f"the states {listed} of its parent '{parent}'"
                raise fault(here, seen, f"{own}, as its own CPD has them")
        table = np.moveaxis(np.asarray(cpd.values, dtype=np.float64), 0, -1)
        numbers = named[name] == [str(i) for i in range(len(named[name]))]
        domain = {"cardinality": len(named[name])} if numbers else {"states": named[name]}
        variables[name] = Conditional(domain, parents, normalised(table))
    return variables


def _states(dbn: Any, controlled: list[Any]) -> set[Any]:
    """Return the variables that must be known before the actions are taken."""
    within = [(a[0], b[0]) for a, b in dbn.edges() if a[1] == b[1]]
    states = {b[0] for a, b in dbn.edges() if a[1] != b[1]}
    for action in controlled:
        if action in states:
            seen, expected = "an edge from the slice before", "actions that read states of their own slice"
            raise fault(f"from_pgmpy, action '{action}'", seen, expected)
    while more := {a for a, b in within if b in states | set(controlled)} - states - set(controlled):
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
        if cpd is None or any(slot[1] != 1 - time for slot in cpd.variables):
            return [], None, {}
    parents = [(slot[0], slot[1] + shift) for slot in cpd.variables[1:]]
    table = np.moveaxis(np.asarray(cpd.values, dtype=np.float64), 0, -1)
    names = list(cpd.state_names[cpd.variables[0]])
    domain = (
        {"cardinality": len(names)} if names == list(range(len(names))) else {"states": [str(name) for name in names]}
    )
    return parents, table, domain


def _require_alike(where: str, cpds: Mapping[Slot, Any], name: Any) -> None:
    """Check that an action or a latent has one distribution in both slices."""
    if (name, 0) not in cpds or (name, 1) not in cpds:
        return
    (above, first, _), (later, other, _) = _conditional(cpds, (name, 0)), _conditional(cpds, (name, 1))
    if [(parent, time + 1) for parent, time in above] != later or not np.array_equal(first, other):
        seen = "distributions that differ between the slices"
        raise fault(f"{where}, variable '{name}'", seen, "one for all slices, as it is no state")


def _require_order(where: str, dag: nx.DiGraph, cpds: Mapping[Slot, Any]) -> None:
    """Check that every CPD lists the values of its parents in the order in which the parents' own CPDs do."""
    for cpd in cpds.values():
        for parent in cpd.variables[1:]:
            own = dag.nodes.get(_key((parent[0], 0)), {}).get("states")
            listed = [str(value) for value in cpd.state_names[parent]]
            if own is not None and listed not in (own, [str(i) for i in range(len(own))]):
                here = f"{where}, CPD of {cpd.variable[0]}, slice {cpd.variable[1]}"
                raise fault(here, f"the states {listed} of its parent '{parent[0]}'", f"{own}, as its own CPD has them")


def _require_edges(where: str, dbn: Any, cpds: Mapping[Slot, Any]) -> None:
    """Check that every CPD reads the parents that the graph shows."""
    for (name, time), cpd in cpds.items():
        read = {_key(slot) for slot in cpd.variables[1:]}
        edges = {_key(slot) for slot in dbn.predecessors((name, time))}
        if read != edges:
            seen, expected = f"parents {sorted(read)}", f"{sorted(edges)}, as the edges of the network say"
            raise fault(f"{where}, CPD of {name}, slice {time}", seen, expected)


def _slots(key: Any) -> list[Slot]:
    """Return the nodes that a reward reads, as (variable, slice)."""
    if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], int):
        return [key]
    several = key if isinstance(key, tuple) else (key,)
    return [node if isinstance(node, tuple) else (node, 0) for node in several]


def _key(slot: Any) -> str:
    return f"{slot[0]}_{slot[1]}"


def _finish(dag: nx.DiGraph, rewards: Mapping[tuple[str, ...], Any]) -> None:
    """Add the reward nodes."""
    for i, (parents, table) in enumerate(rewards.items()):
        key = "O_0" if len(rewards) == 1 else f"O.{i + 1}_0"
        dag.add_node(key, kind="reward", parents=list(parents), table=table)
