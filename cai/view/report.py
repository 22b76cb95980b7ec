"""The report: one page that opens from disk, with every table, figure and lesson of a comparison in it."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.by_horizon import by_horizon
from cai.evaluation.comparison import Comparison
from cai.evaluation.row import Compared, Row
from cai.learn.svi.fit_result import Fit
from cai.support.files import write_whole
from cai.view import figures
from cai.view.curves import elbo_curves
from cai.view.graph import graph_figure
from cai.view.horizons import horizon_curves
from cai.view.lessons import lesson, warm_to_cold
from cai.view.scene import Scene, scene
from cai.view.sections import Cell, FitRow, Told, cell, fit_rows, told
from cai.view.style import png
from cai.view.summaries import accounts, ladder
from cai.view.words import listed, rounded, show


@dataclass(frozen=True)
class Column:
    """A column of the table: the field of ``Row``, its head, its unit, and what it means in a sentence."""

    field: str
    head: str
    unit: str
    meaning: str


COLUMNS = (
    Column("expected_return", "return", "reward units", "E_π[Σ r], the expected return under the true dynamics."),
    Column("regret", "regret", "reward units", "J* − J(π), what the return lacks of HARD's, the highest there is."),
    Column("entropy", "entropy", "nats", "E_π[Σ H(π(·|s_t))], how undecided the policy is along its way."),
    Column("kl_to_prior", "KL to prior", "nats", "E_π[Σ KL(π ‖ prior)], how far the policy strays from the prior."),
    Column("elbo", "ELBO(π)", "nats", "return/α − KL to prior: what the policy reaches. The higher the better."),
    Column("optimality_gap", "ELBO* − ELBO", "nats", "What the policy leaves on the table: zero for the best one."),
    Column("policy_nats", "policy nats", "nats", "The same gap, state by state: Σ_t E KL(π ‖ π*), π* of VARIATIONAL."),
    Column("evidence_gap", "log Z − ELBO", "nats", "KL(policy's paths ‖ posterior): the sum of the next three."),
    Column("start_nats", "start", "nats", "KL(p(s₀) ‖ p(s₀|O)): the start the posterior wishes for, the same for all."),
    Column("action_nats", "action", "nats", "Σ_t E KL(π ‖ p(a|s_t, O)): acting otherwise than the posterior does."),
    Column("luck_nats", "luck", "nats", "Σ_t E KL(p(outcome) ‖ p(outcome|O)): the luck that the posterior counts on."),
)  # fmt: skip


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
    log_evidence: Cell
    elbo_star: Cell
    rows: tuple[tuple[str, bool, tuple[Cell, ...]], ...]
    pictures: tuple[Picture, ...]
    remarks: tuple[str, ...]
    fits: tuple[FitRow, ...]
    curves: Picture | None
    told: tuple[Told, ...]

    @property
    def every_picture(self) -> tuple[Picture, ...]:
        """All pictures of the chapter."""
        return self.pictures if self.curves is None else (self.curves, *self.pictures)


def write_report(
    comparisons: Sequence[Comparison],
    folder: Path,
    *,
    title: str,
    notes: Sequence[str] = (),
    dag: nx.DiGraph | None = None,
    fits: Mapping[float, Mapping[str, Fit]] | None = None,
) -> Path:
    """Write ``report.html``, ``comparison.csv``, ``comparison.json`` and ``figures/*.png`` into a folder.

    The page holds its figures, needs no network and no script. Files are written whole or not at all, the page
    last; its path is returned.

    Args:
        comparisons: of one world, one a temperature.
        folder: made where it is missing.
        title: of the page.
        notes: further paragraphs, shown below the lessons; line breaks are kept.
        dag: the model's graph from ``cai.graph``, to be drawn too.
        fits: by temperature and name: how policies were fitted, shown in the chapter of their temperature.

    Raises:
        WorldError: there is no comparison, a temperature comes twice, the worlds differ, or fits have no chapter.
    """
    ordered, fits = warm_to_cold(comparisons), fits or {}
    _require_one_world(ordered)
    _require_chapters(ordered, fits)
    chapters = [_chapter(one, fits.get(one.temperature, {})) for one in ordered]
    rungs = Picture("ladder", "The ladder of temperatures", "Every policy at every temperature.", png(ladder(ordered)))
    model = None if dag is None else Picture("graph", "The model", "Read off the program.", png(graph_figure(dag)))
    spans = _spans(ordered)
    pictures = [
        rungs,
        *([spans] if spans else []),
        *([model] if model else []),
        *(picture for one in chapters for picture in one.every_picture),
    ]
    page = environment().get_template("report.html.jinja").render(
        title=title, notes=notes, lessons=lesson(ordered), intro=_intro(ordered), world=size_of(ordered[0].tables),
        ladder=rungs, spans=spans, model=model, chapters=chapters, columns=COLUMNS,
    )  # fmt: skip
    contents = {f"figures/{picture.name}.png": picture.content for picture in pictures}
    contents |= {"comparison.csv": all_csv(comparisons).encode(), "comparison.json": all_json(comparisons).encode()}
    write_whole(Path(folder), contents | {"report.html": page.encode()})
    for stale in Path(folder, "figures").glob("alpha-*.png"):  # of an earlier run at other temperatures
        if f"figures/{stale.name}" not in contents:
            stale.unlink()
    return Path(folder) / "report.html"


def _spans(comparisons: Sequence[Comparison]) -> Picture | None:
    found = [one for one in map(by_horizon, comparisons) if one is not None]
    horizon = comparisons[0].tables.horizon
    if not found or horizon is None:
        return None
    caption = "The exact answers at a twentieth to ten times the horizon, from one backward sweep each."
    return Picture("horizons", "How much time is enough?", caption, png(horizon_curves(found, horizon)))


def environment() -> Environment:
    """Return where the templates of the pages lie."""
    return Environment(
        loader=PackageLoader("cai.view", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _require_one_world(comparisons: Sequence[Comparison]) -> None:
    worlds = {size_of(one.tables) for one in comparisons}
    if len(worlds) > 1:
        raise fault("write_report, comparisons", "; ".join(sorted(worlds)), "comparisons of one world")


def _require_chapters(comparisons: Sequence[Comparison], fits: Mapping[float, Mapping[str, Fit]]) -> None:
    known = [one.temperature for one in comparisons]
    for alpha, named in fits.items():
        wrong = [
            f"'{name}' at temperature {one.temperature:g}" for name, one in named.items() if one.temperature != alpha
        ]
        if alpha not in known or wrong:
            seen = f"fits for temperature {alpha:g}" + (f" with {', '.join(wrong)}" if wrong else "")
            raise fault("write_report, fits", seen, f"fits made at, and listed under, one of the temperatures {known}")


def size_of(tables: Tables) -> str:
    """Say how large a world is, in words."""
    T, S, A = tables.horizon, tables.states.size, tables.actions.size
    clock = f"horizon T = {T:,}" if T is not None else "infinite horizon"
    survival = f", discount γ = {tables.discount:g}" if tables.discount < 1 else ""
    return f"{S:,} state{'s' * (S > 1)}, {A:,} action{'s' * (A > 1)}, {clock}{survival}"


def _intro(comparisons: Sequence[Comparison]) -> str:
    names = list(dict.fromkeys(row.name for one in comparisons for row in one.rows))
    alphas = [show(one.temperature) for one in comparisons]
    what = "this policy is" if len(names) == 1 else "these policies are"
    return (
        f"{listed(names)}: {what} evaluated exactly under the world's true dynamics, "
        f"at temperature α = {listed(alphas)} (reward units). "
        "Each is measured against two exact answers: log Z, the evidence that all goes optimally (POSTERIOR), and "
        "ELBO*, the best that any policy can reach (VARIATIONAL); every nat in between is accounted for."
    )


def _chapter(one: Comparison, fits: Mapping[str, Fit]) -> Chapter:
    """Lay out one temperature: tables, figures, a remark where a figure would be empty, and accounts in words."""
    ready, alpha = scene(one), show(one.temperature)
    best = max((row.elbo for row in one.rows), default=float("-inf"))
    rows = tuple((row.name, rounded(best - row.elbo, best) == 0, cells(one, row)) for row in one.rows)
    drawings = [drawing for drawing in _drawings(ready) if isinstance(drawing, Picture)]
    remarks = [remark for remark in _drawings_left_out(one) if remark]
    return Chapter(
        alpha, f"alpha-{one.temperature!r}", cell("log_evidence", one.log_evidence), cell("elbo_star", one.elbo_star),
        rows, tuple(drawings), tuple(remarks), fit_rows(fits), _curves(one, fits), told(one),
    )  # fmt: skip


def _curves(one: Comparison, fits: Mapping[str, Fit]) -> Picture | None:
    if not fits:
        return None
    drawn = elbo_curves(fits, elbo_star=one.elbo_star, log_evidence=one.log_evidence)
    caption = "ELBO(π) of each fit against its steps, and what was still missing to ELBO*."
    return Picture(f"alpha-{one.temperature!r}-fits", "How the fits went", caption, png(drawn))


def _drawings(ready: Scene) -> Iterator[Picture]:
    one = ready.comparison

    def picture(kind: str, title: str, caption: str, drawn: Callable[[Scene], Figure]) -> Picture:
        return Picture(f"alpha-{one.temperature!r}-{kind}", title, caption, png(drawn(ready)))

    if one.log_evidence is not None or one.elbo_star is not None:
        yield picture("accounts", "Where every nat goes", "The gaps of the table, drawn.", lambda _: accounts(one))
    if ready.tables.layout is not None:
        yield picture("values", "Values and policies", "Colour and number: v. Arrows: the policy.", figures.value_maps)
        yield picture("visits", "Where each policy goes", "Expected visits, all times together.", figures.visit_maps)
    yield picture("value-heat", "Value v", "What is still to come, from every state at every time.", figures.value_heat)
    yield picture("occupancy", "Occupancy", "Where the policy is, and when.", figures.occupancy_heat)
    if one.elbo_star is not None and not _nothing(one, "policy_nats"):
        yield picture("policy-nats", "Policy nats", "Where a policy falls behind.", figures.policy_nats_heat)
    if one.log_evidence is not None and not _nothing(one, "luck_nats"):
        yield picture("luck-nats", "Luck nats", "Where the posterior counts on luck.", figures.luck_nats_heat)


def _drawings_left_out(one: Comparison) -> Iterator[str]:
    if one.elbo_star is None:
        yield "No policy nats are drawn: ELBO* is not finite, so there is nothing to measure against."
    elif _nothing(one, "policy_nats"):
        yield "No policy nats are drawn: they are zero everywhere, every policy here is a best one."
    if one.log_evidence is None:
        yield "No luck nats are drawn: log Z is not finite, so there is nothing to measure against."
    elif _nothing(one, "luck_nats"):
        yield "No luck nats are drawn: they are zero everywhere, nothing that matters is left to luck."


def _nothing(one: Comparison, field: str) -> bool:
    return all(rounded(getattr(row, field), one.log_evidence or one.elbo_star) == 0 for row in one.rows)


def cells(one: Compared, row: Row) -> tuple[Cell, ...]:
    """Return one policy's numbers, a cell a column."""
    gaps = {"optimality_gap": one.elbo_star, "evidence_gap": one.log_evidence}
    found = []
    for column in COLUMNS:
        value = getattr(row, column.field)
        scale = gaps.get(column.field, 1.0 if column.unit == "nats" else 0.0)
        found.append(cell(column.field, value, rounded(value, scale) if column.field != "elbo" else value))
    return tuple(found)


def all_csv(comparisons: Sequence[Compared]) -> str:
    """Return the rows of several comparisons as one CSV."""
    first, *others = (one.csv() for one in comparisons)
    return first + "".join(text.split("\n", 1)[1] for text in others)


def all_json(comparisons: Sequence[Compared]) -> str:
    """Return several comparisons as one JSON list."""
    return json.dumps([json.loads(one.json()) for one in comparisons], indent=2) + "\n"
