"""The rows of a comparison, and how they are written: as text, CSV and plain data."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cai.evaluation.across_seeds import Estimate, over_seeds
from cai.evaluation.columns import Column
from cai.evaluation.subject import Subject
from cai.support.numbers import digits, finite

Cell = Estimate | str | None


@dataclass(frozen=True)
class Row:
    """One policy, or all seeds of one learner; every column's value is an attribute, as ``row.elbo``.

    Over several seeds a number is their interquartile mean, and ``estimate`` has its interval.

    Attributes:
        name: of the policy.
        temperature: α, reward units.
        seeds: of the runs; empty for a policy that was not learned.
        cells: by column; None where nothing is known, or no exact answer is finite.
    """

    name: str
    temperature: float
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]

    def __getattr__(self, field: str) -> Any:
        try:
            cell = self.__dict__["cells"][field]
        except KeyError:
            raise AttributeError(f"no column '{field}'") from None
        return cell.value if isinstance(cell, Estimate) else cell

    def estimate(self, field: str) -> Estimate | None:
        """Return a number over seeds; None where it is not known, or of words."""
        cell = self.cells.get(field)
        return cell if isinstance(cell, Estimate) else None


def row_of(name: str, temperature: float, subjects: Sequence[Subject], columns: Sequence[Column]) -> Row:
    """Lay out the numbers of one policy, or of the seeds of one learner."""
    seeds = tuple(subject.run.seed for subject in subjects if subject.run is not None)
    cells = {column.field: _cell([column.read(subject) for subject in subjects]) for column in columns}
    if len(subjects) == 1:
        cells = {column.field: _with_error(cells[column.field], column.error(subjects[0])) for column in columns}
    return Row(name, temperature, seeds, cells)


def _cell(values: Sequence[float | str | None]) -> Cell:
    words = [value for value in values if isinstance(value, str)]
    if words:
        return ", ".join(word if len(values) == 1 else f"{n} {word}" for word, n in Counter(words).items())
    return over_seeds([value for value in values if not isinstance(value, str)])


def _with_error(cell: Cell, error: float) -> Cell:
    return replace(cell, error=error) if isinstance(cell, Estimate) and error else cell


def text_of(cell: Cell) -> str:
    """Write a cell for a terminal: over seeds the interval below the number, then how many are infinite or unknown."""
    if cell is None or isinstance(cell, str):
        return cell or "-"
    if len(cell.runs) == 1:
        return f"{digits(cell.value, 4)} ± {digits(cell.error, 2)}" if cell.error else digits(cell.value)
    interval = "" if cell.low == cell.high else f"[{digits(cell.low, 3)}, {digits(cell.high, 3)}]"
    return "\n".join(text for text in (digits(cell.value, 4), interval, flaws(cell)) if text)


def flaws(estimate: Estimate) -> str:
    """Say how many runs are infinite or not known; empty where none is."""
    sign = "-" if float("-inf") in estimate.runs else ""
    infinite = [f"{estimate.infinite}/{len(estimate.runs)} {sign}inf"] if estimate.infinite else []
    return ", ".join([*infinite, *([f"{estimate.unknown}/{len(estimate.runs)} unknown"] if estimate.unknown else [])])


def texts(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    """Return heads and rows as text; a cell may have several lines."""
    named = [f"{row.name}\n{len(row.seeds)} seeds" if len(row.seeds) > 1 else row.name for row in rows]
    lines = [[name, *(text_of(row.cells[c.field]) for c in columns)] for name, row in zip(named, rows, strict=True)]
    return [["policy", *(column.head for column in columns)], *lines]


def as_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return the rows as aligned text; words to the left, numbers to the right."""
    lines = [line for row in texts(columns, rows) for line in _stacked(row)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = [False, *(bool(column.unit) for column in columns)]

    def aligned(line: Sequence[str]) -> Iterable[str]:
        for text, width, to_right in zip(line, widths, right, strict=True):
            yield text.rjust(width) if to_right else text.ljust(width)

    return "\n".join("  ".join(aligned(line)).rstrip() for line in lines)


def _stacked(row: Sequence[str]) -> list[list[str]]:
    cells = [text.split("\n") for text in row]
    height = max(map(len, cells))
    return [[cell[i] if i < len(cell) else "" for cell in cells] for i in range(height)]


def as_csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a line a row; an empty cell for None, and beside the numbers of learners their intervals."""
    learned = any(row.seeds for row in rows)

    def heads(column: Column) -> list[str]:
        parts = ("_low", "_high", "_infinite") if learned and column.unit else ()
        return [column.field, *(column.field + part for part in parts)]

    def cells(column: Column, row: Row) -> list[Any]:
        cell = row.cells.get(column.field)
        value = cell.value if isinstance(cell, Estimate) else cell
        if not (learned and column.unit):
            return [value]
        return (
            [value, cell.low, cell.high, cell.infinite]
            if isinstance(cell, Estimate) and row.seeds
            else [value, "", "", ""]
        )

    first = ["name", "temperature", *(["seeds"] * learned)]
    lines = [
        [
            row.name,
            row.temperature,
            *([len(row.seeds)] * learned),
            *(x for column in columns for x in cells(column, row)),
        ]
        for row in rows
    ]
    return written([*first, *(head for column in columns for head in heads(column))], lines)


def written(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return lines as CSV with a header; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(heads)
    writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
    return out.getvalue()


def plain(row: Row) -> dict[str, Any]:
    """Return a row as plain data for JSON: null where a number is not finite; of learners every run beside the mean."""
    values = {name: getattr(row, name) for name in row.cells}
    data: dict[str, Any] = {"name": row.name, "temperature": row.temperature, **values}
    if row.seeds:
        estimates = {name: cell for name, cell in row.cells.items() if isinstance(cell, Estimate)}
        data |= {"seeds": row.seeds, "over_seeds": {name: _spread(estimate) for name, estimate in estimates.items()}}
    errors = {name: cell.error for name, cell in row.cells.items() if isinstance(cell, Estimate) and cell.error}
    data |= {"standard_errors": errors} if errors else {}
    return dict(finite(data))


def _spread(estimate: Estimate) -> dict[str, Any]:
    ends = {"low": estimate.low, "high": estimate.high}
    return {**ends, "infinite": estimate.infinite, "unknown": estimate.unknown, "runs": estimate.runs}
