"""The commands of a page with what they print: ``console`` blocks, held to what is written below them.

A line of ``…`` alone stands for any lines, ``…`` within a line for any text: times and places differ between machines.
``python -m tests.consoles docs/command_line.md`` writes what is printed now below each command that has nothing yet.
"""

import os
import re
import shlex
import sys
import tempfile
import warnings
from pathlib import Path

from typer.testing import CliRunner

from cai.cli import app

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDTH = "100"


def blocks(page: Path) -> list[str]:
    """Return the console blocks of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with the text below it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def printed(command: str) -> str:
    """Return what a command prints on both streams; spaces at the ends of lines, and empty lines around, left out."""
    program, *words = shlex.split(command, comments=True)
    assert program == "cai", command
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner(env={"COLUMNS": WIDTH}).invoke(app, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return "\n".join(line.rstrip() for line in done.output.splitlines()).strip("\n")


def agrees(written: str, output: str) -> bool:
    """Tell whether an output is as it is written."""
    lines = (".*(?:\n.*)*" if line == "…" else re.escape(line).replace("…", ".*") for line in written.splitlines())
    return re.fullmatch("\n".join(lines), output) is not None


def fill(page: Path) -> None:
    """Write what is printed below each command of a page that has nothing below it."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        told = ""
        for command, written in commands(block):
            output = printed(command)
            told += f"$ {command}\n{written.rstrip() or output}\n"
            if written.strip() and not agrees(written.rstrip(), output):
                print(f"differs: {command}\n{output}\n", file=sys.stderr)
        text = text.replace(f"```console\n{block}```", f"```console\n{told}```")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    here = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        fill(here)
