"""The program as a directed acyclic graph, read off its own provenance, with questions to ask of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import networkx as nx
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.inspect import get_dependencies
from pyro.poutine.messenger import Messenger

from cai.errors import CaiError, fault, quoted
from cai.program import Stamp, trajectory, variables
from cai.world import World, discount_of, horizon_of


@dataclass(frozen=True)
class Unrolled:
    """A world cut to its first slices; the terminal reward belongs to its own last time, and is left out before."""

    world: World
    horizon: int

    def __getattr__(self, name: str) -> Any:
        if name == "terminal" and self.horizon != self.world.horizon:
            return None
        return getattr(self.world, name)


def graph(world: World, slices: int = 2) -> nx.DiGraph:
    """Read the graph of the first slices off the trajectory program, by Pyro's provenance tracking.

    Nodes are sites (``cell_0, move_0, slip_0, O_0, cell_1 …``) with the attributes ``kind`` (state, action, latent,
    optimality, survival), ``time``, ``variable``, ``observed`` and ``plates``; an edge says that the child's
    distribution, or its potential, reads the parent's value.

    Args:
        world: the world; its horizon is cut to ``slices``.
        slices: how many slices to write out; the state after the last one is in the graph too.

    Raises:
        WorldError: ``slices`` is not a positive number within the horizon, or a variable is not a site.
    """
    if not hasattr(world, "step"):
        raise fault("graph", f"a {type(world).__name__}", "a world, with initial, act and step")
    horizon = horizon_of(world)
    if not isinstance(slices, int) or slices < 1 or (horizon is not None and slices > horizon):
        raise fault("graph, slices", f"{slices!r}", f"a whole number from 1 to {horizon or 'any'}")
    short = Unrolled(world, slices)
    program = trajectory(short)
    try:
        with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), _Shown():
            parents: Any = get_dependencies(program)["prior_dependencies"]
            kinds = _kinds(world)
            sites = pyro.poutine.trace(program).get_trace().nodes
    except CaiError:
        raise
    except Exception as error:
        raise fault("the trajectory program", quoted(error), "slices that run (cai.check says more)") from error
    dag = nx.DiGraph(name=getattr(world, "name", type(world).__name__), slices=slices)
    for name in parents:
        variable, time = re.fullmatch(r"(.*)_(\d+)", name, re.DOTALL).groups()  # type: ignore[union-attr]
        site = sites[name]
        plates = tuple(frame.name for frame in site["cond_indep_stack"])
        kind = kinds.get(variable, "latent")
        observed = bool(site["is_observed"])
        dag.add_node(name, kind=kind, time=int(time), variable=variable, observed=observed, plates=plates)
    for child, above in parents.items():
        dag.add_edges_from((parent, child) for parent in above if parent != child)
    return dag


def is_independent(
    dag: nx.DiGraph, a: str | Iterable[str], b: str | Iterable[str], given: str | Iterable[str] = ()
) -> bool:
    """Tell whether a and b are independent given some nodes in every distribution of this graph (d-separation).

    ``is_independent(g, "move_1", ["O_0"], given=["cell_1"])`` asks whether a_1 is independent of O_{<1} given s_1.

    Raises:
        WorldError: a node is not in the graph.
    """
    sets = [{part} if isinstance(part, str) else set(part) for part in (a, b, given)]
    for node in set.union(*sets):
        if node not in dag:
            raise fault("is_independent", f"no node '{node}'", f"one of {sorted(dag)}")
    if sets[0] & sets[1]:
        raise fault("is_independent", f"{sorted(sets[0] & sets[1])} on both sides", "two sets that do not overlap")
    return bool(nx.is_d_separator(dag, sets[0] - sets[2], sets[1] - sets[2], sets[2]))


def entangled(dag: nx.DiGraph, time: int = 1) -> list[set[str]]:
    """Group the state variables of one time that a backward message cannot keep apart.

    They entangle when what is to come ties them: the connected components of the graph over s_t and all later nodes
    that lead to an optimality node. Groups that stay apart have messages of their own.

    Raises:
        WorldError: the graph has no states at that time.
    """
    states = {n for n, data in dag.nodes(data=True) if data["kind"] == "state" and data["time"] == time}
    if not states:
        raise fault("entangled, time", f"{time}", f"a time from 0 to {dag.graph['slices']}")
    goals = [n for n, data in dag.nodes(data=True) if data["kind"] == "optimality" and data["time"] >= time]
    matters = set(goals).union(*(nx.ancestors(dag, goal) for goal in goals))
    later = {n for n in matters if dag.nodes[n]["time"] >= time} - states
    ties = nx.Graph()
    ties.add_nodes_from(states)
    ties.add_edges_from(
        (parent, node) for node in later for parent in dag.predecessors(node) if parent in later | states
    )
    groups = [component & states for component in nx.connected_components(ties)]
    return sorted((group for group in groups if group), key=sorted)


class _PointMass(dist.Delta):
    """A Delta under a name that Pyro's inspection does not leave out."""


class _Shown(Messenger):
    """Keeps a deterministic next state of real numbers a node: Pyro's ``get_dependencies`` elides every ``Delta``."""

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if type(fn) is dist.Delta and not msg["infer"].get("_deterministic"):
            msg["fn"] = _PointMass(fn.v, fn.log_density, fn.event_dim)  # type: ignore[no-untyped-call]


def _kinds(world: World) -> dict[str, str]:
    with pyro.poutine.block(), Stamp("initial", 0) as start:
        state = world.initial()
    with pyro.poutine.block(), Stamp("act", 0) as act:
        action = world.act(state, 0)
    kinds = dict.fromkeys(variables(state, start.values, "initial"), "state")
    kinds |= dict.fromkeys(variables(action, act.values, "act"), "action")
    kinds["O"] = "optimality"
    if discount_of(world) < 1:
        kinds["alive"] = "survival"
    return kinds
