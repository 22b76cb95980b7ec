"""cai check and cai list: what is wrong with a world, and which worlds there are."""

import re

import typer

import cai
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.options import read_world
from cai.support.catalogue import folder, names


@app.command()
@with_exit_code
def check(world: opt.World, settings: opt.Settings = None, as_json: opt.Json = False) -> None:
    """Say in words what is wrong with a world; exit code 1 if anything is."""
    instance = read_world(world, settings, None, None)
    findings = cai.check(instance)
    if as_json:
        print_json([vars(finding) for finding in findings])
    elif findings:
        for finding in findings:
            print(f"- {finding}")
        print(f"{len(findings)} finding{'s' if len(findings) > 1 else ''} in {world}")
    else:
        print(f"{world} conforms")
    if findings:
        raise typer.Exit(1)


@app.command("list")
@with_exit_code
def list_worlds() -> None:
    """List the worlds of the catalogue."""
    for name in names():
        first = re.match(r'"""(.*?)(?:\n|""")', (folder() / f"{name}.py").read_text(encoding="utf-8"))
        print(f"{name:15} {first.group(1) if first else ''}")
