"""The book: its cells run, it builds without a warning, and no public name is undocumented.

The chapters' cells run as plain Python, and so does all that they assert; of the experiments whose results are stored a
sample is done again. The heavy chapters, the build, and the whole of those experiments are marked slow.
"""

import ast
import html
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import cai
from tests import chapters
from tests.chapters import DOCS
from tests.command import ROOT, forked

CHAPTERS = (
    "inference",
    "variational",
    "learners",
    "claims",
    "your_world",
    "which_rule",
    "networks",
    "engine",
    "conventions",
)
LONG = ("variational", "learners", "claims")
ROOMS = (cai.policies, cai.learn, cai.graphs, cai.partial, cai.distributed)
PAGES = (*CHAPTERS, "index", "api", "architecture", "benchmarks")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return what runs a chapter once, and tells what its cells printed."""

    @cache
    def run(page: str) -> str:
        done = forked(chapters.run, page, cwd=tmp_path_factory.mktemp(page), timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


HEAVY = ("inference", "your_world", "learners", "claims", "variational", "engine", "networks")
"""Chapters whose cells take more than ten seconds though their long experiments are stored."""


@pytest.mark.parametrize(
    "page", [pytest.param(one, marks=pytest.mark.slow if one in HEAVY else ()) for one in (*CHAPTERS, "index")]
)
def test_the_cells_run(said: Callable[[str], str], page: str) -> None:
    said(page)


@pytest.mark.slow
def test_the_published_numbers_are_printed(said: Callable[[str], str]) -> None:
    # agentmodels' restaurant, both rules, and the number that three methods agree on.
    assert "p(french) = 0.8909031788" in said("inference")
    assert "p(french) = 0.3792508719" in said("inference")
    assert said("inference").count("-1.680350390854 nats") == 3


@pytest.mark.slow
def test_the_mistakes_are_answered_in_words(said: Callable[[str], str]) -> None:
    source = (DOCS / "your_world.md").read_text(encoding="utf-8")
    asked = len(re.findall(r"^complaints\(", source, re.MULTILINE))
    assert asked >= 10
    assert len(re.findall(r"^where {5}", said("your_world"), re.MULTILINE)) >= asked


def test_a_number_that_differs_from_the_stored_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    differences = importlib.import_module("stored").differences
    whole = {"a": [1.0, 2.0], "b": {"c": "gap"}}
    assert differences({"a": [1.0 + 1e-7]}, whole, "x", 1e-5) == []
    assert differences({"a": [1.0, 2.1]}, whole, "x", 1e-5) == ["x, a[1]: 2.1 where 2.0 is stored"]
    assert differences({"b": {"c": "steps"}}, whole, "x", 1e-5) == ["x, b, c: steps where gap is stored"]
    for nothing in ({}, {"a": []}, {"a": [1.0, 2.0, 3.0]}, {"d": 1.0}):
        assert len(differences(nothing, whole, "x", 1e-5)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("page", LONG)
def test_the_stored_experiments_find_the_same_again(tmp_path: Path, page: str) -> None:
    done = forked(chapters.run, page, "compare", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the book from nothing; warnings and failing cells are errors."""
    pytest.importorskip("myst_nb", reason="the book needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("book")
    sphinx = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html")
    command = (*sphinx, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html"))
    # The executed notebooks are kept in a home of their own: the build leaves nothing behind.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def text_of(book: Path, page: str) -> str:
    """Return a built page as plain text, tags dropped."""
    return html.unescape(re.sub(r"<[^>]+>", "", (book / f"{page}.html").read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_built(book: Path, page: str) -> None:
    assert (book / f"{page}.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS)
def test_the_chapters_show_what_their_cells_gave(book: Path, page: str) -> None:
    built = (book / f"{page}.html").read_text(encoding="utf-8")
    assert len(chapters.cells(page)) > 5
    # Cells of assertions and of definitions give nothing, and the set-up cell is hidden.
    assert built.count('class="cell_output') > len(chapters.cells(page)) // 3
    assert "Traceback" not in built


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "figures"),
    [
        ("inference", 5),
        ("variational", 2),
        ("learners", 3),
        ("claims", 6),
        ("your_world", 1),
        ("which_rule", 3),
        ("networks", 4),
    ],
)
def test_the_figures_are_drawn(book: Path, page: str, figures: int) -> None:
    built = (book / f"{page}.html").read_text(encoding="utf-8")
    images = re.findall(r'src="(_images/[^"]+)"', built)
    assert len(images) >= figures
    assert all((book / image).stat().st_size > 1000 for image in images)


@pytest.mark.slow
def test_the_book_names_no_machine(book: Path) -> None:
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp|Users)/", text_of(book, page)), page


@pytest.mark.parametrize("name", sorted(cai.__all__))
def test_every_public_name_has_words(name: str) -> None:
    assert words_on(name), f"cai.{name} has no docstring"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_name_of_a_room_has_words(room: ModuleType) -> None:
    assert not [name for name in room.__all__ if not (getattr(room, name).__doc__ or "").strip()]


@pytest.mark.parametrize("room", [cai, *ROOMS], ids=lambda room: room.__name__)
def test_every_public_name_is_on_an_api_page(room: ModuleType) -> None:
    pages = [path for path in DOCS.glob("*.md") if path.name.startswith("api")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    name = rf"^\.\. (?:auto(?:class|function|data|exception)|py:module):: {room.__name__}\.(\w+)$"
    assert set(re.findall(name, source, re.MULTILINE)) == set(room.__all__)


@pytest.mark.slow
def test_every_public_name_is_built(book: Path) -> None:
    built = (book / "api.html").read_text(encoding="utf-8")
    names = [f"{room.__name__}.{name}" for room in (cai, *ROOMS) for name in room.__all__]
    missing = [name for name in names if f'id="{name}"' not in built and f'id="module-{name}"' not in built]
    assert not missing
    for constant in ("POSTERIOR", "VARIATIONAL", "HARD", "MAP"):
        first = words_on(constant).split()[:4]
        assert " ".join(first) in text_of(book, "api"), f"cai.{constant} stands there without its words"


def words_on(name: str) -> str:
    """Return the docstring of a public name; for a constant the string that follows its assignment."""
    value = getattr(cai, name)
    if inspect.isclass(value) or inspect.ismodule(value) or callable(value):
        return (value.__doc__ or "").strip()
    for path in (ROOT / "cai").rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for line, following in pairwise(body):
            targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            if any(getattr(target, "id", None) == name for target in targets) and isinstance(following, ast.Expr):
                return str(ast.literal_eval(following.value)).strip()
    return ""
