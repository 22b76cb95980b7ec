"""The rows of a comparison, whatever the form of the world: the numbers, and how they are written down."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cai.errors import ImpossibleError, NotConvergedError
from cai.evaluation.measured import Measured
from cai.support.files import write_whole


@dataclass(frozen=True)
class Row:
    """One policy's numbers: reward units for return and regret, else nats; None where no exact answer is finite."""

    name: str
    temperature: float
    expected_return: float
    regret: float | None
    entropy: float
    kl_to_prior: float
    elbo: float
    optimality_gap: float | None
    evidence_gap: float | None
    policy_nats: float | None
    start_nats: float | None
    action_nats: float | None
    luck_nats: float | None


@runtime_checkable
class Compared(Protocol):
    """What comparisons have in common, whatever the form of their world."""

    @property
    def temperature(self) -> float:
        """α, reward units."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """The numbers of every policy."""

    @property
    def elbo_star(self) -> float | None:
        """ELBO* of VARIATIONAL, nats, or None where it is not finite."""

    @property
    def log_evidence(self) -> float | None:
        """log Z of POSTERIOR, nats, or None where it is not finite."""

    def csv(self) -> str:
        """Return the rows as CSV."""

    def json(self) -> str:
        """Return everything as JSON."""


def row(name: str, one: Measured) -> Row:
    """Lay out one policy's numbers."""
    return Row(
        name=name,
        temperature=float(one.temperature),
        expected_return=one.expected_return,
        regret=possible(lambda: one.regret),
        entropy=one.entropy,
        kl_to_prior=one.kl_to_prior,
        elbo=one.elbo,
        optimality_gap=possible(lambda: one.optimality_gap),
        evidence_gap=possible(lambda: one.evidence_gap),
        policy_nats=possible(lambda: float(one.policy_nats.sum())),
        start_nats=possible(lambda: one.start_nats),
        action_nats=possible(lambda: float(one.action_nats.sum())),
        luck_nats=possible(lambda: float(one.luck_nats.sum())),
    )


def possible(ask: Callable[[], Any]) -> Any:
    """Ask for a number; None where the exact answer behind it is not finite."""
    try:
        return ask()
    except (ImpossibleError, NotConvergedError):
        return None


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{0.0 if abs(value) < 5e-10 else value:.6g}"  # rounding is no number


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    def finite(value: Any) -> Any:
        return value if not isinstance(value, float) or abs(value) < float("inf") else None

    return {name: finite(value) for name, value in row.items()}


def as_table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text, one line a policy."""
    names = [field.name for field in fields(Row) if field.name != "temperature"]
    cells = [names, *([_cell(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(lines)


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a header; an empty cell where the exact answer is not finite."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def as_json(head: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return what stands above the rows, and the rows, as JSON; null where a number is not finite."""
    return json.dumps({**head, "rows": [_plain(asdict(row)) for row in rows]}, indent=2)


def save(folder: str | Path, texts: Mapping[str, str]) -> Path:
    """Write texts into the folder by file name, all of them or none."""
    write_whole(Path(folder), {name: text.encode() for name, text in texts.items()})
    return Path(folder)
