"""The claims: a verdict for each, its checks, and its figure."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cai.evaluation.rows import written
from cai.support.numbers import finite
from cai.view.claim_figures import figures_of
from cai.view.reports.cells import plain_table, words
from cai.view.reports.pictures import picture
from cai.view.reports.question import asked
from cai.view.reports.sections import Fold, Head, Line, Part, Request, Section, Table, Words

INTRODUCTION = (
    "Several things are claimed for soft optimality, for policies at a temperature. Each claim was tried by one "
    "experiment. A verdict is computed from its checks by a rule that can say no: the claim holds where every check "
    "agrees, does not hold where none does, and depends where only some do."
)


def is_claim(result: Any) -> bool:
    """Return whether something is the result of an experiment."""
    return all(hasattr(result, name) for name in ("claim", "verdict", "table"))


def head_of(result: Any) -> str:
    """Return the claim as a sentence begins."""
    return str(result.claim[0].upper() + result.claim[1:])


def said(result: Any) -> str:
    """Return the verdict as a sentence, with the evidence that it rests on."""
    text = str(result.verdict.sentence(result.evidence))
    return f"{text[0].upper()}{text[1:]}."


def verdicts(request: Request) -> Iterator[Section]:
    """List the claims with their verdicts."""
    heads = (Head("verdict", wordy=True), Head("checks that agree", wordy=True))
    lines = [
        Line(f"{name}: {one.claim}", (words(one.verdict.word), words(agreeing(one))))
        for name, one in request.results.items()
    ]
    parts: list[Part] = [Words(INTRODUCTION), Table("Verdicts", "claim", heads, tuple(lines))]
    parts += [Words(note, "note") for note in request.notes]
    yield Section("verdicts", "Verdicts", tuple(parts))


def agreeing(result: Any) -> str:
    """Say how many checks agree with the claim."""
    checks = result.verdict.checks
    return f"{sum(check.holds for check in checks)} of {len(checks)}"


def claims(request: Request) -> Iterator[Section]:
    """Yield a section for each claim: its verdict, its figure, its numbers and its checks."""
    for name, result in request.results.items():
        heads, rows = result.table
        yield Section(name, head_of(result), (
            Words(said(result), "loud"),
            picture(name, "What was measured", "", figures_of, result),
            plain_table(f"{name}: what was measured", heads, rows),
            Fold("What was checked", agreeing(result) + " agree", (_checks(name, result),)),
        ), name)  # fmt: skip


def _checks(name: str, result: Any) -> Table:
    lines = [Line("yes" if check.holds else "no", (words(check.words),)) for check in result.verdict.checks]
    return Table(f"{name}: checks", "agrees", (Head("what was measured", wordy=True),), tuple(lines))


def claim_question(request: Request) -> Iterator[Section]:
    """Ask what would change the least certain verdict."""
    close = max(request.results.items(), key=lambda item: _doubt(item[1]))
    name, result = close
    against = [check.words for check in result.verdict.checks if not check.holds]
    text = f"“{head_of(result)}.” The verdict: {said(result)} Which change of the experiment would turn the verdict?"
    hint = f"Of {name}, this check does not agree: {against[0]}." if against else (
        f"All checks of {name} agree. Look for the setting at which the closest of them would fail."
    )  # fmt: skip
    yield asked(text, name, hint)


def _doubt(result: Any) -> float:
    """Return how evenly the checks are divided, from 0 to 1/2."""
    checks = result.verdict.checks
    share: float = sum(check.holds for check in checks) / max(1, len(checks))
    return min(share, 1 - share)


def claim_files(request: Request) -> dict[str, str]:
    """Return the numbers of every experiment as JSON, and its checks as CSV."""
    numbers = {
        name: {
            "claim": one.claim,
            "verdict": one.verdict.word,
            "evidence": one.evidence,
            "checks": one.verdict.lines,
            **asdict(one),
        }
        for name, one in request.results.items()
    }
    lines = [
        (name, one.verdict.word, "yes" if check.holds else "no", check.words)
        for name, one in request.results.items()
        for check in one.verdict.checks
    ]
    text = json.dumps(finite(numbers), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return {"claims.json": text, "claims.csv": written(("claim", "verdict", "agrees", "check"), lines)}
