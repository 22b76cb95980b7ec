"""cai new: the template conforms and runs at once; a name that will not do is refused, and nothing is written."""

import ast
import json
from pathlib import Path

import pytest
import torch

from cai import WorldError, check, factorise, solve
from cai.bridges.named import load_world
from cai.cli.new import copied
from cai.support.catalogue import folder as catalogue
from cai.support.catalogue import names
from tests.command import cai


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    done = cai("new", "my_world.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "my_world.py: class MyWorld, ready to run and to change\nnext: cai check my_world.py\n"
    assert [path.name for path in tmp_path.iterdir()] == ["my_world.py"]
    return tmp_path


def test_the_template_is_checked_solved_and_compared(folder: Path) -> None:
    assert cai("check", "my_world.py", cwd=folder).stdout.strip() == "my_world.py: no faults found"
    solved = cai("solve", "my_world.py", "-r", "POSTERIOR", "-r", "VARIATIONAL", "--json", cwd=folder)
    assert solved.stderr == ""
    posterior, variational = json.loads(solved.stdout)
    compared = json.loads(cai("compare", "my_world.py", "--json", cwd=folder).stdout)
    assert compared[0]["log_evidence"] == pytest.approx(posterior["log_evidence"], abs=1e-9)
    assert posterior["log_evidence"] > variational["elbo"]


def test_the_template_is_what_it_says(folder: Path) -> None:
    """Two state variables, a latent, a prior that forbids, a reward of two terms, and a last one that may go."""
    path = folder / "my_world.py"
    world = load_world(str(path))
    factors = factorise(world)
    assert factors.states.names == ("cell", "charge")
    assert list(factors.latents) == ["slip"]
    assert len(factors.at(0).reward) == 2
    assert (factors.at(0).prior["move"].table == -torch.inf).any()
    assert len(factors.terminal) == 1
    text = path.read_text(encoding="utf-8")
    assert max(len(line) for line in text.splitlines()) <= 120
    (of_class,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    last = next(node for node in of_class.body if getattr(node, "name", "") == "terminal")
    (folder / "shorter.py").write_text("\n".join(text.splitlines()[: last.lineno - 1]) + "\n", encoding="utf-8")
    shorter = load_world(str(folder / "shorter.py"))
    assert check(shorter) == []
    assert float(solve(shorter).value) < float(solve(world).value)


@pytest.mark.parametrize(
    ("file", "name"), [("walk.py", "Walk"), ("sub/my_2nd_walk.py", "My2ndWalk"), ("CamelCase.py", "Camelcase")]
)
def test_the_class_is_named_after_the_file(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / "sub").mkdir()
    assert f"class {name}, " in cai("new", file, cwd=tmp_path).stdout
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert f"class {name}:" in text
    assert f"cai check {Path(file).name}" in text
    assert "my_world" not in text
    assert type(load_world(str(tmp_path / file))).__name__ == name


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("my_world.py", "cai: new: 'my_world.py' exists; expected a new name: existing files are never overwritten"),
        ("link.py", "cai: new: 'link.py' exists; expected a new name"),
        ("dir.py", "cai: new: 'dir.py' exists; expected a new name"),
        ("my_world", "cai: new: 'my_world'; expected a file that ends in .py"),
        ("world.txt", "cai: new: 'world.txt'; expected a file that ends in .py"),
        ("3d.py", "cai: new: '3d.py'; expected letters, digits and _"),
        ("my-world.py", "cai: new: 'my-world.py'; expected letters, digits and _"),
        ("class.py", "cai: new: 'class.py'; expected letters, digits and _"),
        ("none.py", "cai: new: 'none.py'; expected letters, digits and _"),
        ("__.py", "cai: new: '__.py'; expected letters, digits and _"),
        ("torch.py", "cai: new: 'torch.py', which would hide the library of this name; expected another name"),
        ("random.py", "cai: new: 'random.py', which would hide the library of this name; expected another name"),
        ("nowhere/world.py", "cai: new: no folder 'nowhere'; expected one that exists"),
        ("my_world.py/world.py", "cai: new: no folder 'my_world.py'; expected one that exists"),
    ],
)
def test_a_name_that_will_not_do_is_refused_in_one_line(tmp_path: Path, file: str, told: str) -> None:
    (tmp_path / "my_world.py").write_text("mine = True\n")
    (tmp_path / "link.py").symlink_to("gone.py")
    (tmp_path / "dir.py").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = cai("new", file, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "my_world.py").read_text() == "mine = True\n"


def test_a_copy_of_the_catalogue_works_under_its_own_name(tmp_path: Path) -> None:
    for origin, kind, name in (("grid", "class", "MyLake"), ("frozen_lake", "function", "my_lake")):
        done = cai("new", f"{origin}/my_lake.py", "--from", origin, cwd=(tmp_path / origin).mkdir() or tmp_path)
        assert done.stdout.startswith(f"{origin}/my_lake.py: {kind} {name}, ready to run"), done.stderr
        assert check(load_world(str(tmp_path / origin / "my_lake.py"))) == []
        told = cai("solve", f"{origin}/my_lake.py", "--set", "size=1", "--set", "rows=0", cwd=tmp_path)
        assert "no argument" in told.stderr
        copy = (catalogue() / f"{origin}.py").read_text(encoding="utf-8")
        (tmp_path / origin / "mine.py").write_text(copy, encoding="utf-8")  # by hand, its name as it was
        assert check(load_world(str(tmp_path / origin / "mine.py"))) == []
    (tmp_path / "two.py").write_text("def a(): ...\n\n\ndef b(): ...\n")
    with pytest.raises(WorldError, match=r"or the spec '.*two.py:a', whose function returns a world"):
        load_world(str(tmp_path / "two.py"))
    assert "MyLake, slip: 1.5" in cai("solve", "grid/my_lake.py", "--set", "slip=1.5", cwd=tmp_path).stderr
    refused = cai("new", "mine.py", "--from", "frozenlake", cwd=tmp_path)
    assert "did you mean frozen_lake" in refused.stderr
    assert not (tmp_path / "mine.py").exists()


@pytest.mark.parametrize("origin", names())
def test_every_copy_differs_from_its_origin_by_its_name_alone(origin: str) -> None:
    kind, name, text = copied(origin, "mine")
    whole = (catalogue() / f"{origin}.py").read_text(encoding="utf-8")
    old = {node.name for node in ast.parse(whole).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    new = {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert (name, len(new - old), len(old - new)) == ("mine" if kind == "function" else "Mine", 1, 1)
    (lost,) = old - new
    assert lost not in {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert text.replace(name, lost) == whole


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cai.cli import app

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "my_world.py")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new", "my_world.py"])
    assert done.exit_code == 2
    assert "No space left on device" in done.output
    assert list(tmp_path.iterdir()) == []
