"""Unit tests of a learner: a verdict for each probe, the nats from each answer, and the probes one by one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cai.evaluation.rows import written
from cai.support.numbers import between, brief
from cai.verification.diagnosis import Average, Diagnosis
from cai.verification.hypotheses import RIGHT
from cai.verification.junit import junit_xml
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import Probe
from cai.verification.probes import PROBES
from cai.verification.verification import Verification
from cai.view.hypothesis_figure import nats_from_answers
from cai.view.reports.cells import number, words
from cai.view.reports.pictures import picture
from cai.view.reports.question import asked
from cai.view.reports.sections import Cell, Fold, Head, Items, Line, Part, Request, Section, Table, Words

INTRODUCTION = (
    "Each probe is a small world on which one kind of mistake changes what is learned. The right answer and that of "
    "every mistake are exact, so it can be said which of them a learner has learned. The nats from an answer are the "
    "KL from the learned policy to that of the answer, over an episode: the mean over seeds with a 95 % interval."
)
NEAREST = 5
"""The answers of a probe that are listed."""


def is_verification(result: Any) -> bool:
    """Return whether something is what ``cai.verify`` returns."""
    return isinstance(result, Verification)


def verdicts(request: Request) -> Iterator[Section]:
    """Give the verdicts of each learner as a table, and the cause of its failures."""
    for n, (name, found) in enumerate(request.results.items()):
        parts: list[Part] = [Words(found.summary, "loud")]
        parts += [Items(tuple(found.remarks))] if found.remarks else []
        parts += [Words(INTRODUCTION), _table(name, found), *(Words(note, "note") for note in request.notes)]
        yield Section(f"verdicts-{n}", f"{_head(request, name)}Verdicts under {found.rule}", tuple(parts), "Verdicts")


def _head(request: Request, name: str) -> str:
    return f"{name}: " if len(request.results) > 1 else ""


def _table(name: str, found: Verification) -> Table:
    heads = (
        Head("verdict", wordy=True), Head("mistake", wordy=True), Head("from right", "nats", ruled=True),
        Head("from it", "nats"), Head("short", "nats"), Head("return", "reward units", ruled=True), Head("seeds"),
    )  # fmt: skip
    note = (
        "Mistake: the one that the policy is held against, the first cause of a failure or what a passed probe is made "
        "for. Nats short: ELBO* − ELBO(π)."
    )
    return Table(f"Verdicts, {name}", "probe", heads, tuple(map(_line, found.verdicts)), note)


def _line(one: Diagnosis) -> Line:
    nats = [_average(one.distances.get(name)) for name in (RIGHT, one.rival)]
    worth = [replace(_average(average), interval="") for average in (one.nats_short, one.expected_return)]
    seeds = number(float(len(one.seeds))) if one.seeds else number(None)
    return Line(one.probe, (words(one.verdict), words(one.rival), *nats, *worth, seeds))


def _average(average: Average | None) -> Cell:
    if average is None:
        return number(None)
    interval = between(average.low, average.high) if average.low < average.high < float("inf") else ""
    return Cell(brief(average.value), repr(average.value), interval=interval)


def matrix(request: Request) -> Iterator[Section]:
    """Draw the nats from each answer, a row a probe."""
    for n, (name, found) in enumerate(request.results.items()):
        if any(one.distances for one in found.verdicts):
            caption = (
                "Less than 0.01 nats is drawn as nothing: a column without colour explains all that was learned. A "
                "ring: the mistake that the policy is held against. Hatched: the mistake determines no answer there. "
                "Mistakes that make no difference on these probes are left out."
            )
            drawn = picture(f"nats-{n}", "Nats from each exact answer", caption, nats_from_answers, found)
            yield Section(f"answers-{n}", f"{_head(request, name)}Which answer was learned?", (drawn,), "Answers")


def probes(request: Request) -> Iterator[Section]:
    """Say each probe's verdict in words, with its nearest answers and its world."""
    for n, (name, found) in enumerate(request.results.items()):
        folds = tuple(Fold(one.probe, _lead(one), tuple(_told(one))) for one in found.verdicts)
        yield Section(f"probes-{n}", f"{_head(request, name)}The probes, one by one", folds, "Probes")


