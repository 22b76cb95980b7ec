"""The report of a world whose variables are kept apart: the same accounts, and its own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from cai.compile.factor_model import Factors
from cai.errors import fault
from cai.evaluation.comparison import FactoredComparison
from cai.evaluation.separate import split
from cai.exact.factors.cases import Cost
from cai.exact.factors.factored_sweep import LONG, prepare
from cai.exact.rules import POSTERIOR
from cai.support.files import write_whole
from cai.view.entanglement import entanglement_figure
from cai.view.graph import graph_figure
from cai.view.report import COLUMNS, Picture, all_csv, all_json, cells, environment
from cai.view.sections import cell, told
from cai.view.style import png
from cai.view.summaries import accounts, ladder
from cai.view.variables import variable_curves
from cai.view.words import rounded, show

GRAPH = 24
"""Nodes up to which the graph is drawn: more are a thicket."""


def describe_factors(factors: Factors) -> str:
    """Say how large a world is, in one line, and what one backup of it costs."""
    costs = _costs(factors)
    work, peak = sum(one.work for one in costs), max(one.peak for one in costs)
    n, S, A = len(factors.states.names), factors.states.size, factors.actions.size
    clock = f"T = {factors.horizon}" if factors.horizon is not None else "infinite horizon"
    size = f"{n} state variables, {S:,} joint states, {A:,} actions, {clock}, γ = {factors.discount:g}"
    apart = f" in {len(costs)} separate parts" if len(costs) > 1 else ""
    return f"{size}; a backup{apart}: {work:.3g} multiplications, {8 * peak:.3g} bytes"


def is_long(factors: Factors) -> bool:
    """Tell whether a sweep takes so long that what it will cost should be said before it."""
    return (factors.horizon or 1) * sum(one.work for one in _costs(factors)) > LONG


def _costs(factors: Factors) -> list[Cost]:
    return [prepare(part).cost(POSTERIOR) for part in split(factors) or [factors]]


def write_factored_report(
    comparisons: Sequence[FactoredComparison],
    folder: Path,
    *,
    title: str,
    notes: Sequence[str] = (),
    dag: nx.DiGraph | None = None,
) -> Path:
    """Write ``report.html``, ``comparison.csv``, ``comparison.json`` and ``figures/*.png``, whole or not at all.

    Args:
        comparisons: of one world, one a temperature.
        folder: made where it is missing.
        title: of the page.
        notes: further paragraphs.
        dag: the model's graph, drawn where it is small enough to be read.

    Raises:
        WorldError: there is no comparison, or a temperature comes twice.
    """
    temperatures = [one.temperature for one in comparisons]
    if not comparisons or len(set(temperatures)) < len(temperatures):
        raise fault("comparisons", f"temperatures {temperatures}", "at least one, each temperature once")
    ordered = sorted(comparisons, key=lambda one: -one.temperature)
    model = _model(ordered[0].factors, dag)
    rungs = Picture("ladder", "The ladder of temperatures", "Every policy at every temperature.", png(ladder(ordered)))
    chapters = [_chapter(one) for one in ordered]
    page = environment().get_template("factored.html.jinja").render(
        title=title, world=describe_factors(ordered[0].factors), notes=notes, model=model, ladder=rungs,
        chapters=chapters, columns=COLUMNS,
    )  # fmt: skip
    pictures = [rungs, *model, *(picture for one in chapters for picture in one["pictures"])]
    contents = {f"figures/{one.name}.png": one.content for one in pictures}
    contents |= {"comparison.csv": all_csv(ordered).encode(), "comparison.json": all_json(ordered).encode()}
    write_whole(Path(folder), contents | {"report.html": page.encode()})
    return Path(folder) / "report.html"


def _model(factors: Factors, dag: nx.DiGraph | None) -> list[Picture]:
    found = []
    if dag is not None and len(dag) <= GRAPH:
        found.append(Picture("graph", "The model", "Read off the program.", png(graph_figure(dag))))
    largest = max(split(factors) or [factors], key=lambda part: part.states.size)
    caption = "Which variables the backward message ties as they are summed out."
    found.append(Picture("elimination", "One backup", caption, png(entanglement_figure(largest))))
    return found


def _chapter(one: FactoredComparison) -> dict[str, Any]:
    """Lay out one temperature: the table, where every nat goes, and how the variables fare."""
    best, alpha = max(row.elbo for row in one.rows), one.temperature
    pictures = []
    if one.log_evidence is not None or one.elbo_star is not None:
        caption = "The gaps of the table, drawn."
        pictures.append(Picture(f"alpha-{alpha!r}-accounts", "Where every nat goes", caption, png(accounts(one))))
    if one.factors.horizon is not None:
        caption = "The mean of every state variable, time by time."
        drawn = png(variable_curves(one))
        pictures.append(Picture(f"alpha-{alpha!r}-variables", "How each variable fares", caption, drawn))
    return {
        "alpha": show(alpha),
        "anchor": f"alpha-{alpha!r}",
        "log_evidence": cell("log_evidence", one.log_evidence),
        "elbo_star": cell("elbo_star", one.elbo_star),
        "rows": [(row.name, rounded(best - row.elbo, best) == 0, cells(one, row)) for row in one.rows],
        "pictures": pictures,
        "told": told(one),
    }
