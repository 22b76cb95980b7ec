"""The cells of the book's chapters, as plain Python: all that they compute and assert, without notebook and pages."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

DOCS = Path(__file__).parent.parent / "docs"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"\A(?::[^\n]*\n)+")
MAGIC = re.compile(r"^%[^\n]*$", re.MULTILINE)
TOCTREE = re.compile(r"^```\{toctree\}\n((?::[^\n]*\n)*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHAPTERS = ("The lecture", "Your own worlds and algorithms")
"""The captions of ``docs/index.md`` whose pages are chapters: each has a figure and an exercise."""


def pages(*captions: str) -> tuple[str, ...]:
    """Return the pages of the book in order, from the toctrees of ``docs/index.md``: of these captions, or all."""
    trees = TOCTREE.findall((DOCS / "index.md").read_text(encoding="utf-8"))
    asked = [body for head, body in trees if not captions or any(f":caption: {one}\n" in head for one in captions)]
    return tuple(page for body in asked for page in body.split())


def source(page: str) -> str:
    """Return the text of a page."""
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def cells(page: str) -> list[str]:
    """Return the code of each cell, without its options, and without the notebook's own commands."""
    found = (OPTION.sub("", cell) for cell in CELL.findall(source(page)))
    return [_written(cell) if cell.startswith("%%writefile ") else MAGIC.sub("", cell) for cell in found]


def _written(cell: str) -> str:
    """Return code that does what the command ``%%writefile`` does with its cell."""
    head, text = cell.split("\n", 1)
    return f"__import__('pathlib').Path({head.split()[1]!r}).write_text({text!r})"


def run(page: str, stored: str = "sample") -> None:
    """Run the cells of a chapter, one after the other, in a process and a folder of its own.

    Of its stored experiments it does a sample, and compares; ``docs/stored.py`` says what else can be done. Its
    exercises' checks must refuse a wrong answer, too.
    """
    import matplotlib as mpl

    mpl.use("agg")
    sys.path.insert(0, str(DOCS))  # where ``stored`` and ``exercises`` are
    _check_the_checks()
    os.environ["CAI_STORED"] = stored
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells(page)):
        exec(compile(cell, f"{page}, cell {number}", "exec"), names)


def _check_the_checks() -> None:
    """Have ``exercises.check`` compare a wrong answer with each number that it is given, besides the right one."""
    import exercises

    check = exercises.check

    def strict(answer: Any, expected: Any, tolerance: float = 1e-6, unit: str = "nats") -> None:
        wrong = (
            "another word" if isinstance(expected, str) else torch.as_tensor(expected).double() + (2 * tolerance or 1)
        )
        assert exercises.verdict(wrong, expected, tolerance, unit).startswith("Not yet: ")
        check(answer, expected, tolerance, unit)

    exercises.check = strict
