"""cai list: which worlds there are."""

import textwrap

from cai.cli import options as opt
from cai.cli.app import app, print_json, with_exit_code
from cai.support.catalogue import folder, outlines


@app.command("list")
@with_exit_code
def list_worlds(as_json: opt.Json = False) -> None:
    """List the worlds of the catalogue: what each is, how large, and its options."""
    known = outlines()
    if as_json:
        print_json([{"name": name, "file": str(folder() / f"{name}.py"), **one.plain()} for name, one in known.items()])
        return
    for name, one in known.items():
        options = ", ".join(argument.name for argument in one.arguments)
        partial = "; seen in part" if "observe" in one.methods else ""
        print(f"{name:15} {one.summary}")
        print(textwrap.indent(f"{one.size}{partial}; options {options}", " " * 16))
    print("\nMore of one: cai show NAME. A copy to be changed: cai new my_world.py --from NAME.")
    print("Gymnasium ids whose environment has a table P are worlds, too: cai solve FrozenLake-v1.")
