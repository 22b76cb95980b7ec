"""Tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from cai.compile.table_model import Tables
from cai.evaluation.across_seeds import Estimate
from cai.evaluation.learner_rows import flaws, interval
from cai.evaluation.learners import LearnerComparison
from cai.evaluation.row import Compared
from cai.learn.svi.fit_result import Fit


def describe(tables: Tables) -> str:
    """Say how large a world is, in one line."""
    T, S, A = tables.horizon, tables.states.size, tables.actions.size
    clock = f"T = {T}" if T is not None else "infinite horizon"
    return f"{S:,} states, {A:,} actions, {tables.log_prob.shape[-1]:,} outcomes, {clock}, γ = {tables.discount:g}"


def print_comparison(world: str, one: Compared, size: str) -> None:
    """Print the accounts of every policy, and the two exact answers below them."""
    heads = (
        "policy",
        "return",
        "regret",
        "entropy",
        "KL prior",
        "ELBO",
        "ELBO*-ELBO",
        "log Z-ELBO",
        "start",
        "action",
        "luck",
    )
    columns = ["name", "expected_return", "regret", "entropy", "kl_to_prior", "elbo", "optimality_gap", "evidence_gap"]
    columns += ["start_nats", "action_nats", "luck_nats"]
    rows = [[getattr(row, name) for name in columns] for row in one.rows]
    print_table(f"{world} at α = {one.temperature:g}: {size}", heads, rows)
    star, evidence = (_cell(value) for value in (one.elbo_star, one.log_evidence))
    print(
        f"ELBO* = {star} nats (VARIATIONAL), log Z = {evidence} nats (POSTERIOR); "
        "return and regret in reward units, else nats\n"
    )


LEARNED = {
    "policy_nats": "policy nats",
    "worst_policy_nats": "after best",
    "elbo": "ELBO",
    "expected_return": "return",
    "regret": "regret",
    "deterministic_return": "likeliest",
    "worst_return": "after best",
    "entropy": "entropy",
    "luck_nats": "luck",
    "steps": "steps",
    "seconds": "CPU s",
}
"""The columns of the table of learners, by field."""


def print_learners(world: str, one: LearnerComparison) -> None:
    """Print the exact rows and the learners', every number over seeds with its interval below it."""
    exact = one.exact.rows if one.exact is not None else ()
    fields = [name for name in LEARNED if any(getattr(row, name, None) is not None for row in (*exact, *one.rows))]
    rows = [[row.name, *(getattr(row, name, None) for name in fields)] for row in exact]
    rows += [
        [f"{row.name}\n{row.seeds} seed{'s' * (row.seeds > 1)}", *(_stacked(getattr(row, name)) for name in fields)]
        for row in one.rows
    ]
    size = describe(one.tables) if one.tables is not None else "without tables"
    print_table(f"{world} at α = {one.temperature:g}: {size}", ["policy", *(LEARNED[name] for name in fields)], rows)
    print("interquartile mean over seeds, below it the 95 % bootstrap interval; after best: the worst at or after the")
    print("best, of policy nats and of the likeliest action's return; returns and regret in reward units, else nats")
    for remark in one.remarks:
        print(remark)
    print()


def _stacked(one: Estimate | None) -> str | None:
    return None if one is None else "\n".join(text for text in (_short(one.value), interval(one), flaws(one)) if text)


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < float("inf") else f"{0.0 if abs(value) < 5e-10 else value:.4g}"


def print_fit(world: str, one: Fit, *, log_evidence: float | None = None) -> None:
    """Print how a fit went and what it reached, beside ELBO* and log Z where they are known; nats."""
    reached = _cell(one.elbo) + (f" ± {one.standard_error:.2g}" if one.samples else "")
    heads, row = ["estimator", "steps", "stopped by", "ELBO"], [one.estimator, f"{one.steps:,}", one.stopped, reached]
    known = {"ELBO*": one.elbo_star, "ELBO*-ELBO": one.gap, "log Z": log_evidence}
    heads += [name for name, value in known.items() if value is not None]
    print_table(f"{world} at α = {one.temperature:g}", heads, [row + [v for v in known.values() if v is not None]])
    note = "nats; ELBO: " + (f"mean of {one.samples:,} trajectories, ± standard error" if one.samples else "exact")
    print(f"{note}{'' if one.elbo_star is not None else '; ELBO* cannot be had'}\n")


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
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{0.0 if abs(value) < 5e-10 else value:.6g}"
    return str(value)