def _lead(one: Diagnosis) -> str:
    """Return the verdict, with the first cause of a failure."""
    return f"{one.verdict}, {one.causes[0]}" if one.causes else one.verdict


def _told(one: Diagnosis) -> Iterator[Part]:
    yield Words(one.words, "loud")
    near = sorted(one.distances.items(), key=lambda item: item[1].value)
    if near:
        told = [f"{brief(average.value)} nats from {_whose(name)}" for name, average in near[:NEAREST]]
        yield Items(tuple(told))
    probe = PROBES.get(one.probe)
    if probe is not None:
        yield Words(probe.words)
        yield _world(probe)


def _whose(name: str) -> str:
    return "the right answer" if name == RIGHT else f"{name}: {MISTAKES[name].words}"


def _world(probe: Probe) -> Table:
    """Lay out a probe's world: where each action leads and what it pays."""
    heads = (Head("action", wordy=True), Head("leads to", wordy=True))
    every = [outcome for row in probe.rows.values() for outcomes in row.values() for outcome in outcomes]
    acted_in = {*probe.start, *(state for _, state, _, over in every if not over)}
    lines = [
        Line(state, (words(action), words("; ".join(map(_outcome, outcomes)))))
        for state, row in probe.rows.items()
        for action, outcomes in row.items()
        if state in acted_in
    ]
    start = ", ".join(f"{state} {brief(chance)}" for state, chance in probe.start.items())
    ends = f"T = {probe.horizon}, " if probe.horizon else ""
    cut = f", cut off after {probe.cut} step" if probe.cut else ""
    note = f"Start: {start}. {ends}γ = {brief(probe.discount)}, α = {brief(probe.temperature)} reward units{cut}."
    return Table(f"The world of {probe.name}", "state", heads, tuple(lines), note)


def _outcome(outcome: tuple[float, str, float, bool]) -> str:
    chance, state, reward, over = outcome
    likely = "" if chance == 1 else f"{brief(chance)}: "
    return f"{likely}{'the end' if over else state}, reward {brief(reward)}"


def verification_question(request: Request) -> Iterator[Section]:
    """Ask for a line of code, where a cause is named; else for the mistake that would be seen last."""
    name, found = next(iter(request.results.items()))
    if found.cause:
        causes = [names[0] for names in (found.cause, found.second_cause) if names]
        agent = " and ".join(MISTAKES[cause].words for cause in causes)
        text = f"{name} is {agent}. Which line of its code would you look at first?"
        yield asked(text, ", ".join(causes), f"Probes that this explains: {', '.join(found.explained)}.")
        return
    apart = {one.probe: one.distances[one.rival].value for one in found.verdicts if one.verdict == "pass"}
    closest = min(apart, key=lambda probe: apart[probe], default="")
    text = "Which mistake would be the hardest to see on these probes, and what would have to change to see it better?"
    hint = "Look for the probe whose mistake is the fewest nats from the right answer."
    if apart:
        hint = f"On {closest} the mistake is {brief(apart[closest])} nats away, the least of those that pass."
    yield asked(text, "nats from it", hint)


def verification_files(request: Request) -> dict[str, str]:
    """Return the verdicts as JSON, as CSV and as JUnit XML; of several learners a file each."""
    files = {}
    for n, (name, found) in enumerate(request.results.items()):
        at = "" if len(request.results) == 1 else f"-{n + 1}"
        files[f"verification{at}.json"] = found.json() + "\n"
        heads, *lines = found.lines
        files[f"verification{at}.csv"] = written(heads, lines)
        files[f"verification{at}.xml"] = junit_xml(found, name)
    return files
