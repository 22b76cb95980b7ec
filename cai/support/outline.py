"""What a Python file says of a class or a function in it, read without running it: nothing heavy is imported."""

import ast
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AstMaker = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Argument:
    """An argument of a class or a function, as it is written.

    Attributes:
        name: its name.
        kind: its annotation; empty where there is none.
        default: its default; None where it must be given.
        words: what the docstring says of it.
    """

    name: str
    kind: str
    default: str | None
    words: str

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name}={self.default}"


@dataclass(frozen=True)
class Outline:
    """A class or a function of a file.

    Attributes:
        name: its name.
        summary: the first sentence of the file's docstring.
        size: what follows ``Size:`` in the file's docstring; empty where it says nothing.
        arguments: those of a call.
        rest: the annotation of the arguments that it takes by any other name; None where it takes none.
        methods: the names of a class's own methods.
    """

    name: str
    summary: str
    size: str
    arguments: tuple[Argument, ...]
    rest: str | None
    methods: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        known = [vars(argument) for argument in self.arguments]
        seen_in_part = "observe" in self.methods
        return {"summary": self.summary, "size": self.size, "seen_in_part": seen_in_part, "options": known}


def outline(path: Path, name: str = "") -> Outline | None:
    """Read what a file says of the class or function of a name; None where that would need to run the file.

    Args:
        path: the file.
        name: of the class or function; unless given the one by which the file alone finds its world.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    makers = {node.name: node for node in tree.body if isinstance(node, AstMaker)}
    chosen = makers.get(name) if name else _world(makers, path.stem)
    call = None if chosen is None else _call(chosen)
    if chosen is None or call is None:
        return None
    text = ast.get_docstring(tree) or ""
    size = re.search(r"^Size: (.+)$", text, re.MULTILINE)
    words = _words(chosen, "Args") | _words(call, "Args")
    known = tuple(_argument(arg, default, words) for arg, default in _arguments(call, skip=call is not chosen))
    return Outline(
        chosen.name,
        text.split("\n", 1)[0],
        size[1].rstrip(".") if size else "",
        known,
        None if call.args.kwarg is None else _argument(call.args.kwarg, None, words).kind,
        tuple(node.name for node in chosen.body if isinstance(node, ast.FunctionDef)),
    )


def keys(path: Path, name: str) -> tuple[Argument, ...]:
    """Read the keys of a typed dictionary in a file, those of its bases left out."""
    tree = ast.parse(path.read_bytes())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    written = [node for node in found.body if isinstance(node, ast.AnnAssign)]
    words = _words(found, "Keys")
    named = [(ast.unparse(node.target), ast.unparse(node.annotation)) for node in written]
    return tuple(Argument(key, kind, None, words.get(key, "")) for key, kind in named)


def camel(stem: str) -> str:
    """Return the name of the class that a file of this name holds: ``MyWorld`` for ``my_world``."""
    return "".join(part.capitalize() for part in stem.split("_"))


def _world(makers: dict[str, AstMaker], stem: str) -> AstMaker | None:
    """Return the world of a file: what has its name, the only class with a ``step``, or its only function, alone."""
    for name in (stem, camel(stem)):
        if name in makers:
            return makers[name]
    stepping = [node for node in makers.values() if isinstance(node, ast.ClassDef) and _method(node, "step")]
    public = [node for name, node in makers.items() if not name.startswith("_")]
    if not stepping and len(public) == 1 and isinstance(public[0], ast.FunctionDef):
        return public[0]
    return stepping[0] if len(stepping) == 1 else None


def _call(maker: AstMaker) -> ast.FunctionDef | None:
    """Return the function whose arguments a call takes; None where a base class or a decorator may have a say."""
    if isinstance(maker, ast.FunctionDef):
        return None if maker.decorator_list else maker
    return None if maker.decorator_list or maker.keywords else _method(maker, "__init__")


def _method(maker: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((node for node in maker.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _arguments(call: ast.FunctionDef, *, skip: bool) -> list[tuple[ast.arg, ast.expr | None]]:
    """Return the arguments of a function with their defaults, its ``self`` left out where one is to be skipped."""
    given = call.args
    places = [*given.posonlyargs, *given.args]
    defaults: Sequence[ast.expr | None] = [None] * (len(places) - len(given.defaults)) + list(given.defaults)
    by_place = list(zip(places, defaults, strict=True))[skip:]
    return [*by_place, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]


def _argument(arg: ast.arg, default: ast.expr | None, words: dict[str, str]) -> Argument:
    kind = "" if arg.annotation is None else ast.unparse(arg.annotation)
    return Argument(arg.arg, kind, None if default is None else ast.unparse(default), words.get(arg.arg, ""))


def _words(node: AstMaker, heading: str) -> dict[str, str]:
    """Return what a section of a docstring, ``Args:`` or ``Keys:``, says of each name, in one line."""
    section = re.search(rf"^{heading}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(ast.get_docstring(node) or ""), re.M | re.S)
    entries = re.split(r"^ {4}(?=[\w, ]+:)", section[1], flags=re.MULTILINE) if section else []
    words: dict[str, str] = {}
    for entry in entries:
        names, colon, text = entry.partition(":")
        if colon:
            words |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return words
