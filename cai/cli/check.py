"""cai check: the faults of a world."""

import typer

import cai
from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.cli.given_options import read_world
from cai.support.progress import working


@app.command()
@with_exit_code
def check(world: opt.World, settings: opt.Settings = None, as_json: opt.Json = False) -> None:
    """Check a world and list every fault in words; the exit code is 1 if there is one."""
    instance = read_world(world, settings, None, None)
    with working(f"checking {world}"):
        findings = cai.check(instance)
    if as_json:
        print_json([vars(finding) for finding in findings])
    elif findings:
        for finding in findings:
            print(f"- {finding}")
        print(f"{len(findings)} finding{'s' if len(findings) > 1 else ''} in {world}")
    else:
        print(f"{world}: no faults found")
    if findings:
        raise typer.Exit(1)
