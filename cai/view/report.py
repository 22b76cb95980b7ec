"""The report: one page that opens from disk, with every table, figure and account of a comparison in it."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cai.compile.factor_model import Factors
from cai.errors import fault
from cai.evaluation.by_horizon import by_horizon
from cai.evaluation.columns import Column
from cai.evaluation.comparison import Comparison
from cai.evaluation.rows import as_csv
from cai.learn.result import Learned
from cai.support.files import write_whole
from cai.support.numbers import MINUS, rounded, show
from cai.support.wording import listed
from cai.view import figures
from cai.view.cells import Cell, Line, Losses, cell, lines_of, losses_of, ruled_columns
from cai.view.curves import elbo_curves
from cai.view.entanglement import entanglement_figure
from cai.view.graph_figure import graph
from cai.view.horizon_figures import horizon_curves
from cai.view.learned import loss_maps, performance_profiles
from cai.view.learning import nats_curves, return_curves
from cai.view.scene import scene
from cai.view.sizes import largest_part, size_of
from cai.view.style import png
from cai.view.summaries import accounts, ladder
from cai.view.summary import summary, warm_to_cold
from cai.view.variables import variable_curves

GRAPH = 24
"""Nodes up to which the graph of a world whose variables are kept apart is drawn: more are a thicket."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its file name, its title, the words under it, and the PNG itself."""

    name: str
    title: str
    caption: str
    content: bytes

    @property
    def source(self) -> str:
        """The picture as a data address, so that the page needs no other file."""
        return "data:image/png;base64," + base64.b64encode(self.content).decode("ascii")


@dataclass(frozen=True)
class Chapter:
    """What the report says of one temperature."""

    alpha: str
    anchor: str
    answers: tuple[tuple[str, Cell], ...]
    lines: tuple[Line, ...]
    pictures: tuple[Picture, ...]
    remarks: tuple[str, ...]
    losses: tuple[Losses, ...]


def report(
    comparisons: Comparison | Sequence[Comparison],
    folder: str | Path,
    *,
    title: str = "Comparison",
    notes: Sequence[str] = (),
    dag: nx.DiGraph | None = None,
) -> Path:
    """Write a comparison as a page, ``report.html``, beside ``comparison.csv``, ``comparison.json`` and ``figures/``.

    With learners ``runs.csv`` has a line a run. The page holds its figures, needs no network and no script. Files are
    written whole or not at all, the page last; its path is returned.

    Args:
        comparisons: one, or several of one world at different temperatures.
        folder: made where it is missing.
        title: of the page.
        notes: further paragraphs, shown below the summary; line breaks are kept.
        dag: the model's graph from ``cai.graph``, to be drawn too.

    Raises:
        WorldError: there is no comparison, a temperature comes twice, or the worlds differ.
    """
    ordered = warm_to_cold([comparisons] if isinstance(comparisons, Comparison) else comparisons)
    _require_one_world(ordered)
    columns = _columns(ordered)
    chapters = [_chapter(comparison, columns) for comparison in ordered]
    across, model = list(_across(ordered)), list(_model(ordered[0], dag))
    page = _environment().get_template("report.html.jinja").render(
        title=title, notes=notes, summary=summary(ordered), intro=_intro(ordered), world=size_of(ordered[0].model),
        across=across, model=model, chapters=chapters, columns=ruled_columns(columns),
        over_seeds=any(len(row.seeds) > 1 for comparison in ordered for row in comparison.rows),
    )  # fmt: skip
    drawn = [picture for chapter in chapters for picture in chapter.pictures]
    contents = {f"figures/{picture.name}.png": picture.content for picture in [*across, *model, *drawn]}
    write_whole(Path(folder), contents | _numbers(ordered) | {"report.html": page.encode()})
    for stale in Path(folder, "figures").glob("alpha-*.png"):  # of an earlier run at other temperatures
        if f"figures/{stale.name}" not in contents:
            stale.unlink()
    return Path(folder) / "report.html"


