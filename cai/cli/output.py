"""The output of commands: rows, comparisons, what was left out, and the report."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cai
from cai.cli.app import print_json, say
from cai.learn.result import Learned
from cai.support.progress import working

if TYPE_CHECKING:
    import networkx as nx

    from cai.evaluation.comparison import Comparison


def say_left_out(name: str, temperature: float, reason: object) -> None:
    """Print why an answer is left out."""
    say(f"{name} left out at α = {temperature:g}: {reason}")


def say_all_left_out(comparisons: "Sequence[Comparison]") -> None:
    """Print what each comparison leaves out."""
    for comparison in comparisons:
        for name, reason in comparison.left_out.items():
            say_left_out(name, comparison.temperature, reason)


def show_rows(title: str, heads: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print_json(rows)
        return
    from cai.view.terminal import print_table

    print_table(title, heads, [list(row.values()) for row in rows])


def show_comparisons(title: str, comparisons: "Sequence[Comparison]", *, as_json: bool) -> None:
    """Print comparisons, with the fits among them, as tables or as JSON; on stderr what each leaves out."""
    say_all_left_out(comparisons)
    if as_json:
        print_json([_plain(comparison) for comparison in comparisons])
        return
    from cai.view.terminal import print_comparison

    for comparison in comparisons:
        print_comparison(title, comparison)


def _plain(comparison: "Comparison") -> dict[str, Any]:
    from cai.learn.trained import fit_record

    fits = ((name, run) for name, (run, *_) in comparison.runs.items() if isinstance(run, Learned) and run.estimator)
    records = [fit_record(name, run, comparison.log_evidence) for name, run in fits]
    return comparison.plain() | ({"fits": records} if records else {})


def write_report(
    spec: str,
    title: str,
    dag: "nx.DiGraph | None",
    results: Any,
    out: Path,
    *,
    notes: Sequence[str] = (),
    twin: "tuple[str, Sequence[Comparison]] | None" = None,
) -> None:
    """Write the report of what was found, and say where it is; nothing where nothing was.

    Args:
        spec: the name of the world, under which its own words are found.
        title: the title of the page.
        dag: the world's graph, to be drawn; None for none.
        results: what ``cai.report`` takes.
        out: the folder.
        notes: further paragraphs.
        twin: a twin world's name and comparisons.
    """
    if not results:
        return
    from cai.view.reports.about import about_world

    told: dict[str, Any] = {"title": title, "about": about_world(spec), "twin": twin, "notes": notes, "dag": dag}
    with working("writing the report"):
        page = cai.report(results, out, command=shlex.join(["cai", *sys.argv[1:]]), **told)
    print(f"report: {page.resolve()}")
