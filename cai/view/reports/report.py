"""The report: one page that opens from disk, whatever was found, with its data and its figures beside it.

A page is a list of functions from a ``Request`` to sections; a kind of result is an entry of ``KINDS``.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import networkx as nx
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cai.errors import fault
from cai.evaluation.columns import Column
from cai.evaluation.compare import compare, sampled
from cai.evaluation.comparison import Comparison
from cai.evaluation.evaluation import Evaluation
from cai.evaluation.rows import as_csv
from cai.exact.messages import Messages
from cai.graphs.explanation import Explanation
from cai.learn.result import Learned
from cai.partial.belief_messages import BeliefMessages
from cai.partial.gaussian_messages import GaussianBeliefMessages
from cai.support.files import write_whole
from cai.support.numbers import show
from cai.view.readings import name_of
from cai.view.reports import claim_sections, verification_sections
from cai.view.reports import comparison_sections as comparisons
from cai.view.reports.approximation_sections import (
    approximated,
    approximation_files,
    approximation_question,
    is_approximate,
)
from cai.view.reports.belief_sections import belief_files, belief_question, first_acts, seen_game, worth
from cai.view.reports.game import game
from cai.view.reports.glance import glance
from cai.view.reports.glossary import glossary, linker, of_words
from cai.view.reports.graph_sections import eliminated, graph_files, graph_question, independence
from cai.view.reports.learned_sections import progress
from cai.view.reports.made import HOLDS, made
from cai.view.reports.question import question
from cai.view.reports.real_sections import costs, gains, marginals, portraits, system
from cai.view.reports.sections import Pairs, Picture, Request, Section, pictures_of
from cai.view.reports.twins import twins
from cai.view.sizes import size_of
from cai.view.summary import coldest_first

Sections = Callable[[Request], Iterable[Section]]


@dataclass(frozen=True)
class Kind:
    """What can be reported: results of one type, the sections of their page, its data and its usual title."""

    takes: Callable[[Any], bool]
    ready: Callable[[Request], Request]
    sections: tuple[Sections, ...]
    question: Sections
    data: Callable[[Request], dict[str, str]]
    title: str = "Comparison"


def report(
    results: Any,
    folder: str | Path,
    *,
    title: str | None = None,
    about: str = "",
    twin: tuple[str, Sequence[Comparison]] | None = None,
    notes: Sequence[str] = (),
    dag: nx.DiGraph | None = None,
    command: str = "",
) -> Path:
    """Write the page ``report.html``, its data as CSV and JSON and its figures as SVG; return the page's path.

    The page contains its figures, needs no network and no script, and follows dark mode. Files are written whole or not
    at all. What an earlier report in this folder had beside it is removed.

    Args:
        results: one of these, a list, or a dict by name: a ``Comparison`` (several are of one world at different
            temperatures); ``Messages`` or an ``Evaluation``, whose policies are compared; a ``Learned``; the result of
            an experiment of ``cai claims``; what ``cai.verify`` returns; what ``cai.partial.solve``
            returns; what ``cai.graphs.explain`` returns; what ``cai.approximate`` returns, with
            exact messages beside it or without.
        folder: made where it is missing.
        title: the title of the page; what the results are unless given.
        about: what the world is, in a few plain sentences.
        twin: the name of a twin world, and its comparisons at the same temperatures.
        notes: further paragraphs; line breaks are kept.
        dag: the model's graph from ``cai.graph``, to be drawn too.
        command: the command that made the results, for "How this was made".

    Raises:
        WorldError: there is nothing to report; a result is of another kind; a temperature comes twice; or worlds
            differ.
    """
    named = _by_name(results)
    kind = _kind(list(named.values()))
    title = kind.title if title is None else title
    request = kind.ready(Request(title, named, about, twin, dag, notes, command))
    sections = [section for make in kind.sections for section in make(request)]
    contents = {name: text.encode() for name, text in kind.data(request).items()}
    contents |= {f"figures/{one.name}{at}.svg": svg.encode() for one, at, svg in _panels(sections)}
    sections += [*made(request, list(contents)), *kind.question(request)]
    contents["report.html"] = page(title, sections).encode()
    earlier = _written_before(Path(folder))
    write_whole(Path(folder), contents)
    for name in earlier - set(contents):
        Path(folder, name).unlink(missing_ok=True)
    return Path(folder) / "report.html"


def _written_before(folder: Path) -> set[str]:
    """Return the files beside an earlier report in this folder, as far as its page names them."""
    there = folder / "report.html"
    text = there.read_text(encoding="utf-8", errors="replace") if there.is_file() else ""
    data = set(re.findall(r'<li><a href="([\w.-]+)">', text)) & set(HOLDS)
    drawn = [path for path in folder.glob("figures/*.svg") if path.is_file()]
    figures = set(re.findall(r'<figure id="figure-([^"]+)">', text))
    mine = {path.name for path in drawn if {path.stem, re.sub(r"-\d+$", "", path.stem)} & figures}
    return data | {f"figures/{name}" for name in mine}


def _by_name(results: Any) -> dict[str, Any]:
    """Return the results by name: a dict's own names, else numbers."""
    if isinstance(results, Mapping):
        return dict(results)
    each = list(results) if isinstance(results, list | tuple) else [results]
    return {str(n): one for n, one in enumerate(each)}


