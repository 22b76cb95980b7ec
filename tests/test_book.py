"""The book as it is built: every page shows what its cells gave, asks nothing of the network, and its links resolve.

It is built once, from nothing; all of these tests are marked slow.
"""

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

import cai
from tests import chapters
from tests.browser import barriers, browser, needs_chromium, opened
from tests.chapters import DOCS
from tests.test_docs import CHAPTERS, EXECUTED, PAGES, ROOMS, words_on

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the book from nothing; warnings and failing cells are errors."""
    pytest.importorskip("myst_nb", reason="the book needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("book")
    sphinx = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-j", "2", "-b", "html")
    command = (*sphinx, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html"))
    # The executed notebooks are kept in a home of their own: the build leaves nothing behind.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def text_of(book: Path, page: str) -> str:
    """Return a built page as plain text, tags dropped."""
    return html.unescape(re.sub(r"<[^>]+>", "", (book / f"{page}.html").read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_built(book: Path, page: str) -> None:
    assert (book / f"{page}.html").is_file()


@pytest.mark.parametrize("page", EXECUTED)
def test_the_pages_show_what_their_cells_gave(book: Path, page: str) -> None:
    built = (book / f"{page}.html").read_text(encoding="utf-8")
    # Cells of assertions and of definitions give nothing, and the set-up cell is hidden.
    assert built.count('class="cell_output') > len(chapters.cells(page)) // 3
    assert "Traceback" not in built


def test_the_book_names_no_machine(book: Path) -> None:
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp|Users)/", text_of(book, page)), page


def test_every_public_name_is_built(book: Path) -> None:
    built = (book / "api.html").read_text(encoding="utf-8")
    names = [f"{room.__name__}.{name}" for room in (cai, *ROOMS) for name in room.__all__]
    missing = [name for name in names if f'id="{name}"' not in built and f'id="module-{name}"' not in built]
    assert not missing
    for constant in ("POSTERIOR", "VARIATIONAL", "HARD", "MAP"):
        first = words_on(constant).split()[:4]
        assert " ".join(first) in text_of(book, "api"), f"cai.{constant} stands there without its words"


def soup_of(path: Path) -> Any:
    """Return a built page as a tree."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


FETCHED = (
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
    ("link", "href"),
)
ELSEWHERE = re.compile(r"^(https?:)?//")


def test_no_page_names_a_thing_of_the_network(book: Path) -> None:
    for path in book.rglob("*.html"):
        tree = soup_of(path)
        asked = [one.get(where, "") for tag, where in FETCHED for one in tree.find_all(tag)]
        assert not [one for one in asked if ELSEWHERE.match(one)], path.name
        styles = [style.get_text() for style in tree.find_all("style")]
        assert not [style for style in styles if re.search(r"url\(\s*['\"]?(https?:)?//|@import", style)], path.name
    for path in book.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", path.read_text(encoding="utf-8")), path.name


def test_every_link_leads_somewhere(book: Path) -> None:
    trees = {path.resolve(): soup_of(path) for path in book.rglob("*.html")}
    anchors = {path: {one["id"] for one in tree.find_all(id=True)} for path, tree in trees.items()}
    dead = []
    for path, tree in trees.items():
        for link in tree.find_all("a", href=True):
            address, anchor = urldefrag(link["href"])
            if re.match(r"^[a-z]+:", address):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if not target.is_file() or (anchor and target in anchors and unquote(anchor) not in anchors[target]):
                dead.append(f"{path.name}: {link['href']}")
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_picture_and_says_what_it_shows(book: Path, page: str) -> None:
    article = soup_of(book / f"{page}.html").find("article")
    images = article.find_all("img")
    assert images or article.find("svg", role="img") or article.find("iframe"), f"{page} has no picture"
    for image in images:
        assert len(image.get("alt", "").split()) >= 5, f"{page}: {image['src']} has the alt text {image.get('alt')!r}"
        assert (book / page).parent.joinpath(image["src"]).stat().st_size > 1000
    for drawn in article.find_all("svg", role="img"):
        assert len(drawn.get("aria-label", "").split()) >= 5 or drawn.find("title"), f"{page}: a drawing without words"


def test_every_executed_page_is_a_notebook_to_download(book: Path) -> None:
    for page in EXECUTED:
        assert f'notebooks/{page}.ipynb"' in (book / f"{page}.html").read_text(encoding="utf-8")
        assert (book / "notebooks" / f"{page}.ipynb").is_file()


def test_a_notebook_runs_without_the_book(book: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    page = next(one for one in CHAPTERS if "from exercises import" in chapters.source(one))
    notebook = nbformat.read(book / "notebooks" / f"{page}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "No answer yet." in nbformat.writes(notebook)


@needs_chromium
def test_no_page_asks_for_anything(book: Path) -> None:
    with browser() as running:
        for path in book.rglob("*.html"):
            with opened(running, path.as_uri()) as (_, heard):
                assert not heard, f"{path.name}: {heard}"


@needs_chromium
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(book: Path, colours: str) -> None:
    with browser() as running:
        for page in ("index", CHAPTERS[0], "which_rule"):
            with opened(running, (book / f"{page}.html").as_uri(), color_scheme=colours) as (there, _):
                assert not barriers(there), page
