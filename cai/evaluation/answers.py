"""The exact answers that policies of one world are compared with, each solved at first use."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cai.errors import NO_ANSWER, CaiError, fault
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.forms import Compiled, operator
from cai.exact.messages import Messages
from cai.exact.operator import F, Operator
from cai.exact.product import ProductOperator
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import solved
from cai.support.numerics import nats

SAMPLES = 10_000
"""How many trajectories are drawn of a policy that has to be sampled."""


@dataclass(frozen=True)
class Answers:
    """One world at one temperature under every rule.

    Attributes:
        operator: the compiled world under VARIATIONAL, whose dynamics are the true ones.
        samples: how many trajectories are drawn of a policy that has to be sampled.
        seed: of these draws.
        known: what was solved, or why it cannot be.
        shared: functions of time that are the same for every policy; not pickled.
    """

    operator: Operator
    samples: int = SAMPLES
    seed: int = 0
    known: dict[Rule, Messages | CaiError] = field(default_factory=dict, repr=False)
    shared: dict[Any, F] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shared": {}}

    @property
    def model(self) -> Compiled:
        """The compiled world."""
        return self.operator.model

    @property
    def temperature(self) -> Tensor:
        """α, reward units."""
        return self.operator.alpha

    def under(self, rule: Rule) -> Messages:
        """Return the answer under a rule; a failure is cached too, because it takes the longest.

        Raises:
            ImpossibleError, NotConvergedError, IntractableError: there is none.
        """
        if rule not in self.known:
            try:
                with torch.no_grad():
                    self.known[rule] = solved(self.operator.under(rule))
            except NO_ANSWER as error:
                self.known[rule] = error.with_traceback(None)
        answer = self.known[rule]
        if isinstance(answer, CaiError):
            raise answer.with_traceback(None)
        return answer

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """ELBO* and log Z, nats, each None where it is not finite."""

        def start(rule: Rule) -> float | None:
            try:
                return float(nats(self.under(rule).value, self.temperature))
            except NO_ANSWER:
                return None

        return start(VARIATIONAL), start(POSTERIOR)


def answers_of(
    where: str, model: Compiled, temperature: float | Tensor, samples: int = SAMPLES, seed: int = 0
) -> Answers:
    """Return what policies on a compiled world are measured against.

    Independent parts are evaluated one by one, unless a discount or an end of the episode couples them.

    Raises:
        WorldError: there is a batch of worlds or temperatures, or too few samples; or the seed is no number.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise fault(f"{where}, samples", f"{samples!r}", "a whole number, at least 2")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise fault(f"{where}, seed", f"{seed!r}", "a whole number")
    op = operator(model, VARIATIONAL, temperature)
    if op.batch_shape:
        raise fault(where, f"a batch of shape {list(op.batch_shape)}", "one world, one temperature")
    if isinstance(op, ProductOperator) and (op.model.discount < 1 or _joined(op)):
        op = FactorOperator(op.model, VARIATIONAL, op.alpha)
    return Answers(op.under(VARIATIONAL), samples, seed)  # cut from autograd


def _joined(op: ProductOperator) -> bool:
    """Return whether the world has an end that no part knows alone."""
    return op.model.ends is not None and all(part.model.ends is None for part in op.parts)
