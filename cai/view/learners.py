"""The page of learners: what each reached over its seeds, how it got there, and where it still loses."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from cai.errors import fault
from cai.evaluation.across_seeds import Estimate
from cai.evaluation.learner_rows import LearnerRow
from cai.evaluation.learners import LearnerComparison, Place
from cai.evaluation.row import Row
from cai.support.files import write_whole
from cai.view.learned import loss_maps, performance_profiles
from cai.view.learning import nats_curves, return_curves
from cai.view.report import Column, Picture, environment, size_of
from cai.view.sections import Cell, cell
from cai.view.style import png
from cai.view.words import MINUS, between, brief, listed, show

COLUMNS = (
    Column("policy_nats", "policy nats", "nats", "ELBO* − ELBO(π) of the final policy: what it leaves on the table."),
    Column("worst_policy_nats", "worst after best", "nats", "The largest policy nats at or after the smallest."),
    Column("elbo", "ELBO(π)", "nats", "return/α − KL to the prior of the final policy. The higher the better."),
    Column("expected_return", "return", "reward units", "E_π[Σ r] of the final policy, acting by chance as it does."),
    Column("regret", "regret", "reward units", "J* − J(π) of the final policy: what its return lacks of the highest."),
    Column("deterministic_return", "likeliest action", "reward units", "The final return of its most probable action."),
    Column("worst_return", "worst after best", "reward units", "The lowest such return at or after the highest."),
    Column("entropy", "entropy", "nats", "E_π[Σ H(π(·|s_t))], how undecided the final policy is along its way."),
    Column("luck_nats", "luck", "nats", "Σ_t E KL(p(outcome) ‖ p(outcome|O)): the luck that the posterior counts on."),
    Column("steps", "steps", "environment", "Environment steps taken, those of all parallel copies."),
    Column("seconds", "time", "CPU seconds", "CPU seconds of learning, evaluations not counted."),
)  # fmt: skip


ENDED = {"target": "reached the target"}
"""Why a run ended, in words; that all steps were taken goes without saying."""


@dataclass(frozen=True)
class Number:
    """A number over seeds in the table: its cell, its interval, and what the interquartile mean does not show."""

    cell: Cell
    interval: str
    lost: str


@dataclass(frozen=True)
class Line:
    """A row of the table: an exact policy, or a learner with its seeds in words."""

    name: str
    seeds: str
    best: bool
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Losses:
    """Where one learner loses: a line to begin with, and its costliest state-times in words."""

    name: str
    lead: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Chapter:
    """What the page says of one temperature."""

    alpha: str
    anchor: str
    log_evidence: Cell | None
    elbo_star: Cell | None
    lines: tuple[Line, ...]
    pictures: tuple[Picture, ...]
    remarks: tuple[str, ...]
    losses: tuple[Losses, ...]


def write_learners(comparisons: Sequence[LearnerComparison], folder: Path, *, title: str) -> Path:
    """Write ``learners.html``, ``learners.csv``, ``runs.csv``, ``learners.json`` and ``figures/*.png`` into a folder.

    At several temperatures the numbers lie in a folder each, ``alpha-…``. The page holds its figures, needs no network
    and no script. Files are written whole or not at all, the page last; its path is returned.

    Args:
        comparisons: of one world, one a temperature.
        folder: made where it is missing.
        title: of the page.

    Raises:
        WorldError: there is no comparison, or a temperature comes twice.
    """
    alphas = [one.temperature for one in comparisons]
    if not alphas or len(set(alphas)) < len(alphas):
        raise fault("write_learners, comparisons", f"temperatures {alphas}", "at least one, each once")
    known = [column for column in COLUMNS if any(_knows(one, column.field) for one in comparisons)]
    chapters = [_chapter(one, known) for one in sorted(comparisons, key=lambda one: -one.temperature)]
    tables = comparisons[0].tables
    page = environment().get_template("learners.html.jinja").render(
        title=title, intro=_intro(comparisons), chapters=chapters, columns=known,
        world="" if tables is None else size_of(tables),
    )  # fmt: skip
    contents = {f"figures/{picture.name}.png": picture.content for one in chapters for picture in one.pictures}
    for one in comparisons:
        at = f"alpha-{one.temperature!r}/" if len(comparisons) > 1 else ""
        contents |= {f"{at}learners.csv": one.csv().encode(), f"{at}runs.csv": one.runs_csv().encode()}
    numbers = [json.loads(one.json()) for one in comparisons]
    contents["learners.json"] = (json.dumps(numbers, indent=2) + "\n").encode()
    write_whole(Path(folder), contents | {"learners.html": page.encode()})
    for stale in Path(folder, "figures").glob("learners-*.png"):  # of an earlier run
        if f"figures/{stale.name}" not in contents:
            stale.unlink()
    return Path(folder) / "learners.html"


def _intro(comparisons: Sequence[LearnerComparison]) -> str:
    rows = [row for one in comparisons for row in one.rows]
    names, seeds = list(dict.fromkeys(row.name for row in rows)), sorted({row.seeds for row in rows})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    each = f"{many} seed{'s' * (seeds[-1] > 1)}{' of each' * (len(names) > 1)}"
    return (
        f"{listed(names)}: {each}. A number is the interquartile mean over seeds, in brackets its 95\u00a0% bootstrap "
        "interval; infinite seeds are counted beside it, since the mean may cut them off. What counts is the end, and "
        "the worst at or after the best: what was reached and held."
    )


def _knows(one: LearnerComparison, field: str) -> bool:
    return any(getattr(row, field) is not None for row in one.rows)


def _chapter(one: LearnerComparison, columns: Sequence[Column]) -> Chapter:
    exact, pictures = one.exact, tuple(_pictures(one))
    return Chapter(
        alpha=show(one.temperature),
        anchor=f"alpha-{one.temperature!r}",
        log_evidence=None if exact is None else cell("log_evidence", exact.log_evidence),
        elbo_star=None if exact is None else cell("elbo_star", exact.elbo_star),
        lines=(*(_exact_line(row, columns) for row in (exact.rows if exact else ())), *_learned_lines(one, columns)),
        pictures=pictures,
        remarks=tuple(text.replace(" -inf", f" {MINUS}∞") for text in one.remarks),
        losses=tuple(_losses(one, row) for row in one.rows) if exact and exact.elbo_star is not None else (),
    )


def _pictures(one: LearnerComparison) -> Iterator[Picture]:
    def picture(kind: str, title: str, caption: str, drawn: Callable[[LearnerComparison], Figure]) -> Picture:
        return Picture(f"learners-{one.temperature!r}-{kind}", title, caption, png(drawn(one)))

    if any("policy_nats" in curves for curves in one.curves.values()):
        yield picture("nats", "Policy nats while learning", "What is missing to ELBO*, step by step.", nats_curves)
    yield picture("returns", "Returns while learning", "By chance, and by the likeliest action.", return_curves)
    if one.profiles:
        yield picture("profiles", "Performance profiles", "How many runs score above what.", performance_profiles)
    if one.tables is not None and one.tables.layout is not None and one.exact and one.exact.elbo_star is not None:
        yield picture("losses", "Where each learner still loses", "Policy nats on the map.", loss_maps)


def _exact_line(row: Row, columns: Sequence[Column]) -> Line:
    cells = (cell(column.field, value := getattr(row, column.field, None), _settled(value)) for column in columns)
    return Line(row.name, "", False, tuple(Number(one, "", "") for one in cells))


def _learned_lines(comparison: LearnerComparison, columns: Sequence[Column]) -> Iterator[Line]:
    best = best_of(comparison.rows)
    for row in comparison.rows:
        ends = ", ".join(f"{count} {ENDED.get(why, why)}" for why, count in row.stopped.items() if why != "steps")
        seeds = f"{row.seeds} seed{'s' * (row.seeds > 1)}" + (f", {ends}" if ends else "")
        numbers = tuple(_number(column.field, getattr(row, column.field)) for column in columns)
        yield Line(row.name, seeds, row.name == best, numbers)


def best_of(rows: Sequence[LearnerRow]) -> str | None:
    """Name the learner of the highest ELBO, or of the highest return where no ELBO is known; None of a single one."""
    field = "elbo" if all(row.elbo for row in rows) else "expected_return"
    found = {row.name: one.value for row in rows if (one := getattr(row, field)) is not None}
    return max(found, key=lambda name: found[name]) if len(rows) > 1 and found else None


def _number(field: str, one: Estimate | None) -> Number:
    if one is None:
        return Number(cell(field, None), "", "")
    digits = 12 if field == "steps" else 4
    found = replace(cell(field, one.value), shown=brief(round(one.value, 0) if field == "steps" else one.value, digits))
    lost = [f"{one.infinite} of {len(one.runs)} at {_endless(one)}"] if one.infinite else []
    lost += [f"{one.unknown} of {len(one.runs)} unknown"] if one.unknown else []
    return Number(found, between(one.low, one.high), ", ".join(lost))


def _endless(one: Estimate) -> str:
    return show(next(run for run in one.runs if run is not None and abs(run) == float("inf")))


def _settled(value: float | None) -> float | None:
    return 0.0 if value is not None and abs(value) < 1e-9 else value


def _losses(comparison: LearnerComparison, row: LearnerRow) -> Losses:
    hard = all(run.temperature is None for run in comparison.learned[row.name])
    places = comparison.worst(row.name, by="regret" if hard else "nats")  # a hard learner cares for reward alone
    if not places:
        return Losses(row.name, "no seed loses anything", ())
    lead = f"the most in one place at {_where(places[0])}, {brief(places[0].lost)} {places[0].unit}"
    told = (f"{_where(one)}: {brief(one.lost)} {one.unit}, {one.seeds} of {row.seeds} seeds" for one in places)
    return Losses(row.name, lead, tuple(told))


def _where(one: Place) -> str:
    return one.label if one.t is None else f"t = {one.t}, {one.label}"
