"""The exact answers that policies of one world are measured against, whatever its form, each solved when first asked.

log π - log π*     what an action costs against VARIATIONAL, nats
v* - q*            what it costs against HARD, reward units
"""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Model, Tables
from cai.errors import ImpossibleError, NotConvergedError
from cai.exact.factors.factored_messages import FactoredMessages
from cai.exact.factors.factored_sweep import Prepared
from cai.exact.messages import Messages
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import solve
from cai.exact.solve_factors import solve_prepared

Solved = Messages | FactoredMessages
Form = TypeVar("Form", bound=Tables | Prepared)
Found = TypeVar("Found", bound=Solved)


@dataclass(frozen=True)
class Answers(Generic[Form, Found]):
    """One world at one temperature under every rule.

    Attributes:
        world: tables, or factors with their plans.
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
        if isinstance(self.world, Tables):
            return solve(self.world, rule, temperature=self.temperature)
        return solve_prepared(rule, self.world, self.temperature)


def shortfall(world: Model, hard: Solved, t: int) -> Float[Tensor, "S A"]:
    """Return v* - q* of HARD, reward units: what each action gives away; 0 where nothing finite is left to be had."""
    q, log_prior = hard.q(t), world.at(t).log_prior
    v = HARD.over_actions.value(q, log_prior, q.new_ones(())).unsqueeze(-1)
    return torch.where(v == -torch.inf, 0.0, v - q)
