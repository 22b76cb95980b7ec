"""The trajectory program as a directed acyclic graph, by Pyro's provenance tracking."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.inspect import TrackProvenance, is_sample_site
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger

from cai.errors import fault, user_code
from cai.support.display import in_notebook
from cai.support.process import alone
from cai.support.wording import meant
from cai.world.conditions import Conditions, Given, read_conditions
from cai.world.definition import World
from cai.world.program import unrolled
from cai.world.spec import Spec, read


class ModelGraph(nx.DiGraph):  # type: ignore[misc] # networkx is not typed
    """A graph of networkx like any other, which a notebook shows as a drawing."""

    _repr_html_ = in_notebook


def graph(
    world: World | Spec, slices: int | None = None, *, observe: Given | None = None, do: Given | None = None
) -> nx.DiGraph:
    """Return the graph of the first slices of the trajectory program, found by Pyro's provenance tracking.

    Nodes are sites (``cell_0, move_0, slip_0, O_0, cell_1 …``) with the attributes ``kind`` (state, action, latent,
    optimality, survival), ``time``, ``variable``, ``observed`` and ``plates``; an edge goes from a parent to a child
    whose distribution or reward depends on it.

    Args:
        world: the world; its horizon is cut to ``slices``.
        slices: how many slices to write out, 2 unless given (1 where T is 1); the state after the last one is in the
            graph too.
        observe: evidence by site, ``{"floor_1": 3}``: those nodes are observed.
        do: interventions by site: those nodes have the attribute ``forced``, and their edges from above are cut.

    Raises:
        WorldError: ``slices`` is not a positive number within the horizon, a variable is not a site, or a condition
            names no node of this graph.
    """
    if not isinstance(world, World | Spec) or isinstance(world, type):
        raise fault("graph", f"a {type(world).__name__}", "a world, with initial, act and step")
    spec = read(world)
    slices = min(2, spec.horizon or 2) if slices is None else slices
    if not isinstance(slices, int) or slices < 1 or (spec.horizon is not None and slices > spec.horizon):
        raise fault("graph, slices", f"{slices!r}", f"a whole number from 1 to {spec.horizon or 'any'}")
    program = unrolled(_cut(spec, slices))
    with (
        user_code("the trajectory program", "slices that run (cai.check says more)"),
        alone(),
        torch.random.fork_rng(devices=[]),
        pyro.validation_enabled(False),
        _VisibleDelta(),
    ):
        sites, parents = read_by_sites(program)
    kinds = _kinds(spec)
    dag = ModelGraph(name=spec.name, slices=slices)
    for name in parents:
        dag.add_node(name, **_attributes(name, sites[name], kinds))
    for child, above in parents.items():
        dag.add_edges_from((parent, child) for parent in above)
    _condition(dag, read_conditions(observe, do))
    return dag


def read_by_sites(program: Callable[[], object]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the random sites of a program, and for each those before it that its log-probability reads.

    These are the prior dependencies of ``pyro.infer.inspect.get_dependencies``, which takes the square of the number of
    sites for them, and finds those of the posterior besides.
    """
    with torch.no_grad(), TrackProvenance():
        nodes = pyro.poutine.trace(program).get_trace().nodes
    sites: dict[str, Any] = {name: site for name, site in nodes.items() if is_sample_site(site)}
    parents: dict[str, list[str]] = {}
    before: list[str] = []
    for name, site in sites.items():
        read = get_provenance(site["fn"].log_prob(site["value"])) if before else frozenset()
        parents[name] = [one for one in before if one in read]
        if not site["is_observed"] and detach_provenance(site["value"]).numel():
            before.append(name)
    return sites, parents


def _cut(spec: Spec, slices: int) -> Spec:
    """Return a world of fewer slices; the terminal reward belongs to its own last time."""
    return replace(spec, horizon=slices, terminal=spec.terminal if slices == spec.horizon else None)


def _attributes(name: str, site: Any, kinds: dict[str, str]) -> dict[str, Any]:
    """Return what a node says of its site."""
    variable, time = re.fullmatch(r"(.*)_(\d+)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    plates = tuple(frame.name for frame in site["cond_indep_stack"])
    kind, observed = kinds.get(variable, "latent"), bool(site["is_observed"])
    return {"kind": kind, "time": int(time), "variable": variable, "observed": observed, "plates": plates}


def _condition(dag: nx.DiGraph, conditions: Conditions) -> None:
    for what, part in (("observe", conditions.seen), ("do", conditions.forced)):
        for name, t in part:
            node = f"{name}_{t}"
            if node not in dag:
                raise fault(f"graph, {what}", f"no node '{node}'", f"one of {', '.join(sorted(dag))}{meant(node, dag)}")
            if what == "observe":
                dag.nodes[node]["observed"] = True
            else:
                dag.nodes[node]["forced"] = True
                dag.remove_edges_from(list(dag.in_edges(node)))


class _PointMass(dist.Delta):
    """A Delta under a name that Pyro's inspection does not leave out."""


class _VisibleDelta(Messenger):
    """Keeps a deterministic next state of real numbers a node: Pyro's ``get_dependencies`` elides every ``Delta``."""

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if type(fn) is dist.Delta and not msg["infer"].get("_deterministic"):
            msg["fn"] = _PointMass(fn.v, fn.log_density, fn.event_dim)  # type: ignore[no-untyped-call]


def _kinds(spec: Spec) -> dict[str, str]:
    kinds = dict.fromkeys((variable.name for variable in spec.variables.states), "state")
    kinds |= dict.fromkeys((variable.name for variable in spec.variables.actions), "action")
    kinds["O"] = "optimality"
    if spec.discount < 1:
        kinds["alive"] = "survival"
    return kinds
