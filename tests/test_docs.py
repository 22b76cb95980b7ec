"""The book's source: its cells run, its exercises check, and no public name is undocumented.

The cells run as plain Python, and so does all that they assert; of the experiments whose results are stored a sample is
done again. The chapters, and the whole of those experiments, are marked slow. ``test_book.py`` looks at what is built.
"""

import ast
import importlib
import inspect
import json
import re
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

PAGES = (*chapters.pages(), "index")
EXECUTED = tuple(page for page in PAGES if chapters.cells(page))
CHAPTERS = chapters.pages(*chapters.CHAPTERS)
LONG = tuple(page for page in EXECUTED if "from stored import" in chapters.source(page))
ROOMS = (cai.approximation, cai.policies, cai.learn, cai.graphs, cai.partial, cai.distributed, cai.view)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return what runs a chapter once, and tells what its cells printed."""

    @cache
    def run(page: str) -> str:
        done = forked(chapters.run, page, cwd=tmp_path_factory.mktemp(page.replace("/", "_")), timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED)
def test_the_cells_run(said: Callable[[str], str], page: str) -> None:
    said(page)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_ends_with_an_exercise_what_to_remember_and_what_to_try(page: str) -> None:
    source = chapters.source(page)
    assert re.findall(r"^## (.*)$", source, re.MULTILINE)[-3:] == ["Exercise", "What to remember", "Try it"]
    assert "from exercises import check" in source
    assert 'code_prompt_show: "Show the answer"' in source


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_map_shows_the_way_to_every_chapter(page: str) -> None:
    assert f"]({page}.md" in chapters.source("map")


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS)
def test_the_exercises_are_solved_and_check(said: Callable[[str], str], page: str) -> None:
    printed = said(page)  # where each check has refused a wrong answer, too
    assert "No answer yet." in printed
    assert re.search(r"^Right(\.|, to within .*)$", printed, re.MULTILINE)
    assert "Not yet: " not in printed


def test_an_answer_is_judged_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    verdict = importlib.import_module("exercises").verdict
    assert verdict(..., 1.0, 1e-6, "nats") == "No answer yet."
    assert verdict([1.0, ...], [1.0, 2.0], 1e-6, "nats") == "No answer yet."
    assert verdict(1.0 + 5e-7, 1.0, 1e-6, "nats") == "Right, to within 1e-06 nats."
    assert verdict(1.3, 1.0, 1e-6, "nats") == "Not yet: yours is 0.3 nats away, and 1e-06 are allowed."
    assert verdict([1.0, 2.0], 1.0, 1e-6, "nats") == "Not yet: your answer has the shape [2], expected []."
    assert verdict(float("nan"), 1.0, 1e-6, "nats").startswith("Not yet: ")
    assert verdict("Hard", "HARD", 1e-6, "") == "Right."
    assert verdict("MAP", "HARD", 1e-6, "") == "Not yet: 'MAP' is not the answer."


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
        assert not [link for link in links if not (ROOT / link).exists()], name


@pytest.mark.slow
def test_the_published_numbers_are_printed(said: Callable[[str], str]) -> None:
    # agentmodels' restaurant, both rules, and the number that three methods agree on.
    assert "p(french) = 0.8909031788" in said("optimism")
    assert "p(french) = 0.3792508719" in said("optimism")
    assert said("messages").count("-1.680350390854 nats") == 3


@pytest.mark.slow
def test_the_mistakes_are_answered_in_words(said: Callable[[str], str]) -> None:
    asked = len(re.findall(r"^complaints\(", chapters.source("mistakes"), re.MULTILINE))
    assert asked >= 10
    assert len(re.findall(r"^where {5}", said("mistakes"), re.MULTILINE)) >= asked


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
    done = forked(chapters.run, page, "compare", cwd=tmp_path, timeout=3600)  # some take CPU minutes
    assert done.returncode == 0, done.stdout + done.stderr


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


def words_on(name: str) -> str:
    """Return the docstring of a public name; for a constant the string that follows its assignment."""
    value = getattr(cai, name)
    if inspect.isclass(value) or inspect.ismodule(value) or callable(value):
        return (value.__doc__ or "").strip()
    for path in (ROOT / "cai").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        body = ast.parse(source).body if name in source else []
        for line, following in pairwise(body):
            targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            if any(getattr(target, "id", None) == name for target in targets) and isinstance(following, ast.Expr):
                return str(ast.literal_eval(following.value)).strip()
    return ""


@pytest.mark.parametrize(
    ("tex", "holds"),
    [
        (r"\begin{aligned} a &= b \\[4pt] c &= d \end{aligned}", ['<mtd columnalign="right" class="right">', "<mtr>"]),
        (r"\mathbb{E}_\pi[x \mid y]", ["𝔼", "∣"]),
        (r"\mathbb{1}[x] \sim \mathcal{N}", ["𝟙", "∼", "𝒩"]),
        (r"\mathrm{KL}(p \,\|\, q)", ["<mtext>KL</mtext>", 'stretchy="false"']),
        (r"\alpha \log \beta", ['<mspace width="0.167em" /><mi>log</mi><mspace width="0.167em" />']),
        (r"\arg\max_a q", ["<mtext>arg</mtext>", "<mo>max</mo>"]),
        (r"\underbrace{x}_{\text{soft}}", ["⏟", "<mtext>soft</mtext>"]),
    ],
)
def test_a_formula_is_drawn_without_a_script(monkeypatch: pytest.MonkeyPatch, tex: str, holds: list[str]) -> None:
    pytest.importorskip("latex2mathml", reason="the book needs the extra 'docs'")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    made = importlib.import_module("formulas").mathml(tex, "block")
    assert made.startswith("<math ")
    assert not [one for one in holds if one not in made], made


def test_a_command_that_no_browser_draws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("latex2mathml", reason="the book needs the extra 'docs'")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    with pytest.raises(ValueError, match=r"holds \\nosuch"):
        importlib.import_module("formulas").mathml(r"a \nosuch b", "inline")


@pytest.mark.parametrize("page", EXECUTED)
def test_a_page_is_a_notebook_that_needs_no_file_of_the_book(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str
) -> None:
    pytest.importorskip("jupytext", reason="the book needs the extra 'docs'")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    target = tmp_path / "page.ipynb"
    importlib.import_module("notebooks").write(chapters.source(page), (DOCS / page).parent, target)
    cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    words = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert sum(cell["cell_type"] == "code" for cell in cells) >= len(chapters.cells(page))
    assert "{literalinclude}" not in words
    assert "{toctree}" not in words
