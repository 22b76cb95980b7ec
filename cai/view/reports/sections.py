"""What a page is made of: sections, each a title and its parts. Read this file first.

A new section is a function from a ``Request`` to sections, and a line in one of the lists of ``report.py``. A new kind
of part is a class here, and a macro of its ``kind`` in ``report.html.jinja``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import networkx as nx


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        shown: the number as people read it, or words.
        exact: the number as ``repr`` writes it; empty where there is none.
        field: of the column.
        interval: over seeds; else empty.
        lost: how many seeds are infinite or unknown, in words; else empty.
        ruled: whether a line stands to its left.
        wordy: whether it is words, to the left.
    """

    shown: str
    exact: str = ""
    field: str = ""
    interval: str = ""
    lost: str = ""
    ruled: bool = False
    wordy: bool = False


@dataclass(frozen=True)
class Head:
    """The head of a column: its title, its unit, and what it means; ``field`` names its entry in the glossary."""

    title: str
    unit: str = ""
    field: str = ""
    ruled: bool = False
    wordy: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table: its name, a word below it, whether it is shaded, and its cells."""

    name: str
    cells: tuple[Cell, ...]
    below: str = ""
    best: bool = False


@dataclass(frozen=True)
class Words:
    """A paragraph. ``look``: "" (plain), "loud", "note", "mark" (small), or "account" (its lines are kept)."""

    text: str
    look: str = ""
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Title:
    """A title within a section."""

    text: str
    kind: ClassVar[str] = "title"


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    texts: tuple[str, ...]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Numbers:
    """A few numbers in large print: what each is, the number, its unit, and the same in other words."""

    entries: tuple[tuple[str, Cell, str, str], ...]
    kind: ClassVar[str] = "numbers"


@dataclass(frozen=True)
class Table:
    """A table. ``label`` says what it holds, ``first`` heads its first column, ``note`` stands below it."""

    label: str
    first: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    note: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure: its file name, its title, the words under it, and its panels, vector graphics each."""

    name: str
    title: str
    caption: str
    panels: tuple[str, ...]
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Fold:
    """Parts that open at a click or a key; ``name`` and ``lead`` stand on the line that opens them."""

    name: str
    lead: str
    parts: tuple["Part", ...]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Pairs:
    """Names and what is to be said of each: a unit and an anchor, which may be empty, and a text."""

    entries: tuple[tuple[str, str, str, str], ...]
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Code:
    """A line to be typed."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Files:
    """Files beside the page, each with a word on what it holds."""

    entries: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "files"


Part = Words | Title | Items | Numbers | Table | Picture | Fold | Pairs | Code | Files


@dataclass(frozen=True)
class Section:
    """A section: its anchor, its title, its parts, and the word for it in the contents (its title unless given)."""

    anchor: str
    title: str
    parts: tuple[Part, ...]
    short: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Request:
    """What a report shows.

    Attributes:
        title: the title of the page.
        results: what was found, by name.
        about: what the world is, in a few sentences; empty where that is not known.
        twin: the name of a twin world and its comparisons, coldest first; None without one.
        dag: the model's graph, to be drawn.
        notes: further paragraphs.
        command: what was typed; empty where it was Python.
    """

    title: str
    results: Mapping[str, Any]
    about: str = ""
    twin: tuple[str, Sequence[Any]] | None = None
    dag: nx.DiGraph | None = None
    notes: Sequence[str] = ()
    command: str = ""

    @property
    def each(self) -> list[Any]:
        """The results, without their names."""
        return list(self.results.values())


def pictures_of(parts: Sequence[Part]) -> Iterator[Picture]:
    """Yield every figure among these parts, those that are folded too."""
    for part in parts:
        if isinstance(part, Picture):
            yield part
        elif isinstance(part, Fold):
            yield from pictures_of(part.parts)
