"""What ships: the wheel works alone in an empty folder, and the README's code runs."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.command import ROOT, cai, script


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(words, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    page = "cai/view/reports/report.html.jinja"
    assert {"cai/__init__.pyi", "cai/py.typed", "cai/models/frozen_lake.py", page} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    environment, outside = tmp_path / "environment", tmp_path / "outside"
    outside.mkdir()
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=outside)
    home = run(python, "-c", "import cai; print(cai.__file__)", cwd=outside)
    assert Path(home.strip()).is_relative_to(environment)
    command = environment / "bin" / "cai"
    assert run(command, "--version", cwd=outside).strip() == re.findall(r'^version = "(.*)"', PROJECT, re.MULTILINE)[0]
    run(command, "compare", "restaurant", "--out", "report", cwd=outside)
    assert (outside / "report" / "report.html").is_file()


def run(*words: str | Path, cwd: Path) -> str:
    """Run a program that must succeed, away from this checkout, and return what it prints."""
    apart = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=cwd, env=apart, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("cai ")]
LONG = re.compile("explore|neural|cliff_walking|8x8|reports/lake|--ray|--fit|--learn |--steps 20000")
"""What takes seconds; the tests of ``cai compare`` ask the same with fewer steps."""


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow if LONG.search(one) else ()) for one in COMMANDS]
)
def test_the_readmes_commands_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "my_world.py").write_text(next(code for code, _ in EXAMPLES if "class Corridor" in code))
    done = cai(*shlex.split(command)[1:], cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    if "--json" in command:
        json.loads(done.stdout)  # the file prints on import; that must not get in between


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_readme_prints_what_its_code_prints(number: int, tmp_path: Path) -> None:
    code, output = EXAMPLES[number]
    done = script(code, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert output
    assert done.stdout.rstrip() == output.rstrip()


def test_the_readmes_picture_is_the_one_that_its_code_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    _, words = importlib.import_module("cliffs").cliffs()
    assert f'alt="{words}"' in README
    for name in ("cliffs.svg", "cliffs-dark.svg"):
        drawn = (ROOT / "docs" / "_static" / name).read_text(encoding="utf-8")
        assert words.split(". ", 1)[1] in drawn
    firm, icy = re.findall(r"ELBO\* (-[\d.]+) nats", words)
    assert f"differs by {float(firm) - float(icy):.1f} nats" in README


def test_the_readmes_files_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    missing = [path for pair in links for path in pair if path and not (ROOT / path).exists()]
    assert not missing


def test_the_name_of_a_module_is_unique() -> None:
    own = (
        path for path in (ROOT / "cai").rglob("*.py") if path.parent.name != "cli" and not path.stem.startswith("__")
    )
    times = Counter(path.stem for path in own)
    assert {name for name, n in times.items() if n > 1} == set()
