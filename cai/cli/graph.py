"""cai graph: the graphical model that a world's program is."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.options import read_sites, read_world
from cai.errors import CaiError, fault

if TYPE_CHECKING:
    import networkx as nx

LONG = 12
"""Slices that are looked at, at most, for what matters."""


@app.command()
@with_exit_code
def graph(
    world: opt.World,
    slices: Annotated[int, typer.Option(help="How many slices to write out.")] = 2,
    settings: opt.Settings = None,
    observe: opt.Observe = None,
    do: opt.Do = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what follows from the graph: what matters, what the policy needs.")
    ] = False,
    as_json: opt.Json = False,
    out: Annotated[Path | None, typer.Option("--out", help="A .png or .svg file.")] = None,
    entanglement: Annotated[
        Path | None, typer.Option(help="A .png or .svg file: what the backward message ties, step by step.")
    ] = None,
) -> None:
    """Show the graphical model that the world's program is: its nodes, its edges, and what entangles."""
    for option, path in (("--out", out), ("--entanglement", entanglement)):
        if path is not None and path.suffix not in {".png", ".svg"}:
            raise fault(option, f"'{path}'", "a file that ends in .png or .svg")
    made = read_world(world, settings, None, None)
    from cai.world.dependencies import graph as read_graph

    dag = read_graph(made, slices, observe=read_sites("--observe", observe), do=read_sites("--do", do))
    told_of = _explanation(made, dag) if explain else None
    pictures = []
    if entanglement is not None:
        from cai.view.entanglement import draw_entanglement

        pictures.append(draw_entanglement(made, entanglement))
    if out is not None:
        from cai.view.graph import draw_graph

        pictures.append(draw_graph(dag, out))
    if as_json:
        import networkx as nx

        extra = {} if told_of is None else {"explanation": told_of}
        print_json({**nx.node_link_data(dag, edges="edges"), **extra})
    else:
        _print_nodes(f"{world}, {slices} slice{'s' if slices > 1 else ''}", dag)
        if told_of is None:
            _print_groups(dag)
        else:
            _print_explanation(told_of)
    for picture in pictures:
        print(f"picture: {picture}")


def _print_nodes(title: str, dag: "nx.DiGraph") -> None:
    from cai.view.terminal import print_table

    rows = [
        (node, data["kind"], data["time"], _known(data), ", ".join(dag.predecessors(node)))
        for node, data in dag.nodes(data=True)
    ]
    print_table(title, ("node", "kind", "t", "observed", "parents"), rows)


def _known(data: dict[str, Any]) -> str:
    return "forced" if data.get("forced") else "yes" if data["observed"] else "no"


def _print_groups(dag: "nx.DiGraph") -> None:
    from cai.graphs import entangled

    groups = entangled(dag, 1)
    if sum(len(group) for group in groups) > 1:
        print("entangled state variables: " + "; ".join(", ".join(sorted(group)) for group in groups))


def _explanation(made: Any, dag: "nx.DiGraph") -> dict[str, Any]:
    """Collect what follows from the graph, and the elimination where the world can be factorised."""
    from cai.graphs import entangled, relevant, why_markov
    from cai.graphs.elimination_steps import elimination_trace
    from cai.world.dependencies import graph as read_graph
    from cai.world.spec import read

    states = [node for node, data in dag.nodes(data=True) if data["kind"] == "state" and data["time"] == 0]
    # What matters may do so late: a slice more than there are state variables shows it.
    spec = read(made)
    long = max(dag.graph["slices"], min(spec.horizon or LONG, len(states) + 1, LONG))
    unseen = spec.terminal is not None and long != spec.horizon
    matters = relevant(dag if long == dag.graph["slices"] else read_graph(made, long))
    told_of: dict[str, Any] = {
        "slices": long,
        "terminal_reward_unseen": unseen,
        "relevant": [node for node in states if node in matters],
        "irrelevant": [node for node in states if node not in matters],
        "why_markov": why_markov(dag) if dag.graph["slices"] > 1 else None,
        "entangled": [sorted(group) for group in entangled(dag, 1)],
    }
    try:
        steps = elimination_trace(made)
    except CaiError as error:
        return told_of | {"elimination": None, "because": str(error).splitlines()[0]}
    rows = [
        {"applied": step.applied, "summed": step.summed, "scope": step.scope, "size": step.size, "shared": step.shared}
        for step in steps
    ]
    return told_of | {"elimination": rows, "largest": max(step.size for step in steps)}


def _print_explanation(told_of: dict[str, Any]) -> None:
    from cai.support.wording import listed
    from cai.view.terminal import print_table

    n = told_of["slices"]
    within = f"given the action and the rest of the state, within {n} slice{'s' if n > 1 else ''}"
    within += ", the terminal reward left aside" if told_of["terminal_reward_unseen"] else ""
    why = told_of["why_markov"] or "one slice has no past to ask about; try --slices 2"
    said = {
        f"what matters ({within})": listed(told_of["relevant"]) or "no state variable",
        "what does not matter": listed(told_of["irrelevant"]),
        "why the policy reads the state only": why,
        "entangled state variables": "; ".join(listed(group) for group in told_of["entangled"]),
    }
    for what, text in said.items():
        if text:
            print(textwrap.fill(f"{what}: {text}", 100, subsequent_indent="    ", break_long_words=False))
    if told_of["elimination"] is None:
        because = f"elimination: none, for the world cannot be factorised ({told_of['because']})"
        print(textwrap.fill(because, 100, subsequent_indent="    ", break_long_words=False))
        return
    rows = [
        (row["applied"], ", ".join(row["summed"]) or "-", listed(row["scope"]) or "-", f"{row['size']:,}")
        for row in told_of["elimination"]
    ]
    print_table(
        f"{len(rows)} steps, largest message {told_of['largest']:,} numbers",
        ("multiply on", "sum out", "message over", "numbers"),
        rows,
    )
