"""Tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import texts
from cai.learn.result import Learned
from cai.support.numbers import digits
from cai.view.sizes import size_of

STOPPED = {"gap": "within the tolerance", "steps": "all steps made", "interrupted": "interrupted"}
"""Why a fit ended, in words."""


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
        print("over seeds: the interquartile mean, below it its 95 % bootstrap interval; after best: the worst at or")
        print("after the best, of policy nats and of the likeliest action's return")
    for remark in comparison.remarks:
        print(remark)
    print()


def print_fit(world: str, learned: Learned, *, log_evidence: float | None = None) -> None:
    """Print how a fit went and what it reached, beside ELBO* and log Z where they are known; nats."""
    reached = digits(learned.elbo) + (f" ± {learned.standard_error:.2g}" if learned.samples else "")
    heads, row = (
        ["estimator", "steps", "stopped by", "ELBO"],
        [learned.estimator, f"{learned.steps:,}", learned.stopped, reached],
    )
    known = {"ELBO*": learned.elbo_star, "ELBO*-ELBO": learned.gap, "log Z": log_evidence}
    heads += [name for name, value in known.items() if value is not None]
    print_table(f"{world} at α = {learned.temperature:g}", heads, [row + [v for v in known.values() if v is not None]])
    note = "nats; ELBO: " + (
        f"mean of {learned.samples:,} trajectories, ± standard error" if learned.samples else "exact"
    )
    print(f"{note}{'' if learned.elbo_star is not None else '; ELBO* cannot be had'}\n")


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, the first column to the left; never narrower than its numbers."""

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, needed, len(title))).print(table)  # a long line wraps; a digit is never cut


def _cell(value: Any) -> str:
    return digits(value) if value is None or isinstance(value, float) else str(value)
