"""What a reader finds on a page of the report: numbers, figures, links to elsewhere, headings and text."""

import re
import xml.etree.ElementTree as Tree
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        numbers: policy (the first cell of the row; None outside of tables), field and value of every number.
        titles: the titles of all figures' graphics.
        elsewhere: addresses that ask the network for something.
        tags: the names of all elements.
        words: the text.
        headings: the levels of all headings, in order.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.policy: str | None = None
        self.numbers: list[tuple[str | None, str, str]] = []
        self.titles: list[str] = []
        self.elsewhere: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.headings: list[int] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self._within: list[str] = []
        self.feed(text)

    @property
    def text(self) -> str:
        """The text on one line."""
        return re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self._within.append(tag)
        if tag == "tr":
            self.policy = found.get("data-policy")
        if tag == "data" and "data-field" in found:
            self.numbers.append((self.policy, found["data-field"], found["value"]))
        if tag == "svg":
            assert found["role"] == "img"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in found:
            assert found["id"] not in self.anchors, f"the id {found['id']} twice"
            self.anchors.add(found["id"])
        if tag == "a" and found["href"].startswith("#"):
            self.links.add(found["href"][1:])
        self.elsewhere += [found[name] for name in ("src", "href") if re.match("https?:|//", found.get(name, ""))]

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass
        if tag == "tr":
            self.policy = None

    def handle_data(self, data: str) -> None:
        if self._within and self._within[-1] == "title" and "svg" in self._within:
            self.titles.append(data)
        elif "style" not in self._within and "svg" not in self._within:
            self.words.append(data)


def page_of(path: Path) -> Page:
    """Read a page, and check what is true of every one: no network, no script, headings in order, links that lead."""
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.elsewhere
    assert not page.tags & {"script", "link", "iframe", "img"}
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert page.links <= page.anchors
    assert all(page.titles)
    return page


def graphic(path: Path) -> Tree.Element:
    """Read a figure of the report: vector graphics with words, and something on it."""
    root = Tree.fromstring(path.read_text(encoding="utf-8"))
    space = root.tag.removesuffix("svg")
    assert (root.findtext(f"{space}title") or "").strip()
    assert (root.findtext(f"{space}desc") or "").strip()
    assert len(list(root.iter(f"{space}path"))) > 3, f"{path} is blank"
    return root
