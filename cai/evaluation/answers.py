"""The exact answers that policies of one world are measured against, whatever its form, each solved when first asked.

log π - log π*     what an action costs against VARIATIONAL, nats
v* - q*            what it costs against HARD, reward units
"""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.table_model import Model, Tables
from cai.errors import ImpossibleError, NotConvergedError
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.forms import operator
from cai.exact.messages import Messages
from cai.exact.operator import Operator
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import solved

Form = TypeVar("Form", bound=Tables | Factors)
Found = TypeVar("Found", bound=Messages)


@dataclass(frozen=True)
class Answers(Generic[Form, Found]):
    """One world at one temperature under every rule.

    Attributes:
        world: tables or factors.
        temperature: α, reward units.
        known: what was solved, or why it cannot be.
    """

    world: Form
    temperature: Tensor
    known: dict[Rule, Found | ImpossibleError | NotConvergedError] = field(default_factory=dict, repr=False)

    @property
    def variational(self) -> Found:
        """The variational optimum."""
        return self.under(VARIATIONAL)

    @property
    def posterior(self) -> Found:
        """The exact posterior."""
        return self.under(POSTERIOR)

    @property
    def hard(self) -> Found:
        """Bellman optimality: the highest return of any policy."""
        return self.under(HARD)

    def under(self, rule: Rule) -> Found:
        """Return the answer under a rule; that there is none is kept too, for a search in vain is the longest."""
        if rule not in self.known:
            try:
                self.known[rule] = self._solve(rule)
            except (ImpossibleError, NotConvergedError) as error:
                self.known[rule] = error.with_traceback(None)
        found = self.known[rule]
        if isinstance(found, ImpossibleError | NotConvergedError):
            raise found.with_traceback(None)
        return found

    def _solve(self, rule: Rule) -> Any:
        return solved(self.operator(rule))

    def operator(self, rule: Rule) -> Operator:
        """Return the world in one piece under a rule."""
        if isinstance(self.world, Factors):
            return FactorOperator(self.world, rule, self.temperature)
        return operator(self.world, rule, self.temperature)


def shortfall(world: Model, hard: Messages, t: int) -> Float[Tensor, "S A"]:
    """Return v* - q* of HARD, reward units: what each action gives away; 0 where nothing finite is left to be had."""
    q, log_prior = hard.q(t), world.log_prior_at(t)
    v = HARD.over_actions.value(q, log_prior, q.new_ones(())).unsqueeze(-1)
    return torch.where(v == -torch.inf, 0.0, v - q)
