"""compare: many policies on one world, measured by the same exact accounts, in one table."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cai.comparison.evaluate import Answers, Evaluation, measure
from cai.compile.tabulate import tabulate
from cai.errors import ImpossibleError, NotConvergedError, fault
from cai.exact.solve import as_temperature
from cai.types import Tables
from cai.world import World


@dataclass(frozen=True)
class Row:
    """One policy's numbers: reward units for the return, else nats; None where the exact answer is not finite."""

    name: str
    temperature: float
    expected_return: float
    entropy: float
    kl_to_prior: float
    elbo: float
    optimality_gap: float | None
    evidence_gap: float | None
    policy_nats: float | None
    start_nats: float | None
    action_nats: float | None
    luck_nats: float | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """Policies side by side on one world at one temperature.

    Attributes:
        tables: the compiled world.
        temperature: α, reward units.
        evaluations: the exact evaluation behind each row, by name.
        rows: the numbers.
        elbo_star: ELBO* of VARIATIONAL, nats, or None where it is not finite.
        log_evidence: log Z of POSTERIOR, nats, or None where it is not finite.
    """

    tables: Tables
    temperature: float
    evaluations: Mapping[str, Evaluation]
    rows: tuple[Row, ...]
    elbo_star: float | None
    log_evidence: float | None

    def __repr__(self) -> str:
        return f"Comparison at temperature {self.temperature:g}\n{self.table()}"

    def table(self) -> str:
        """Return the rows as aligned text, one line a policy."""
        names = [field.name for field in fields(Row) if field.name != "temperature"]
        cells = [names, *([_cell(getattr(row, name)) for name in names] for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(lines)

    def csv(self) -> str:
        """Return the rows as CSV with a header; an empty cell where the exact answer is not finite."""
        out = io.StringIO()
        writer = csv.DictWriter(out, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return out.getvalue()

    def json(self) -> str:
        """Return temperature, ELBO*, log Z and the rows as JSON; null where a number is not finite."""
        head = {
            "temperature": self.temperature,
            "elbo_star": self.elbo_star,
            "log_evidence": self.log_evidence,
        }
        return json.dumps({**head, "rows": [_plain(asdict(row)) for row in self.rows]}, indent=2)

    def save(self, folder: str | Path) -> Path:
        """Write ``comparison.csv`` and ``comparison.json`` into the folder, each whole or not at all."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, text in (("comparison.csv", self.csv()), ("comparison.json", self.json())):
            draft = target / f".{name}.part"
            draft.write_text(text, encoding="utf-8")
            draft.replace(target / name)
        return target


def compare(world: World | Tables, policies: Mapping[str, Any], *, temperature: float | Tensor = 1.0) -> Comparison:
    """Evaluate every policy on the world by the same accounts.

    Args:
        world: a world, or its tables.
        policies: by name, anything that ``evaluate`` takes, a ``Rule`` too.
        temperature: α > 0, reward units; one number.

    Raises:
        WorldError: a name has no usable policy, or the world does not conform.
        IntractableError: the world cannot be tabulated.
        ImpossibleError, NotConvergedError: a rule among the policies has no finite answer.
    """
    if not isinstance(policies, Mapping) or not policies:
        raise fault("compare, policies", f"{policies!r}", "a dict of at least one name and policy")
    tables = tabulate(world)
    alpha = as_temperature(temperature, tables)
    if alpha.dim() or tables.batch_shape:
        raise fault("compare", f"a batch of shape {[*tables.batch_shape, *alpha.shape]}", "one world, one temperature")
    answers = Answers(tables.detach(), alpha.detach())  # the world's, not a policy's: solved once for all
    with torch.no_grad():
        evaluations = {name: measure(answers, policy) for name, policy in policies.items()}
        rows = tuple(_row(name, one) for name, one in evaluations.items())
        elbo_star = _possible(lambda: float(answers.variational.elbo))
        log_evidence = _possible(lambda: float(answers.posterior.log_evidence))
    return Comparison(answers.tables, float(alpha), evaluations, rows, elbo_star, log_evidence)


def _row(name: str, one: Evaluation) -> Row:
    return Row(
        name=name,
        temperature=float(one.temperature),
        expected_return=one.expected_return,
        entropy=one.entropy,
        kl_to_prior=one.kl_to_prior,
        elbo=one.elbo,
        optimality_gap=_possible(lambda: one.optimality_gap),
        evidence_gap=_possible(lambda: one.evidence_gap),
        policy_nats=_possible(lambda: float(one.policy_nats.sum())),
        start_nats=_possible(lambda: one.start_nats),
        action_nats=_possible(lambda: float(one.action_nats.sum())),
        luck_nats=_possible(lambda: float(one.luck_nats.sum())),
    )


def _possible(ask: Any) -> Any:
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
