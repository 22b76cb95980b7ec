"""Tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from cai.approximation.approximation import Approximation
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import texts
from cai.learn.result import Learned, Progress
from cai.support.numbers import digits
from cai.verification.verification import Verification
from cai.view.sizes import size_of
from cai.world.program import Guide

STOPPED = {"gap": "the gap is within the tolerance", "steps": "all updates made", "interrupted": "interrupted"}
"""Why a fit ended, in words."""
ENDED = {"steps": "all steps taken", "target": "the target reached"}
"""Why a learner ended, in words."""


def print_comparison(world: str, comparison: Comparison) -> None:
    """Print the numbers of every policy, over seeds with their intervals, and the two exact answers below them."""
    size = size_of(comparison.model) or "not compiled"
    heads, *rows = texts(comparison.shown, comparison.rows)
    print_table(f"{world} at α = {comparison.temperature:g}: {size}", heads, rows)
    star, evidence = digits(comparison.elbo_star), digits(comparison.log_evidence)
    print(
        f"ELBO* = {star} nats (VARIATIONAL), log Z = {evidence} nats (POSTERIOR); "
        "returns and regret in reward units, else nats"
    )
    if any(len(row.seeds) > 1 for row in comparison.rows):
        print("over seeds: the interquartile mean, and below it the 95 % bootstrap interval; after best: the worst")
        print("evaluation at or after the best one, of policy nats and of the likeliest action's return")
    for remark in comparison.remarks:
        print(remark)
    print()
    for name, (run, *_) in comparison.runs.items():
        if isinstance(run, Learned) and run.estimator:
            print(f"{name}: {run.steps:,} steps by {run.estimator}, {STOPPED.get(run.stopped, run.stopped)}")


def print_fit(world: str, name: str, fitted: Learned, *, log_evidence: float | None = None, unknown: str = "") -> None:
    """Print how a fit went and what it reached, nats.

    Args:
        world: its title.
        name: of the policy.
        fitted: the fit.
        log_evidence: log Z, nats, where it is known.
        unknown: why there are no exact answers, if there are none.
    """
    full = isinstance(fitted.policy, Guide)
    title = f"{world}: {'full guide' if full else f'{name} policy'} at α = {fitted.temperature:g}"
    reached = digits(fitted.elbo) + (f" ± {fitted.standard_error:.2g}" if fitted.samples else "")
    row = {"estimator": fitted.estimator, "steps": f"{fitted.steps:,}", "stopped by": fitted.stopped, "ELBO": reached}
    star = "log Z" if full else "ELBO*"
    known = {star: fitted.elbo_star, f"{star}-ELBO": fitted.gap, **({} if full else {"log Z": log_evidence})}
    exact = {head: value for head, value in known.items() if value is not None}
    print_table(title, [*row, *exact], [[*row.values(), *exact.values()]])
    note = "nats; ELBO: " + (
        f"mean of {fitted.samples:,} trajectories, ± standard error" if fitted.samples else "exact"
    )
    if full:
        note += "\nthe full guide changes the start and the dynamics too, so its bound is log Z (POSTERIOR), not ELBO*:"
        note += "\neverything above ELBO* is luck, which no policy can choose"
    print(f"{note}{'' if fitted.elbo_star is not None else '; ELBO* is not known'}\n")
    if unknown:
        print(f"the gap is not known, because there is no exact answer:\n{unknown}\n")


def print_approximation(title: str, found: Approximation) -> None:
    """Print what an approximation knows of log Z and ELBO*, in nats and in reward units."""
    words = ", α ELBO*: ".join(f"{one.scaled(found.temperature)}" for one in (found.log_evidence, found.elbo))
    print(f"{title}: {found}", f"in reward units: α log Z: {words}", sep="\n")


def print_verification(title: str, found: Verification) -> None:
    """Print a verdict for each probe, what is to be said of those that do not pass, and the cause."""
    heads, *rows = found.lines
    print_table(f"{title}, under {found.rule}", heads, rows, words=3)
    print("mistake: the one that the policy is held against; nats short: ELBO* - ELBO(π); return in reward units")
    for remark in found.remarks:
        print(f"\n{remark}")
    print(f"\n{found.summary}")


def print_learned(title: str, learned: Learned) -> None:
    """Print the evaluations of a learner, and how it ended."""
    heads = ["steps", "CPU s", "return", "return, most probable actions"]
    rows = [[f"{point.steps:,}", f"{point.seconds:.2f}", *map(_five, _returns(point))] for point in learned.history]
    if learned.history[-1].policy_nats is not None:
        heads.append("policy nats")
        rows = [[*row, digits(point.policy_nats, 4)] for row, point in zip(rows, learned.history, strict=True)]
    print_table(f"{title}: {learned.algorithm}, seed {learned.seed}", heads, rows)
    ended = f"{ENDED.get(learned.stopped, learned.stopped)}: {learned.steps:,} steps"
    worst = f"most probable actions, lowest return at or after the best: {_five(learned.worst_after_best)}"
    print(f"{worst}; {ended}, {learned.seconds:.1f} CPU s of learning")


def _returns(point: Progress) -> tuple[float | None, float | None]:
    return point.stochastic_return, point.deterministic_return


def _five(value: float | None) -> str:
    return digits(value, 5)


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1) -> None:
    """Print a table, the first columns, of words, to the left; on a narrow terminal in parts, each with the first.

    A digit is never cut. A pipe gets one table, however wide.
    """
    console = Console()
    for number, part in enumerate(_parts(console, heads, rows)):
        left, cells = sum(c < words for c in part), [[row[c] for c in part] for row in rows]
        table = _table(title if number == 0 else "", [heads[c] for c in part], cells, left)
        Console(width=max(console.width, _width(console, table), len(title))).print(table)


def _parts(console: Console, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[int]]:
    """Return the columns of each part: as many as the terminal is wide enough for, and always the first."""
    if not console.is_terminal:
        return [list(range(len(heads)))]
    parts = [[0]]
    for column in range(1, len(heads)):
        wider = [*parts[-1], column]
        table = _table("", [heads[c] for c in wider], [[row[c] for c in wider] for row in rows])
        if len(wider) > 2 and _width(console, table) > console.width:
            wider = [0, column]
            parts.append(wider)
        parts[-1] = wider
    return parts


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1) -> Table:
    table = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    return table


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _cell(value: Any) -> str:
    return digits(value) if value is None or isinstance(value, float) else str(value)
