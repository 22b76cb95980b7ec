"""compare: many policies on one world, measured by the same exact accounts, in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.evaluation.answers import Answers
from cai.evaluation.evaluate import Evaluation, TableAnswers, measure
from cai.evaluation.factored import FactoredEvaluation, measure_factors
from cai.evaluation.row import Row, as_csv, as_json, as_table, possible, row, save
from cai.evaluation.separate import SeparateEvaluation, answers_of, measure_separate, split
from cai.exact.forms import compiled
from cai.exact.solve import as_temperature, single_temperature
from cai.world.definition import World


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
        return as_table(self.rows)

    def csv(self) -> str:
        """Return the rows as CSV with a header; an empty cell where the exact answer is not finite."""
        return as_csv(self.rows)

    def json(self) -> str:
        """Return temperature, ELBO*, log Z and the rows as JSON; null where a number is not finite."""
        return as_json(_head(self), self.rows)

    def save(self, folder: str | Path) -> Path:
        """Write ``comparison.csv`` and ``comparison.json`` into the folder, each whole or not at all."""
        return save(folder, {"comparison.csv": self.csv(), "comparison.json": self.json()})


@dataclass(frozen=True, repr=False)
class FactoredComparison:
    """Policies side by side on one world whose variables are kept apart; the members are those of ``Comparison``.

    Attributes:
        factors: the compiled world.
    """

    factors: Factors
    temperature: float
    evaluations: Mapping[str, FactoredEvaluation | SeparateEvaluation]
    rows: tuple[Row, ...]
    elbo_star: float | None
    log_evidence: float | None

    def __repr__(self) -> str:
        return f"FactoredComparison at temperature {self.temperature:g}\n{self.table()}"

    def table(self) -> str:
        """Return the rows as aligned text, one line a policy."""
        return as_table(self.rows)

    def csv(self) -> str:
        """Return the rows as CSV with a header; an empty cell where the exact answer is not finite."""
        return as_csv(self.rows)

    def json(self) -> str:
        """Return temperature, ELBO*, log Z and the rows as JSON; null where a number is not finite."""
        return as_json(_head(self), self.rows)

    def save(self, folder: str | Path) -> Path:
        """Write ``comparison.csv`` and ``comparison.json`` into the folder, each whole or not at all."""
        return save(folder, {"comparison.csv": self.csv(), "comparison.json": self.json()})


@overload
def compare(world: Tables, policies: Mapping[str, Any], *, temperature: float | Tensor = ...) -> Comparison: ...
@overload
def compare(
    world: Factors, policies: Mapping[str, Any], *, temperature: float | Tensor = ...
) -> FactoredComparison: ...
@overload
def compare(
    world: World, policies: Mapping[str, Any], *, temperature: float | Tensor = ...
) -> Comparison | FactoredComparison: ...
@torch.no_grad()
def compare(
    world: World | Tables | Factors, policies: Mapping[str, Any], *, temperature: float | Tensor = 1.0
) -> Comparison | FactoredComparison:
    """Evaluate every policy on the world by the same accounts.

    Args:
        world: a world, or the tables or factors it was compiled to.
        policies: by name, anything that ``evaluate`` takes, a ``Rule`` too.
        temperature: α > 0, reward units; one number.

    Raises:
        WorldError: a name has no usable policy, or the world does not conform.
        IntractableError: the world can be neither tabulated nor factorised.
        ImpossibleError, NotConvergedError: a rule among the policies has no finite answer.
    """
    if not isinstance(policies, Mapping) or not policies:
        raise fault("compare, policies", f"{policies!r}", "a dict of at least one name and policy")
    found = compiled(world)
    if isinstance(found, Factors):
        return _compare_factors(found, policies, single_temperature(temperature).to(found.dtype))
    alpha = as_temperature(temperature, found)
    if alpha.dim() or found.batch_shape:
        raise fault("compare", f"a batch of shape {[*found.batch_shape, *alpha.shape]}", "one world, one temperature")
    answers = TableAnswers(found.detach(), alpha.detach())  # the world's, not a policy's: solved once for all
    evaluations = {name: measure(answers, policy) for name, policy in policies.items()}
    rows = tuple(row(name, one) for name, one in evaluations.items())
    return Comparison(answers.world, float(alpha), evaluations, rows, *_exact([answers]))


def _compare_factors(factors: Factors, policies: Mapping[str, Any], alpha: Tensor) -> FactoredComparison:
    parts = split(factors)
    answers = answers_of(parts or [factors], alpha)
    measure_one = measure_separate if parts else lambda own, policy: measure_factors(own[0], policy)
    evaluations = {name: measure_one(answers, policy) for name, policy in policies.items()}
    rows = tuple(row(name, one) for name, one in evaluations.items())
    return FactoredComparison(factors.detach(), float(alpha), evaluations, rows, *_exact(answers))


def _exact(answers: Sequence[Answers[Any, Any]]) -> tuple[float | None, float | None]:
    """Return ELBO* and log Z, nats, summed over the parts of the world, each None where it is not finite."""
    elbo_star = possible(lambda: sum(float(one.variational.elbo) for one in answers))
    return elbo_star, possible(lambda: sum(float(one.posterior.log_evidence) for one in answers))


def _head(one: Comparison | FactoredComparison) -> dict[str, Any]:
    return {"temperature": one.temperature, "elbo_star": one.elbo_star, "log_evidence": one.log_evidence}
