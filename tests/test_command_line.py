"""The page of the command line: every command prints what is written below it, and JSON has the shape that is said."""

import json
import re
from pathlib import Path

import pytest

from tests.chapters import DOCS
from tests.consoles import agrees, blocks, commands, fill, printed

PAGE = DOCS / "command_line.md"
LONG = ("cai claims", "cai fit", "cai learn", "cai compare")
"""Commands of more than a second."""
SHAPE = re.compile(r"^\| `(cai [^`]+ --json)` \|[^|]*\| ([^|]*) \|$", re.MULTILINE)


def slow_if(long: bool, value: object) -> object:
    return pytest.param(value, marks=pytest.mark.slow if long else ())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "block", [slow_if(block.startswith(tuple(f"$ {one}" for one in LONG)), block) for block in blocks(PAGE)]
)
def test_the_commands_print_what_is_written(block: str) -> None:
    for command, written in commands(block):
        output = printed(command)
        assert written.strip()
        assert agrees(written.rstrip(), output), f"{command}\n{output}"


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        pytest.param(command, fields, marks=pytest.mark.slow if "claims" in command or "explore" in command else ())
        for command, fields in SHAPE.findall(PAGE.read_text(encoding="utf-8"))
    ],
)
def test_json_has_the_shape_that_is_said(command: str, fields: str) -> None:
    told = json.loads(printed(command))
    said = re.findall(r"`(\w+)`", fields)
    assert said
    for one in [told] if isinstance(told, dict) else told:
        assert sorted(one) == sorted(said)


def test_every_command_is_on_the_page_with_an_example() -> None:
    from cai.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    text = PAGE.read_text(encoding="utf-8")
    shown = {command.split()[1] for block in blocks(PAGE) for command, _ in commands(block)}
    assert names - shown == {"explore"}, "which opens a browser"
    assert all(f"cai {name}" in text for name in names)


def test_what_differs_is_seen(tmp_path: Path) -> None:
    assert agrees("a … c\n…\nend", "a b c\none\ntwo\nend")
    assert not agrees("a … c\nend", "a b c\none\nend")
    assert not agrees("3.14", "3x14")
    page = tmp_path / "page.md"
    page.write_text("```console\n$ cai check grid\n```\n")
    fill(page)
    assert page.read_text() == "```console\n$ cai check grid\ngrid: no faults found\n```\n"
