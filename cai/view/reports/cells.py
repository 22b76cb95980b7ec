"""The numbers of a comparison as cells of a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cai.evaluation.across_seeds import Estimate
from cai.evaluation.columns import Column
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import Row
from cai.support.numbers import MINUS, between, brief, rounded, show
from cai.view.reports.sections import Cell, Head, Line, Table
from cai.view.summary import is_best


def number(value: float | None, field: str = "", shown: float | None = None) -> Cell:
    """Return the cell of a number, which may be shown rounded."""
    seen = value if shown is None else shown
    whole = seen is not None and 1000 <= abs(seen) < 1e15 and float(seen).is_integer()
    text = f"{seen:,.0f}".replace("-", MINUS) if whole else show(seen)
    return Cell(text, "" if value is None else repr(float(value)), field)


def words(text: str) -> Cell:
    """Return a cell of words."""
    return Cell(text, wordy=True)


def heads_of(columns: Sequence[Column]) -> tuple[Head, ...]:
    """Return the heads of these columns; a line stands to the left where the unit changes."""
    return tuple(
        Head(column.title, column.unit, column.field, _ruled(columns, n), not column.unit)
        for n, column in enumerate(columns)
    )


def lines_of(comparison: Comparison, columns: Sequence[Column]) -> tuple[Line, ...]:
    """Lay out the rows; shaded are the best policy and the best learner, by ELBO, or by return where none is known."""
    lines = []
    exact = {"nats": max(abs(value or 0.0) for value in (comparison.log_evidence, comparison.elbo_star))}
    returns = [getattr(row, "expected_return", None) for row in comparison.rows]
    exact["reward units"] = max((abs(x) for x in returns if x is not None and math.isfinite(x)), default=0.0)
    for row in comparison.rows:
        rivals = [other for other in comparison.rows if bool(other.seeds) == bool(row.seeds)]
        by = "elbo" if all("elbo" in other.cells and other.elbo is not None for other in rivals) else "expected_return"
        best = len(comparison.rows) > 1 and is_best(getattr(row, by), [getattr(other, by) for other in rivals])
        seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}" if row.seeds else ""
        cells = (replace(_cell(column, row, exact), ruled=_ruled(columns, n)) for n, column in enumerate(columns))
        lines.append(Line(row.name, tuple(cells), seeds, best))
    return tuple(lines)


def table_of(label: str, comparison: Comparison, columns: Sequence[Column], note: str = "") -> Table:
    """Return these columns of a comparison as a table."""
    return Table(label, "policy", heads_of(columns), lines_of(comparison, columns), note)


def plain_table(label: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Table:
    """Return heads and rows of numbers and words, as the terminal prints them, as a table."""
    wordy = [any(isinstance(row[n], str) for row in rows) for n in range(1, len(heads))]
    cell: Callable[[Any], Cell] = lambda value: words(value) if isinstance(value, str) else number(value)  # noqa: E731
    return Table(
        label, heads[0], tuple(Head(head, wordy=left) for head, left in zip(heads[1:], wordy, strict=True)),
        tuple(Line(str(name), tuple(map(cell, rest))) for name, *rest in rows), note,
    )  # fmt: skip


def _ruled(columns: Sequence[Column], n: int) -> bool:
    return n > 0 and columns[n - 1].unit != columns[n].unit


def _cell(column: Column, row: Row, exact: Mapping[str, float]) -> Cell:
    value = row.cells.get(column.field)
    if not isinstance(value, Estimate):
        return Cell(value, value, column.field, wordy=True) if value else number(None, column.field)
    scale = exact.get(column.unit, 0.0)
    shown = rounded(value.value, scale)
    if len(value.runs) == 1:
        single = number(value.value, column.field, shown)
        return replace(single, interval=f"± {brief(value.error, 2)}") if value.error else single
    lost = [f"{value.infinite} of {len(value.runs)} at {show(_infinite(value))}"] if value.infinite else []
    lost += [f"{value.unknown} of {len(value.runs)} unknown"] if value.unknown else []
    mean = replace(number(value.value, column.field), shown=brief(shown or 0.0, 4))
    return replace(mean, interval=between(value.low, value.high), lost=", ".join(lost))


def _infinite(estimate: Estimate) -> float:
    return next(run for run in estimate.runs if run is not None and abs(run) == float("inf"))
