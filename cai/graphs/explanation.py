"""What follows from a world's graph: what matters, why the policy reads the state only, and what entangles."""

from dataclasses import dataclass
from typing import Any

import networkx as nx

from cai.errors import CaiError
from cai.graphs.elimination_steps import Step, elimination_trace
from cai.graphs.independence import entangled, relevant, why_markov
from cai.world.definition import World
from cai.world.dependencies import graph
from cai.world.spec import read

LONG = 12
"""Slices that are looked at, at most, for what matters."""


@dataclass(frozen=True)
class Explanation:
    """The conclusions that follow from a world's graph.

    Attributes:
        slices: the number of slices that ``relevant`` was computed on.
        terminal_reward_unseen: whether there is a terminal reward after these slices.
        relevant, irrelevant: the state variables at t = 0 on which q depends, and the others.
        why_markov: why the policy depends on the state only; None for a single slice, which has no past.
        entangled: the groups of state variables that the backward message couples.
        elimination: the steps of one backup; None where the world cannot be factorised.
        because: why it cannot be factorised; empty if it can.
    """

    slices: int
    terminal_reward_unseen: bool
    relevant: list[str]
    irrelevant: list[str]
    why_markov: str | None
    entangled: list[list[str]]
    elimination: tuple[Step, ...] | None
    because: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as dicts, lists and numbers."""
        names = ("slices", "terminal_reward_unseen", "relevant", "irrelevant", "why_markov", "entangled")
        head = {name: getattr(self, name) for name in names}
        if self.elimination is None:
            return {**head, "elimination": None, "because": self.because}
        fields = ("applied", "summed", "scope", "size", "shared")
        rows = [{field: getattr(step, field) for field in fields} for step in self.elimination]
        return {**head, "elimination": rows, "largest": max(step.size for step in self.elimination)}


def explain(world: World, dag: nx.DiGraph) -> Explanation:
    """Return the conclusions that follow from the graph, and the steps of a backup if the world can be factorised.

    Args:
        world: the world.
        dag: the world's graph, from ``cai.graph``.

    Raises:
        WorldError: the world is not valid.
    """
    states = [node for node, data in dag.nodes(data=True) if data["kind"] == "state" and data["time"] == 0]
    spec, slices = read(world), dag.graph["slices"]
    # What matters may do so late: a slice more than there are state variables shows it.
    long = max(slices, min(spec.horizon or LONG, len(states) + 1, LONG))
    matters = relevant(dag if long == slices else graph(world, long))
    elimination: tuple[Step, ...] | None
    try:
        elimination, because = tuple(elimination_trace(world)), ""
    except CaiError as error:
        elimination, because = None, str(error).splitlines()[0]
    return Explanation(
        slices=long,
        terminal_reward_unseen=spec.terminal is not None and long != spec.horizon,
        relevant=[node for node in states if node in matters],
        irrelevant=[node for node in states if node not in matters],
        why_markov=why_markov(dag) if slices > 1 else None,
        entangled=[sorted(group) for group in entangled(dag, 1)],
        elimination=elimination,
        because=because,
    )
