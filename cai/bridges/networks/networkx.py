"""Dynamic Bayesian networks in and out: a two-slice networkx graph becomes a world, and a world such a graph."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import networkx as nx
import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

from cai.bridges.networks.node_tables import Node, evaluate
from cai.bridges.networks.nodes import read_network
from cai.compile.factor_model import Factor, Factors, primed
from cai.compile.factorise import factorise
from cai.errors import fault
from cai.support.numerics import log
from cai.world.definition import Point, World
from cai.world.spaces import Values
from cai.world.spec import read


class NetworkWorld:
    """A two-slice network as a world: every node a sample site, drawn after its parents; the reward a sum of nodes.

    Attributes:
        labels: what the values of a variable are called, where the graph says so.
    """

    stationary = True  # one slice stands for all times

    def __init__(self, name: str, nodes: Sequence[Node], horizon: int | None, discount: float) -> None:
        self.name, self.horizon, self.discount = name, horizon, discount
        self._start = [node for node in nodes if node.kind == "state" and node.time == 0]
        self._actions = [node for node in nodes if node.kind == "action"]
        self._slice = [node for node in nodes if node.kind == "latent" or (node.kind == "state" and node.time == 1)]
        self._following = {node.variable: node.key for node in self._slice if node.kind == "state"}
        self._rewards = [node for node in nodes if node.kind == "reward" and not node.terminal]
        self._last = [node for node in nodes if node.terminal and node.kind == "reward"]
        self._points = {node.key: point for node in self._slice if (point := _point(node)) is not None}
        self.labels = {node.variable: node.values for node in nodes if node.values is not None}
        self.terminal = self._terminal if self._last else None

    def initial(self) -> Values:
        """Sample the states of time 0."""
        values: dict[Hashable, Tensor] = {}
        for node in self._start:
            values[node.key] = self._sample(node, values)
        return _packed(self._start, values)

    def act(self, state: Any, t: int) -> Values:
        """Sample the actions from their tables, evenly where they have none."""
        values = _read(self._start, state)
        for node in self._actions:
            values[node.key] = self._sample(node, values)
        return _packed(self._actions, values)

    def step(self, state: Any, action: Any, t: int) -> tuple[Values, Tensor]:
        """Sample latents and next states, parents first; add up what the reward nodes pay."""
        values = {**_read(self._start, state), **_read(self._actions, action)}
        for node in self._slice:
            values[node.key] = self._sample(node, values)
        following = {node.variable: values[self._following[node.variable]] for node in self._start}
        state_next = following if len(following) > 1 else next(iter(following.values()))
        return state_next, _sum(evaluate(node, _of(node, values)) for node in self._rewards)

    def _terminal(self, state: Any) -> Tensor:
        values = _read(self._start, state)
        values |= {self._following[node.variable]: values[node.key] for node in self._start}
        return _sum(evaluate(node, _of(node, values)) for node in self._last)

    def _sample(self, node: Node, values: Mapping[Hashable, Tensor]) -> Tensor:
        parents = _of(node, values)
        if node.key in self._points:
            points = self._points[node.key]
            fn: Any = Point(points[tuple(parents)] if parents else points, node.size)
        elif node.content is None:
            fn = Categorical(logits=torch.zeros(node.size))
        else:  # as logarithms: torch's Categorical takes a probability of 0 for one of 2e-16
            fn = Categorical(logits=log(evaluate(node, parents)))
        value: Tensor = pyro.sample(node.variable, fn)
        return value


def from_networkx(graph: Any, *, horizon: int | None, discount: float = 1.0) -> World:
    """Import a two-slice dynamic Bayesian network as a world.

    Nodes are called as ``cai.graph`` calls them: ``cell_0`` a state, ``move_0`` an action, ``slip_0`` a latent,
    ``cell_1`` the next state, ``O_0`` a reward; an edge goes from a variable to one that depends on it. The attributes
    of a node:

    - ``kind``: state, action, latent or reward (also optimality). It may be left out for a state, which is a variable
      with nodes at both times, and for a reward called ``O``. ``variable`` and ``time`` override the node's name.
    - ``cardinality``, or ``states``: the number of values, or their names; the table's own number unless given.
    - ``table``: probabilities (of a reward: rewards), an axis for each of ``parents`` (the graph's order unless given),
      the own value last; or ``conditional``, a function of the parents' values, as tensors that broadcast, which
      returns them; or ``form``, such as ``cai.graphs.NoisyOr`` or ``cai.graphs.Logistic``. Rows sum to 1 within 1e-6.
    - ``terminal = True``: a reward on the last state, whose parents are states of one time.

    The table of an action is its prior, uniform unless given. The tables of states at time 0 are the start
    distribution. The reward is the sum of the reward nodes, and 0 without any.

    Args:
        graph: a ``networkx.DiGraph``.
        horizon: T, or None for the infinite horizon with a discount below 1.
        discount: the probability γ of surviving a step.

    Raises:
        WorldError: the graph is not such a network; all faults are listed at once.
    """
    nodes = read_network(graph)
    world = NetworkWorld(str(graph.graph.get("name") or "network"), nodes, horizon, discount)
    read(world)
    return world


def to_networkx(world: World | Factors) -> nx.DiGraph:
    """Export a world's slice as a two-slice network with its tables on the nodes, the inverse of ``from_networkx``.

    The graph is that of ``cai.factorise``: there is an edge where a table changes with a parent. If the reward is a sum
    of several terms, they are the nodes ``O.1_0``, ``O.2_0`` …. The graph's attributes hold horizon and discount.

    Args:
        world: a world, or what ``cai.factorise`` made of it.

    Raises:
        WorldError: the slices differ over time, or the world is not valid.
        IntractableError: a variable is not finite, or one term reads too many variables.
    """
    factors = factorise(world)
    if factors.timed:
        raise fault(
            "to_networkx", "slices that differ over time", "a stationary world: the graph shows one slice for all times"
        )
    name = "Factors" if isinstance(world, Factors) else read(world).name
    dag = nx.DiGraph(name=str(name), slices=1, horizon=factors.horizon, discount=factors.discount)
    named = _named(world, factors)
    slice_, states = factors.slices[0], factors.states.names
    keys = {variable: f"{variable}_0" for variable in factors.sizes}
    keys |= {primed(variable): f"{variable}_1" for variable in states}
    for variable, factor in factors.initial.items():
        _add(dag, keys, variable, variable, "state", 0, factor, named)
    for variable, factor in slice_.prior.items():
        _add(dag, keys, variable, variable, "action", 0, factor, named)
    following = {primed(variable): variable for variable in states}
    for variable, factor in slice_.chance.items():
        plain = following.get(variable)
        kind, time = ("latent", 0) if plain is None else ("state", 1)
        _add(dag, keys, variable, plain or variable, kind, time, factor, named)
    _add_rewards(dag, keys, slice_.reward, 0)
    last = {**keys, **{variable: f"{variable}_1" for variable in states}}
    _add_rewards(dag, last, factors.terminal, 1, terminal=True)
    return dag


def _named(world: World | Factors, factors: Factors) -> dict[str, list[str]]:
    """Return what the values of each variable are called, its number where only others have a name."""
    names = {} if isinstance(world, Factors) else dict(read(world).labels or {})
    for space in (factors.states, factors.actions):
        names |= {name: own for name, own in zip(space.names, space.labels, strict=False) if own is not None}
    return {name: [str(n) if label is None else label for n, label in enumerate(own)] for name, own in names.items()}


def _add(
    dag: nx.DiGraph,
    keys: Mapping[str, str],
    own: str,
    variable: str,
    kind: str,
    time: int,
    factor: Factor,
    named: Mapping[str, Sequence[str]],
) -> None:
    parents = [keys[name] for name in factor.scope[:-1]]
    values = {"states": list(named[variable])} if variable in named else {"cardinality": factor.table.shape[-1]}
    attributes = {"variable": variable, "time": time, "observed": False, "plates": ()}  # what cai.graph says of a node
    dag.add_node(keys[own], kind=kind, table=factor.table.exp(), parents=parents, **values, **attributes)
    dag.add_edges_from((parent, keys[own]) for parent in parents)


def _add_rewards(
    dag: nx.DiGraph, keys: Mapping[str, str], pieces: Sequence[Factor], time: int, terminal: bool = False
) -> None:
    for i, piece in enumerate(pieces):
        variable = "O" if len(pieces) == 1 else f"O.{i + 1}"
        parents = [keys[name] for name in piece.scope]
        attributes = {"variable": variable, "time": time, "observed": True, "plates": ()}
        key = f"{variable}_{time}"
        dag.add_node(key, kind="optimality", table=piece.table, parents=parents, terminal=terminal, **attributes)
        dag.add_edges_from((parent, key) for parent in parents)


def _point(node: Node) -> Tensor | None:
    """Return the one value of a next state that is certain given its parents, which takes no outcomes in a table."""
    content = node.content
    if node.kind != "state" or not isinstance(content, Tensor) or content.requires_grad:
        return None
    return content.argmax(-1) if bool(((content == 0) | (content == 1)).all()) else None


def _of(node: Node, values: Mapping[Hashable, Tensor]) -> list[Tensor]:
    return [values[parent] for parent in node.parents]


def _read(nodes: Sequence[Node], values: Any) -> dict[Hashable, Tensor]:
    """Name the values of a state or an action by their nodes."""
    return {node.key: values[node.variable] if isinstance(values, dict) else values for node in nodes}


def _packed(nodes: Sequence[Node], values: Mapping[Hashable, Tensor]) -> Values:
    named = {node.variable: values[node.key] for node in nodes}
    return named if len(named) > 1 else next(iter(named.values()))


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """Add tensors one by one, so that a compiler may keep the pieces apart."""
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else total + part
    return torch.zeros(()) if total is None else total