def _numbers(comparisons: Sequence[Comparison]) -> dict[str, bytes]:
    every = {column.field: column for comparison in comparisons for column in comparison.columns}
    rows = [row for comparison in comparisons for row in comparison.rows]
    texts = {
        "comparison.csv": as_csv(list(every.values()), rows),
        "comparison.json": json.dumps([comparison.plain() for comparison in comparisons], indent=2) + "\n",
    }
    if any(comparison.runs for comparison in comparisons):
        first, *others = (comparison.runs_csv() for comparison in comparisons if comparison.runs)
        texts["runs.csv"] = first + "".join(text.split("\n", 1)[1] for text in others)
    return {name: text.encode() for name, text in texts.items()}


def _columns(comparisons: Sequence[Comparison]) -> list[Column]:
    """Return the columns of the page: those that any of the comparisons shows."""
    return list({column.field: column for comparison in comparisons for column in comparison.shown}.values())


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cai.view", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _require_one_world(comparisons: Sequence[Comparison]) -> None:
    worlds = {size_of(comparison.model) for comparison in comparisons}
    if len(worlds) > 1:
        raise fault("report, comparisons", "; ".join(sorted(worlds)), "comparisons of one world")


def _intro(comparisons: Sequence[Comparison]) -> str:
    names = list(dict.fromkeys(row.name for comparison in comparisons for row in comparison.rows))
    alphas = listed([show(comparison.temperature) for comparison in comparisons])
    if comparisons[0].model is None:
        return f"{listed(names)}, at temperature α = {alphas} (reward units), by what was sampled while learning."
    return (
        f"{listed(names)}, evaluated exactly under the world's true dynamics at temperature α = {alphas} (reward "
        "units). Each is measured against two exact answers: log Z, the evidence that all goes optimally (POSTERIOR), "
        "and ELBO*, the best that any policy can reach (VARIATIONAL); every nat in between is accounted for."
    )


def _across(comparisons: Sequence[Comparison]) -> Iterator[Picture]:
    """Draw what spans all temperatures."""
    first = comparisons[0]
    if first.model is None:
        return
    caption = "Every policy at every temperature."
    yield Picture("ladder", "The ladder of temperatures", caption, png(ladder(comparisons)))
    spans = [span for span in map(by_horizon, comparisons) if span is not None]
    if spans and first.model.horizon is not None:
        caption = "The exact answers at a twentieth to ten times the horizon, from one backward sweep each."
        drawn = png(horizon_curves(spans, first.model.horizon))
        yield Picture("horizons", "How much time is enough?", caption, drawn)


def _model(comparison: Comparison, dag: nx.DiGraph | None) -> Iterator[Picture]:
    """Draw the model, and of a world whose variables are kept apart how a backup ties them."""
    model = comparison.model
    if dag is not None and (len(dag) <= GRAPH or not isinstance(model, Factors)):
        yield Picture("graph", "The model", "Read off the program.", png(graph(dag)))
    if isinstance(model, Factors):
        caption = "Which variables the backward message ties as they are summed out."
        yield Picture("elimination", "One backup", caption, png(entanglement_figure(largest_part(model))))


