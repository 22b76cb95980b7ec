"""A world's graph in words and as a picture: its nodes, and what follows from them."""

import textwrap
from pathlib import Path
from typing import Any

import networkx as nx

from cai.graphs.explanation import Explanation
from cai.graphs.independence import entangled
from cai.support.wording import listed
from cai.view.terminal import print_table
from cai.world.definition import World


def draw(world: World, dag: nx.DiGraph, *, entanglement: Path | None, out: Path | None) -> list[Path]:
    """Draw what the backward message ties, and the graph, where a file is given; return the files."""
    from cai.view.entanglement import draw_entanglement  # matplotlib is slow to import, and words need no picture
    from cai.view.graph_figure import draw_graph

    files = [] if entanglement is None else [draw_entanglement(world, entanglement)]
    return files if out is None else [*files, draw_graph(dag, out)]


def plain(dag: nx.DiGraph, explanation: Explanation | None = None) -> dict[str, Any]:
    """Return the graph as plain data, networkx's own, and what follows from it."""
    extra = {} if explanation is None else {"explanation": explanation.plain()}
    return {**nx.node_link_data(dag, edges="edges"), **extra}


def print_graph(title: str, dag: nx.DiGraph, explanation: Explanation | None = None) -> None:
    """Print the nodes and the entangled variables; or all conclusions, if an explanation is given."""
    rows = [
        (node, data["kind"], data["time"], _known(data), ", ".join(dag.predecessors(node)))
        for node, data in dag.nodes(data=True)
    ]
    print_table(title, ("node", "kind", "t", "observed", "parents"), rows)
    if explanation is not None:
        _print_explanation(explanation)
        return
    groups = entangled(dag, 1)
    if sum(len(group) for group in groups) > 1:
        print("entangled state variables: " + "; ".join(", ".join(sorted(group)) for group in groups))


def _known(data: dict[str, Any]) -> str:
    return "forced" if data.get("forced") else "yes" if data["observed"] else "no"


def _print_explanation(explanation: Explanation) -> None:
    slices = f"{explanation.slices} slice{'s' if explanation.slices > 1 else ''}"
    within = f"given the action and the rest of the state, within {slices}"
    within += ", without the terminal reward" if explanation.terminal_reward_unseen else ""
    because = explanation.because
    _print_lines(
        {
            f"state variables that matter ({within})": listed(explanation.relevant) or "no state variable",
            "state variables that do not matter": listed(explanation.irrelevant),
            "why the policy depends on the state only": explanation.why_markov
            or "one slice has no past; try --slices 2",
            "entangled state variables": "; ".join(listed(group) for group in explanation.entangled),
            "elimination": f"none, because the world cannot be factorised ({because})" if because else "",
        }
    )
    if explanation.elimination is None:
        return
    rows = [
        (step.applied, ", ".join(step.summed) or "-", listed(step.scope) or "-", f"{step.size:,}")
        for step in explanation.elimination
    ]
    title = f"{len(rows)} steps, largest message {max(step.size for step in explanation.elimination):,} numbers"
    print_table(title, ("multiply by", "sum out", "message over", "numbers"), rows)


def _print_lines(lines: dict[str, str]) -> None:
    for what, text in lines.items():
        if text:
            print(textwrap.fill(f"{what}: {text}", 100, subsequent_indent="    ", break_long_words=False))
