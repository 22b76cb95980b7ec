"""What ships: the wheel works alone in an empty folder, and the README's code runs."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.command import ROOT, cai, script


@pytest.mark.slow
def test_the_wheel_carries_all_it_needs(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(words, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {"cai/__init__.pyi", "cai/py.typed", "cai/models/frozen_lake.py", "cai/view/report.html.jinja"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [sys.executable, "-P", "-m", "cai.cli", "compare", "restaurant", "--out", "report"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=empty, env={"PYTHONPATH": str(tmp_path / "site")})
    assert done.returncode == 0, done.stderr
    assert (empty / "report" / "report.html").is_file()


README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("cai ")]
LONG = re.compile("cliff_walking|8x8|--ray|--fit|--learn |--steps 20000")
"""What takes seconds; the tests of ``cai compare`` ask the same with fewer steps."""


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow if LONG.search(one) else ()) for one in COMMANDS]
)
def test_the_readmes_commands_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "my_world.py").write_text(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1])
    done = cai(*shlex.split(command)[1:], cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    if "--json" in command:
        json.loads(done.stdout)  # the file prints on import; that must not get in between


@pytest.mark.parametrize("number", range(4))
def test_the_readme_runs(number: int, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    done = script(blocks[number], cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_name_of_a_module_is_unique() -> None:
    own = (
        path for path in (ROOT / "cai").rglob("*.py") if path.parent.name != "cli" and not path.stem.startswith("__")
    )
    times = Counter(path.stem for path in own)
    assert {name for name, n in times.items() if n > 1} == set()