def _chapter(comparison: Comparison, columns: Sequence[Column]) -> Chapter:
    """Lay out one temperature: tables, figures, a remark where a figure would be empty, and accounts in words."""
    log_z, star = cell("log_evidence", comparison.log_evidence), cell("elbo_star", comparison.elbo_star)
    answers = ("log Z, the evidence (POSTERIOR)", log_z), ("ELBO*, the best any policy can reach (VARIATIONAL)", star)
    remarks = [*(text.replace(" -inf", f" {MINUS}∞") for text in comparison.remarks), *_not_drawn(comparison)]
    remarks += [f"{name} is left out: {why}" for name, why in comparison.left_out.items()]
    return Chapter(
        alpha=show(comparison.temperature),
        anchor=f"alpha-{comparison.temperature!r}",
        answers=answers if comparison.model is not None else (),
        lines=lines_of(comparison, columns),
        pictures=tuple(_pictures(comparison)),
        remarks=tuple(remarks),
        losses=losses_of(comparison),
    )


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    def picture(kind: str, title: str, caption: str, draw: Callable[[], Figure]) -> Picture:
        return Picture(f"alpha-{comparison.temperature!r}-{kind}", title, caption, png(draw()))

    measurable = comparison.log_evidence is not None or comparison.elbo_star is not None
    if measurable:
        yield picture("accounts", "Where every nat goes", "The gaps of the table, drawn.", lambda: accounts(comparison))
    if isinstance(comparison.model, Factors) and comparison.model.horizon is not None:
        caption = "The mean of every state variable, time by time."
        yield picture("variables", "How each variable fares", caption, lambda: variable_curves(comparison))
    if comparison.runs:
        yield from _learning(comparison, picture)
    if comparison.tables is None or not comparison.evaluations:
        return
    ready = scene(comparison)
    if comparison.tables.layout is not None:
        caption = "Colour and number: v. Arrows: the policy."
        yield picture("values", "Values and policies", caption, lambda: figures.value_maps(ready))
        caption = "Expected visits, all times together."
        yield picture("visits", "Where each policy goes", caption, lambda: figures.visit_maps(ready))
    caption = "What is still to come, from every state at every time."
    yield picture("value-heat", "Value v", caption, lambda: figures.value_heat(ready))
    caption = "Where the policy is, and when."
    yield picture("occupancy", "Occupancy", caption, lambda: figures.occupancy_heat(ready))
    if comparison.elbo_star is not None and not _nothing(comparison, "policy_nats"):
        caption = "Where a policy falls behind."
        yield picture("policy-nats", "Policy nats", caption, lambda: figures.policy_nats_heat(ready))
    if comparison.log_evidence is not None and not _nothing(comparison, "luck_nats"):
        caption = "Where the posterior counts on luck."
        yield picture("luck-nats", "Luck nats", caption, lambda: figures.luck_nats_heat(ready))


def _learning(
    comparison: Comparison, picture: Callable[[str, str, str, Callable[[], Figure]], Picture]
) -> Iterator[Picture]:
    fits = {name: run for name, (run, *_) in comparison.runs.items() if isinstance(run, Learned) and run.estimator}
    if fits:
        ends = {"elbo_star": comparison.elbo_star, "log_evidence": comparison.log_evidence}
        caption = "ELBO(π) of each fit against its steps, and what was still missing to ELBO*."
        yield picture("fits", "How the fits went", caption, lambda: elbo_curves(fits, **ends))
    if any("policy_nats" in curves for name, curves in comparison.curves.items() if name not in fits):
        caption = "What is missing to ELBO*, step by step."
        yield picture("learning", "Policy nats while learning", caption, lambda: nats_curves(comparison))
    if any("stochastic_return" in curves for curves in comparison.curves.values()):
        caption = "By chance, and by the likeliest action."
        yield picture("returns", "Returns while learning", caption, lambda: return_curves(comparison))
    if comparison.profiles:
        caption = "How many runs score above what."
        yield picture("profiles", "Performance profiles", caption, lambda: performance_profiles(comparison))
    if comparison.tables is not None and comparison.tables.layout is not None and comparison.elbo_star is not None:
        caption = "Policy nats on the map."
        yield picture("losses", "Where each learner still loses", caption, lambda: loss_maps(comparison))


def _not_drawn(comparison: Comparison) -> Iterator[str]:
    """Say why a figure of nats is missing."""
    if comparison.tables is None or not comparison.evaluations:
        return
    if comparison.elbo_star is None:
        yield "No policy nats are drawn: ELBO* is not finite, so there is nothing to measure against."
    elif _nothing(comparison, "policy_nats"):
        yield "No policy nats are drawn: they are zero everywhere, every policy here is a best one."
    if comparison.log_evidence is None:
        yield "No luck nats are drawn: log Z is not finite, so there is nothing to measure against."
    elif _nothing(comparison, "luck_nats"):
        yield "No luck nats are drawn: they are zero everywhere, nothing that matters is left to luck."


def _nothing(comparison: Comparison, field: str) -> bool:
    values = [float(getattr(evaluation, field).sum()) for evaluation in comparison.evaluations.values()]
    return all(rounded(value, comparison.log_evidence or comparison.elbo_star) == 0 for value in values)
