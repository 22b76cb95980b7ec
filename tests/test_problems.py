"""The problem sets: a student's page is its solved one without the solutions, and only those are right."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests import chapters
from tests.chapters import DOCS
from tests.command import forked

SETS = sorted(path.stem for path in (DOCS / "problems" / "solutions").glob("*.md"))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", DOCS / "problems" / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_three() -> None:
    assert len(SETS) == 3
    assert set(SETS) == {path.stem for path in (DOCS / "problems").glob("*.md")}


@pytest.mark.parametrize("name", SETS)
def test_the_page_of_students_is_what_is_made_of_the_solved_one(make: ModuleType, name: str) -> None:
    page = chapters.source(f"problems/{name}")
    assert page == make.student(chapters.source(f"problems/solutions/{name}")), "run python docs/problems/make.py"
    assert "[solution]" not in page


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_solutions_are_right_and_the_students_page_has_none(tmp_path: Path, name: str) -> None:
    solved, asked = (
        forked(chapters.run, page, cwd=tmp_path) for page in (f"problems/solutions/{name}", f"problems/{name}")
    )
    assert solved.returncode == asked.returncode == 0, solved.stderr + asked.stderr
    questions = asked.stdout.splitlines()
    assert set(questions) == {"No answer yet."}
    said = solved.stdout.splitlines()
    assert sum(line.startswith("Right") for line in said) == len(questions)
    assert len(said) == 2 * len(questions)
