"""cai graph: the graphical model that a world's program is."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai.cli.app import app, told
from cai.cli.options import Json, Settings, World, read_world
from cai.errors import fault

if TYPE_CHECKING:
    import networkx as nx


@app.command()
@told
def graph(
    world: World,
    slices: Annotated[int, typer.Option(help="How many slices to write out.")] = 2,
    settings: Settings = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option("--out", help="A .png or .svg file.")] = None,
) -> None:
    """Show the graphical model that the world's program is: its nodes, its edges, and what entangles."""
    if out is not None and out.suffix not in {".png", ".svg"}:
        raise fault("--out", f"'{out}'", "a file that ends in .png or .svg")
    made = read_world(world, settings, None, None)
    from cai.graphs import graph as read_graph

    dag = read_graph(made, slices)
    if as_json:
        import networkx as nx

        print(json.dumps(nx.node_link_data(dag, edges="edges"), indent=2))
    else:
        _print_nodes(f"{world}, {slices} slices", dag)
    if out is not None:
        from cai.view.graph import draw_graph

        print(f"picture: {draw_graph(dag, out)}", file=sys.stderr if as_json else sys.stdout)


def _print_nodes(title: str, dag: "nx.DiGraph") -> None:
    from cai.graphs import entangled
    from cai.view.terminal import print_table

    rows = [
        (node, data["kind"], data["time"], "yes" if data["observed"] else "no", ", ".join(dag.predecessors(node)))
        for node, data in dag.nodes(data=True)
    ]
    print_table(title, ("node", "kind", "t", "observed", "parents"), rows)
    groups = entangled(dag, 1)
    if sum(len(group) for group in groups) > 1:
        print("entangled state variables: " + "; ".join(", ".join(sorted(group)) for group in groups))
