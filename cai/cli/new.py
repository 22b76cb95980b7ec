"""cai new: a working world as a file to change."""

import keyword
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from cai.cli import complete
from cai.cli.app import app, with_exit_code
from cai.errors import fault
from cai.support.catalogue import folder, names, outlines
from cai.support.files import write_whole
from cai.support.outline import camel
from cai.support.wording import read_name

TEMPLATE = Path(__file__).with_name("my_world.py.txt")
"""A world of the names ``my_world.py`` and ``MyWorld``, which the command replaces."""
TAKEN = {"cai", "gymnasium", "pyro", "torch", *sys.stdlib_module_names}
"""What the worlds import, and what that imports: a file of such a name may be found in place of the library."""


From = Annotated[
    str | None,
    typer.Option(
        "--from",
        autocompletion=complete.catalogue,
        help="Copy this world of the catalogue (cai list) instead of the commented template.",
    ),
]


@app.command()
@with_exit_code
def new(
    file: Annotated[Path, typer.Argument(help="The file to write; my_world.py gets a class MyWorld.")],
    origin: From = None,
) -> None:
    """Write a working world into a new file that you then change: a commented template, or a copy."""
    name = class_name(file)
    if origin is not None:
        read_name("--from", origin, names())
    if not file.parent.is_dir():
        raise fault("new", f"no folder '{file.parent}'", "one that exists")
    if file.exists() or file.is_symlink():
        raise fault("new", f"'{file}' exists", "a new name: existing files are never overwritten")
    if origin is None:
        kind, text = "class", TEMPLATE.read_text(encoding="utf-8")
        text = text.replace("my_world.py", file.name).replace("MyWorld", name)
    else:
        kind, name, text = copied(origin, file.stem)
    write_whole(file.parent, {file.name: text.encode()})
    print(f"{file}: {kind} {name}, ready to run and to change\nnext: cai check {file}")


def copied(origin: str, stem: str) -> tuple[str, str, str]:
    """Return a world of the catalogue under the name of a file: what it is, its new name, and the text of the file.

    The world is renamed where it is defined, and at the head of its errors; prose stays as it is.
    """
    text = (folder() / f"{origin}.py").read_text(encoding="utf-8")
    said = outlines()[origin]
    kind, name = ("class", camel(stem)) if said.methods else ("function", stem)
    text = re.sub(rf"^(class|def) {said.name}\b", rf"\1 {name}", text, flags=re.MULTILINE)
    return kind, name, text.replace(f'"{said.name}, ', f'"{name}, ')


def class_name(file: Path) -> str:
    """Return the name of the world's class, ``MyWorld`` for ``my_world.py``, by which the file alone finds it.

    Raises:
        WorldError: the file's name is none of a Python module, or one that the template needs itself.
    """
    if file.suffix != ".py":
        raise fault("new", f"'{file}'", "a file that ends in .py, such as my_world.py")
    name = camel(file.stem)
    if not all(word.isidentifier() and not keyword.iskeyword(word) for word in (file.stem, name)):
        raise fault("new", f"'{file.name}'", "letters, digits and _ that make a Python name, such as my_world.py")
    if file.stem in TAKEN:
        raise fault("new", f"'{file.name}', which would hide the library of this name", "another name")
    return name
