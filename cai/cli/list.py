"""cai list: which worlds there are."""

import textwrap

from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.support.catalogue import folder, outlines


@app.command("list")
@with_exit_code
def list_worlds(as_json: opt.Json = False) -> None:
    """List the worlds of the catalogue with their sizes and options."""
    known = outlines()
    if as_json:
        print_json([{"name": name, "file": str(folder() / f"{name}.py"), **one.plain()} for name, one in known.items()])
        return
    for name, one in known.items():
        options = ", ".join(argument.name for argument in one.arguments)
        partial = "; seen in part" if "observe" in one.methods else ""
        print(f"{name:15} {one.summary}")
        print(textwrap.indent(f"{one.size}{partial}; options {options}", " " * 16))
    print("\nDetails of a world: cai show NAME. A copy to change: cai new my_world.py --from NAME.")
    print("A Gymnasium id whose environment has a table P is a world, too: cai solve FrozenLake-v1.")
