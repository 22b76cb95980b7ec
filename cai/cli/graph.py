"""cai graph: the graphical model that a world's program is."""

from pathlib import Path
from typing import Annotated

import typer

import cai
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import read_picture, read_sites, read_world, title_of
from cai.cli.output import write_report

Slices = Annotated[int | None, typer.Option(min=1, help="How many slices to write out; 2 unless given.")]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain", help="Explain what follows from the graph: which variables matter, what the policy needs."
    ),
]
Picture = Annotated[
    Path | None, typer.Option("--out", help="A .svg, .png or .pdf file; with --explain a folder for a report.")
]
Entanglement = Annotated[
    Path | None,
    typer.Option(help="A .svg, .png or .pdf file: the variables that the backward message couples, step by step."),
]


@app.command()
@with_exit_code
def graph(
    world: opt.World,
    slices: Slices = None,
    settings: opt.Settings = None,
    observe: opt.Observe = None,
    do: opt.Do = None,
    explain: Explain = False,
    as_json: opt.Json = False,
    out: Picture = None,
    entanglement: Entanglement = None,
) -> None:
    """Show the graphical model of the world's program: its nodes, its edges, and the entangled variables."""
    reported = explain and out is not None and not out.suffix
    for option, path in (("--out", None if reported else out), ("--entanglement", entanglement)):
        read_picture(option, path)
    instance = read_world(world, settings, None, None)
    dag = cai.graph(instance, slices, observe=read_sites("--observe", observe), do=read_sites("--do", do))
    explanation = cai.graphs.explain(instance, dag) if explain else None
    from cai.view import explanation_text as view

    picture = None if reported else out
    pictures = view.draw(instance, dag, entanglement=entanglement, out=picture) if entanglement or picture else []
    if as_json:
        print_json(view.plain(dag, explanation))
    else:
        written = dag.graph["slices"]
        view.print_graph(f"{world}, {written} slice{'s' if written > 1 else ''}", dag, explanation)
    for file in pictures:
        print(f"picture: {file}")
    if reported and out is not None:
        write_report(world, title_of(world, settings), dag, explanation, out)
