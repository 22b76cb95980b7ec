"""What a chapter of the report says besides its pictures: numbers in cells, and where each policy loses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cai.evaluation.across_seeds import Estimate
from cai.evaluation.columns import Column
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import Row
from cai.support.numbers import MINUS, between, brief, rounded, show
from cai.view.summary import is_best


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
    """

    shown: str
    exact: str
    field: str
    interval: str = ""
    lost: str = ""
    ruled: bool = False


@dataclass(frozen=True)
class Line:
    """A row of the table: a policy, or a learner with its seeds in words."""

    name: str
    seeds: str
    best: bool
    cells: tuple[Cell, ...]


def cell(field: str, value: float | None, shown: float | None = None) -> Cell:
    """Return the cell of a number, which may be shown rounded."""
    return Cell(show(value if shown is None else shown), "" if value is None else repr(float(value)), field)


def lines_of(comparison: Comparison, columns: Sequence[Column]) -> tuple[Line, ...]:
    """Lay out the rows; shaded are the best policy and the best learner, by ELBO, or by return where none is known."""
    lines = []
    exact = max(abs(value or 0.0) for value in (comparison.log_evidence, comparison.elbo_star))
    for row in comparison.rows:
        rivals = [other for other in comparison.rows if bool(other.seeds) == bool(row.seeds)]
        by = "elbo" if all("elbo" in other.cells and other.elbo is not None for other in rivals) else "expected_return"
        best = len(comparison.rows) > 1 and is_best(getattr(row, by), [getattr(other, by) for other in rivals])
        seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}" if row.seeds else ""
        cells = (replace(_cell(column, row, exact), ruled=ruled) for column, ruled in ruled_columns(columns))
        lines.append(Line(row.name, seeds, best, tuple(cells)))
    return tuple(lines)


def ruled_columns(columns: Sequence[Column]) -> list[tuple[Column, bool]]:
    """Return the columns, and whether a line stands to the left: where the unit changes."""
    return [(column, n > 0 and columns[n - 1].unit != column.unit) for n, column in enumerate(columns)]


def _cell(column: Column, row: Row, exact: float) -> Cell:
    value = row.cells.get(column.field)
    if not isinstance(value, Estimate):
        return Cell(value, value, column.field) if value else cell(column.field, None)
    scale = exact if column.unit == "nats" else 0.0
    shown = rounded(value.value, scale)
    if len(value.runs) == 1:
        return cell(column.field, value.value, shown)
    lost = [f"{value.infinite} of {len(value.runs)} at {show(_infinite(value))}"] if value.infinite else []
    lost += [f"{value.unknown} of {len(value.runs)} unknown"] if value.unknown else []
    mean = replace(cell(column.field, value.value), shown=brief(shown or 0.0, 4))
    return replace(mean, interval=between(value.low, value.high), lost=", ".join(lost))


def _infinite(estimate: Estimate) -> float:
    return next(run for run in estimate.runs if run is not None and abs(run) == float("inf"))


@dataclass(frozen=True)
class Losses:
    """Where one policy loses: a line to begin with, its account (empty over seeds), and its costliest places."""

    name: str
    lead: str
    account: str
    by_nats: tuple[str, ...]
    by_regret: tuple[str, ...]


def losses_of(comparison: Comparison) -> tuple[Losses, ...]:
    """Say of every policy where its nats go, and the ten places at which it loses most.

    Where the slices do not differ over time, all times of a state are one place. A learner of several seeds is told by
    the mean over them, one of hard optimality by its regret.
    """
    if comparison.model is None:
        return ()
    single = comparison.evaluations
    return tuple(
        _single(name, comparison) if name in single else _over_seeds(name, comparison) for name in comparison.subjects
    )


def _single(name: str, comparison: Comparison) -> Losses:
    evaluation, star = comparison.evaluations[name], comparison.elbo_star
    if star is None:
        return Losses(
            name, "ELBO* is not finite, so there is nothing to measure against", _typeset(evaluation.account()), (), ()
        )
    together = not evaluation.model.timed
    nats, regret = evaluation.worst(together=together), evaluation.worst(by="regret", together=together)
    lead = "no policy does better"
    if nats:
        gap = show(rounded(evaluation.optimality_gap, star))
        lead = f"{gap} nats below ELBO*, the most in one place at {nats[0].where} ({show(nats[0].lost)} nats)"
    words = (tuple(_typeset(str(loss)) for loss in each) for each in (nats, regret))
    return Losses(name, lead, _typeset(evaluation.account()), *words)


def _over_seeds(name: str, comparison: Comparison) -> Losses:
    runs = comparison.runs[name]
    hard = all(run.temperature is None for run in runs)
    places = comparison.worst(name, by="regret" if hard else "nats")
    words = tuple(
        f"{place.where}: {brief(place.lost)} {place.unit}, {place.seeds} of {len(runs)} seeds" for place in places
    )
    lead = f"the most in one place at {places[0].where} ({brief(places[0].lost)} {places[0].unit})" if places else ""
    return Losses(name, lead or "no seed loses anything", "", () if hard else words, words if hard else ())


def _typeset(text: str) -> str:
    """Put true minus signs before numbers and between terms; names keep their hyphens."""
    return re.sub(r"(?<=\s)-", MINUS, text)
