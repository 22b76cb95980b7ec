"""A learner's row in a comparison, and rows as text, CSV and plain data."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cai.evaluation.across_seeds import Estimate, over_seeds, worst_gap
from cai.evaluation.evaluate import Evaluation
from cai.evaluation.row import Row, possible
from cai.learn.result import Learned


@dataclass(frozen=True)
class LearnerRow:
    """What the seeds of one learner reached, an ``Estimate`` each; None where no seed's number is known.

    Attributes:
        name: of the learner.
        seeds: how many runs.
        stopped: why they ended, and how many for each reason.
        expected_return: E_π[Σ r] of the final policy, reward units: exact where there are tables.
        regret: J* - J(π) of the final policy, reward units; known where there are tables.
        entropy: E_π[Σ H(π(·|s_t))] of the final policy, nats.
        elbo: ELBO(π) of the final policy, nats.
        policy_nats: ELBO* - ELBO(π) of the final policy, nats.
        worst_policy_nats: the largest policy nats at or after the smallest, nats.
        luck_nats: what the posterior counts on along the final policy's way, nats.
        deterministic_return: the final return of the most probable action, reward units.
        worst_return: the lowest such return at or after the highest, reward units.
        steps: environment steps taken.
        seconds: CPU seconds of learning.
    """

    name: str
    seeds: int
    stopped: Mapping[str, int]
    expected_return: Estimate | None
    regret: Estimate | None
    entropy: Estimate | None
    elbo: Estimate | None
    policy_nats: Estimate | None
    worst_policy_nats: Estimate | None
    luck_nats: Estimate | None
    deterministic_return: Estimate | None
    worst_return: Estimate | None
    steps: Estimate | None
    seconds: Estimate | None

    def estimates(self) -> Iterator[tuple[str, Estimate | None]]:
        """Yield every number with its name."""
        yield from ((name, getattr(self, name)) for name in NUMBERS)


NUMBERS = tuple(one.name for one in fields(LearnerRow) if one.name not in {"name", "seeds", "stopped"})


def learner_row(name: str, runs: Sequence[Learned], evaluations: Sequence[Evaluation]) -> LearnerRow:
    """Put the runs of one learner into a row; without evaluations, what its histories say of the final policies."""
    last = [run.history[-1] for run in runs]
    sampled: dict[str, Sequence[float | None]] = {
        "expected_return": [one.stochastic_return for one in last],
        "regret": [None for _ in last],
        "entropy": [one.entropy for one in last],
        "elbo": [one.elbo for one in last],
        "policy_nats": [one.policy_nats for one in last],
        "luck_nats": [None for _ in last],
    }
    exact: dict[str, Sequence[float | None]] = {
        "expected_return": [one.expected_return for one in evaluations],
        "regret": [_total(one, "regret_per_state") for one in evaluations],
        "entropy": [one.entropy for one in evaluations],
        "elbo": [one.elbo for one in evaluations],
        "policy_nats": [_total(one, "policy_nats") for one in evaluations],
        "luck_nats": [_total(one, "luck_nats") for one in evaluations],
    }
    held: dict[str, Sequence[float | None]] = {
        "worst_policy_nats": [worst_gap(run) for run in runs],
        "deterministic_return": [one.deterministic_return for one in last],
        "worst_return": [run.worst_after_best for run in runs],
        "steps": [float(run.steps) for run in runs],
        "seconds": [run.seconds for run in runs],
    }
    numbers = {field: over_seeds(each) for field, each in {**(exact if evaluations else sampled), **held}.items()}
    return LearnerRow(name, len(runs), dict(Counter(run.stopped for run in runs)), **numbers)


def _total(one: Evaluation, field: str) -> float | None:
    """Return the sum of an account; None where the exact answer behind it is not finite."""
    total: float | None = possible(lambda: float(getattr(one, field).sum()))
    return total


def table(exact: Sequence[Row], learned: Sequence[LearnerRow]) -> str:
    """Return the rows as aligned text: a learner's numbers with their intervals below."""
    lines = [("name", "seeds", *NUMBERS)]
    lines += [(row.name, "-", *(_number(getattr(row, field, None)) for field in NUMBERS)) for row in exact]
    for row in learned:
        found = [one for _, one in row.estimates()]
        lines.append((row.name, str(row.seeds), *(_number(one.value if one else None) for one in found)))
        lines.append(("", "", *(interval(one) if one else "" for one in found)))
        if any(one and flaws(one) for one in found):
            lines.append(("", "", *(flaws(one) if one else "" for one in found)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    cells = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in cells)


def interval(one: Estimate) -> str:
    """Write the interval of an estimate, empty where it is a point."""
    return f"[{_number(one.low, 3)}, {_number(one.high, 3)}]" if one.low != one.high else ""


def flaws(one: Estimate) -> str:
    """Say how many runs are infinite or not known; empty where none is."""
    N, found = len(one.runs), []
    if one.infinite:
        sign = "-" if any(run == -math.inf for run in one.runs) else ""
        found.append(f"{one.infinite}/{N} {sign}inf")
    if one.unknown:
        found.append(f"{one.unknown}/{N} unknown")
    return ", ".join(found)


def rows_csv(exact: Sequence[Row], learned: Sequence[LearnerRow]) -> str:
    """Return a line a row: every number with its interval and its count of infinite runs; an empty cell for None."""
    parts = ("", "_low", "_high", "_infinite")
    heads = ["name", "seeds", *(field + part for field in NUMBERS for part in parts)]
    lines: list[list[Any]] = []
    for row in exact:
        lines.append([row.name, 0, *(cell for field in NUMBERS for cell in (getattr(row, field, None), "", "", ""))])
    for one in learned:
        found = [(e.value, e.low, e.high, e.infinite) if e else ("",) * 4 for _, e in one.estimates()]
        lines.append([one.name, one.seeds, *(cell for cells in found for cell in cells)])
    return _written(heads, lines)


def runs_csv(learned: Sequence[LearnerRow], runs: Mapping[str, Sequence[Learned]]) -> str:
    """Return a line a run: its learner, its seed, why it ended, and every number of it."""
    lines = [
        [row.name, run.seed, run.stopped, *(one.runs[i] if one else None for _, one in row.estimates())]
        for row in learned
        for i, run in enumerate(runs[row.name])
    ]
    return _written(["name", "seed", "stopped", *NUMBERS], lines)


def plain(one: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain data for JSON: null where a number is not finite, and how often that is so."""
    if one is None:
        return None
    ends = {"iqm": finite(one.value), "low": finite(one.low), "high": finite(one.high)}
    counts = {"infinite": one.infinite, "unknown": one.unknown}
    return {**ends, **counts, "runs": [finite(run) for run in one.runs]}


def finite(value: float | None) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def _written(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(heads)
    writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
    return out.getvalue()


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "-"
    if 10**digits <= abs(value) < math.inf:
        return f"{value:,.0f}"
    return f"{0.0 if abs(value) < 5e-10 else value:.{digits}g}"
