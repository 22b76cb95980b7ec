"""The cells of the book's chapters, as plain Python: all that they compute and assert, without notebook and pages."""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"\A(?::[^\n]*\n)+")
MAGIC = re.compile(r"^%[^\n]*$", re.MULTILINE)


def cells(page: str) -> list[str]:
    """Return the code of each cell, without its options, and without the notebook's own commands."""
    found = (OPTION.sub("", cell) for cell in CELL.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")))
    return [_written(cell) if cell.startswith("%%writefile ") else MAGIC.sub("", cell) for cell in found]


def _written(cell: str) -> str:
    """Return code that does what the command ``%%writefile`` does with its cell."""
    head, text = cell.split("\n", 1)
    return f"__import__('pathlib').Path({head.split()[1]!r}).write_text({text!r})"


def run(page: str, stored: str = "sample") -> None:
    """Run the cells of a chapter, one after the other, in a process and a folder of its own.

    Of its stored experiments it does a sample, and compares; ``docs/stored.py`` says what else can be done.
    """
    import matplotlib as mpl

    mpl.use("agg")
    sys.path.insert(0, str(DOCS))  # where ``stored`` is
    os.environ["CAI_STORED"] = stored
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells(page)):
        exec(compile(cell, f"{page}, cell {number}", "exec"), names)
