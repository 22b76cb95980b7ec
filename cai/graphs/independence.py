"""What a world's graph says of independence: d-separation, what entangles, what matters, why policies are Markov."""

from collections.abc import Iterable, Iterator
from itertools import combinations

import networkx as nx

from cai.errors import fault
from cai.support.wording import listed


def is_independent(
    dag: nx.DiGraph, a: str | Iterable[str], b: str | Iterable[str], given: str | Iterable[str] = ()
) -> bool:
    """Return whether a and b are independent given some nodes in every distribution of this graph (d-separation).

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
    """Return the groups of state variables of one time that the backward message couples.

    Variables are entangled if a later optimality node depends on them together: the groups are the connected components
    of the graph over s_t and all later nodes that lead to an optimality node. Each group has its own message.

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


def relevant(dag: nx.DiGraph, time: int = 0, *, given_action: bool = True) -> set[str]:
    """Return the state variables of one time on which the rewards from then on depend.

    ``s_i`` is left out if ``s_i ⟂ O_t, O_t+1, … | a_t, the other state variables of time t`` holds in the graph, by
    d-separation. Then q(s_t, a_t) does not depend on it, and the policy depends on it only through the action prior.
    With ``given_action=False`` variables that act through the prior are included: v(s_t) depends on no others.

    The answer is for the slices in the graph. A variable that matters only k steps later needs k + 1 slices after
    ``time``, a terminal reward needs all of them. For equal slices, one more slice than there are state variables is
    enough.

    Args:
        dag: a graph that ``cai.graph`` returns.
        time: the time of the states.
        given_action: whether to condition on a_t.

    Returns:
        Names of nodes, such as ``{"floor_0"}``.

    Raises:
        WorldError: the graph has no states at that time.

    Source: d-separation, Pearl (1988), Probabilistic Reasoning in Intelligent Systems, section 3.3.
    """
    states = set(_at(dag, "state", time))
    if not states:
        raise fault("relevant, time", f"{time}", f"a time from 0 to {_last(dag)}")
    goals = _wished(dag, time)
    known = {*_at(dag, "survival", time), *(_at(dag, "action", time) if given_action else ())}
    return {state for state in states if not is_independent(dag, state, goals, given=(states - {state}) | known)}


def why_markov(dag: nx.DiGraph, time: int = 1) -> str:
    """Explain by d-separation why the policy depends on s_t only, and which variables of s_t this needs.

    The posterior policy draws a_t given that O_t and all later nodes are 1. The claim is tested on this graph: ``a_t ⟂
    every node before t | s_t, O_t, O_t+1, …`` (and alive at t, with a discount). Then it is tested given fewer
    variables of s_t: all but one, all but two, down to none. The first set with which it fails is returned.

    Args:
        dag: a graph of at least two slices, from ``cai.graph``.
        time: t, from 1 on.

    Raises:
        WorldError: the graph has no actions at that time, or no nodes before it.

    Source: Koller & Friedman (2009), Probabilistic Graphical Models, section 3.3.
    """
    actions, states = _at(dag, "action", time), _at(dag, "state", time)
    earlier = [node for node, data in dag.nodes(data=True) if data["time"] < time]
    if not actions or not earlier:
        last = max((data["time"] for _, data in dag.nodes(data=True) if data["kind"] == "action"), default=0)
        expected = f"a time from 1 to {last}" if last else "a graph of at least two slices"
        raise fault("why_markov, time", f"{time}", expected)
    goals, alive = _wished(dag, time), _at(dag, "survival", time)

    def telling(states: Iterable[str]) -> list[str]:
        """Return the earlier nodes that still tell about the action."""
        known = {*states, *alive, *goals}
        if is_independent(dag, actions, earlier, given=known):
            return []
        return [node for node in earlier if not is_independent(dag, actions, node, given=known)]

    drawn = f"{listed(actions)} (drawn from the posterior, that is, given {listed(goals)})"
    drawn = drawn if goals else listed(actions)
    by, left = listed([*states, *alive]), telling(states)
    are = "is" if len(actions) == 1 else "are"
    if left:
        return f"Given {by}, {drawn} {are} not d-separated from the earlier nodes: {listed(left)} may still matter."
    claim = f"Given {by}, {drawn} {are} d-separated from all earlier nodes: {listed(earlier)}."
    for fewer in _fewer(states):
        if left := telling(fewer):
            words = f"{listed(fewer)} alone" if fewer else f"nothing of {by}" if not alive else f"{listed(alive)} alone"
            return f"{claim} Given {words} this is not so: {listed(actions)} may then depend on {left[0]}."
    return f"{claim} No counterexample with fewer state variables was found."


def _fewer(states: list[str]) -> Iterator[list[str]]:
    for gone in range(1, min(2, len(states) - 1) + 1):
        for dropped in combinations(states, gone):
            yield [state for state in states if state not in dropped]
    yield []


def _at(dag: nx.DiGraph, kind: str, time: int) -> list[str]:
    return [node for node, data in dag.nodes(data=True) if data["kind"] == kind and data["time"] == time]


def _wished(dag: nx.DiGraph, time: int) -> list[str]:
    """Return the optimality nodes from a time on."""
    return [node for node, data in dag.nodes(data=True) if data["kind"] == "optimality" and data["time"] >= time]


def _last(dag: nx.DiGraph) -> int:
    """Return the last time at which there are states."""
    return max((data["time"] for _, data in dag.nodes(data=True) if data["kind"] == "state"), default=0)
