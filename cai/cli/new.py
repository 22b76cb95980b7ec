"""cai new: a world that works, to be changed into one's own."""

import keyword
import sys
from pathlib import Path
from typing import Annotated

import typer

from cai.cli.app import app, with_exit_code
from cai.errors import fault

TEMPLATE = Path(__file__).with_name("my_world.py.txt")
"""A world of the names ``my_world.py`` and ``MyWorld``, which the command replaces."""
TAKEN = {"cai", "pyro", "torch", *sys.stdlib_module_names}
"""What the template imports, and what that imports: a file of such a name may be found in place of the library."""


@app.command()
@with_exit_code
def new(file: Annotated[Path, typer.Argument(help="The file to write: my_world.py gets a class MyWorld.")]) -> None:
    """Write a world that works into a new file: a commented template to be changed into your own."""
    name = class_name(file)
    if not file.parent.is_dir():
        raise fault("new", f"no folder '{file.parent}'", "one that exists")
    if file.exists() or file.is_symlink():
        raise fault("new", f"'{file}' exists", "a name that is free: nothing is overwritten")
    from cai.support.files import write_whole

    text = TEMPLATE.read_text(encoding="utf-8").replace("my_world.py", file.name).replace("MyWorld", name)
    write_whole(file.parent, {file.name: text.encode()})
    print(f"{file}: class {name}, ready to run and to be changed\nnext: cai check {file}")


def class_name(file: Path) -> str:
    """Return the name of the world's class, ``MyWorld`` for ``my_world.py``, by which the file alone finds it.

    Raises:
        WorldError: the file's name is none of a Python module, or one that the template needs itself.
    """
    if file.suffix != ".py":
        raise fault("new", f"'{file}'", "a file that ends in .py, such as my_world.py")
    name = "".join(part.capitalize() for part in file.stem.split("_"))
    if not all(word.isidentifier() and not keyword.iskeyword(word) for word in (file.stem, name)):
        raise fault("new", f"'{file.name}'", "letters, digits and _ that make a Python name, such as my_world.py")
    if file.stem in TAKEN:
        raise fault("new", f"'{file.name}', which would hide the library of this name", "another name")
    return name