def _kind(each: Sequence[Any]) -> Kind:
    found = next((kind for kind in KINDS if each and all(map(kind.takes, each))), None)
    if found is None:
        seen = ", ".join(sorted({type(one).__name__ for one in each})) or "nothing"
        expected = (
            "results of one kind: comparisons (cai.report(cai.compare(world, policies), folder)), learned policies, "
            "claims, messages over beliefs, …"
        )
        raise fault("report, results", seen, expected)
    return found


def _panels(sections: Sequence[Section]) -> Iterator[tuple[Picture, str, str]]:
    """Yield every panel with its picture and what its file name ends in."""
    for section in sections:
        for one in pictures_of(section.parts):
            for n, panel in enumerate(one.panels):
                yield one, "" if len(one.panels) == 1 else f"-{n + 1}", panel


def page(title: str, sections: Sequence[Section]) -> str:
    """Write sections as a page."""
    environment = Environment(
        loader=PackageLoader("cai.view.reports", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pairs = [part for section in sections for part in section.parts if isinstance(part, Pairs)]
    anchors = {anchor for part in pairs for _, _, anchor, _ in part.entries} - {""}
    environment.filters |= {"terms": linker(anchors), "graphic": _own_ids()}
    return environment.get_template("report.html.jinja").render(title=title, sections=sections, entries=anchors)


def _own_ids() -> Callable[[str], Markup]:
    """Return a filter that gives the ids of every graphic a number of their own: two may be drawn alike."""
    numbers = count()

    def own(graphic: str) -> Markup:
        n = next(numbers)
        return Markup(re.sub(r"\bcai([0-9a-f]{8})-", rf"cai\1-{n}-", graphic))

    return own


def _ordered(request: Request) -> Request:
    """Order comparisons from the coldest on, those of a twin too, and refuse what does not belong together."""
    each = coldest_first(request.each)
    worlds = {size_of(comparison.model) for comparison in each}
    if len(worlds) > 1:
        raise fault("report, comparisons", "; ".join(sorted(worlds)), "comparisons of one world")
    twin = request.twin and (request.twin[0], coldest_first(request.twin[1]))
    if twin is not None and [one.temperature for one in twin[1]] != [one.temperature for one in each]:
        seen = f"temperatures {[one.temperature for one in twin[1]]}"
        raise fault("report, twin", seen, f"those of the world itself, {[one.temperature for one in each]}")
    return replace(request, results={show(one.temperature): one for one in each}, twin=twin)


def _sampled(request: Request) -> Request:
    """Compare learned policies by what they sampled, those of one temperature together."""
    by_alpha: dict[float, dict[str, list[Learned]]] = {}
    for name, run in request.results.items():
        shown = run.algorithm if name.isdecimal() else name
        by_alpha.setdefault(run.temperature or 1.0, {}).setdefault(shown, []).append(run)
    return _ordered(replace(request, results={show(at): sampled(runs, at) for at, runs in by_alpha.items()}))


def _compared(request: Request) -> Request:
    """Compare messages and evaluations of one world by their policies, those of one temperature together."""
    each = [(name, one) for name, result in request.results.items() for one in _entries(result)]
    model = each[0][1].model
    if any(one.model is not model for _, one in each):
        raise fault("report, results", "results of several worlds", "results of one compiled world")
    by_alpha: dict[float, dict[str, Any]] = {}
    for name, one in each:
        named = by_alpha.setdefault(float(one.temperature), {})
        shown = name_of(one) if name.isdecimal() else name
        named[shown if shown not in named else f"{shown} {name}"] = one.policy
    found = {show(at): compare(model, policies, temperature=at) for at, policies in by_alpha.items()}
    return _ordered(replace(request, results=found))


def _entries(result: Messages | Evaluation) -> list[Messages | Evaluation]:
    """Return the entries of a batch of messages."""
    if isinstance(result, Evaluation) or not result.batch_shape:
        return [result]
    return [entry for i in range(result.batch_shape[0]) for entry in _entries(result[i])]


def _as_they_are(request: Request) -> Request:
    return request


def _numbers(request: Request) -> dict[str, str]:
    """Return the numbers of comparisons, and of a twin's, by file name."""
    files = comparison_files("comparison", request.each)
    if any(comparison.runs for comparison in request.each):
        first, *others = (comparison.runs_csv() for comparison in request.each if comparison.runs)
        files["runs.csv"] = first + "".join(text.split("\n", 1)[1] for text in others)
    return files | (comparison_files("twin", request.twin[1]) if request.twin else {})


def comparison_files(name: str, comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return comparisons as CSV and JSON."""
    every: dict[str, Column] = {column.field: column for one in comparisons for column in one.columns}
    rows = [row for one in comparisons for row in one.rows]
    return {
        f"{name}.csv": as_csv(list(every.values()), rows),
        f"{name}.json": json.dumps([one.plain() for one in comparisons], indent=2) + "\n",
    }


COMPARED: tuple[Sections, ...] = (
    game, system, glance, twins, progress, marginals, portraits, costs, gains, comparisons.across,
    comparisons.temperatures, comparisons.model, comparisons.reading, glossary,
)  # fmt: skip
"""The sections of a comparison, in their order; each yields none where it has nothing to say."""

KINDS: tuple[Kind, ...] = (
    Kind(lambda one: isinstance(one, Comparison), _ordered, COMPARED, question, _numbers),
    Kind(lambda one: isinstance(one, Learned), _sampled, COMPARED, question, _numbers),
    Kind(lambda one: isinstance(one, Messages | Evaluation), _compared, COMPARED, question, _numbers),
    Kind(
        lambda one: isinstance(one, BeliefMessages | GaussianBeliefMessages), _as_they_are,
        (seen_game, worth, first_acts, of_words), belief_question, belief_files, "A world seen in part",
    ),
    Kind(
        lambda one: isinstance(one, Explanation), _as_they_are,
        (independence, eliminated, of_words), graph_question, graph_files, "The graph",
    ),
    Kind(
        is_approximate, _as_they_are,
        (approximated, of_words), approximation_question, approximation_files, "Approximation",
    ),
    Kind(
        claim_sections.is_claim, _as_they_are,
        (claim_sections.verdicts, claim_sections.claims, of_words),
        claim_sections.claim_question, claim_sections.claim_files, "Claims",
    ),
    Kind(
        verification_sections.is_verification, _as_they_are,
        (verification_sections.verdicts, verification_sections.matrix, verification_sections.probes, of_words),
        verification_sections.verification_question, verification_sections.verification_files, "Unit tests",
    ),
)  # fmt: skip
"""What can be reported. A new section is a name in one of these; a new kind of result is an entry."""
