"""pareto_front: the most return that any policy reaches with a given KL to the prior."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.evaluation.answers import SAMPLES, answers_of
from cai.evaluation.evaluate import measure
from cai.exact.forms import Compiled
from cai.exact.rules import VARIATIONAL
from cai.exact.solve import solve
from cai.exact.temperature import as_temperature

ENTRIES = 2**22
"""The most values of a batch that is solved at once."""


@dataclass(frozen=True)
class ParetoFront:
    """Points of the front, from the coldest to the warmest; its slope at each of them is α.

    Attributes:
        temperature: α, reward units, ``[N]``.
        kl: of the optimum at α to the prior, nats, ``[N]``.
        expected_return: of the optimum at α, reward units, ``[N]``.
    """

    temperature: Float[Tensor, " N"]
    kl: Float[Tensor, " N"]
    expected_return: Float[Tensor, " N"]

    @property
    def bends(self) -> Float[Tensor, "N-1"]:
        """Where the tangents of two neighbours meet: the KL there, nats."""
        intercept = self.expected_return - self.temperature * self.kl
        meet = intercept.diff() / -self.temperature.diff()
        return torch.minimum(torch.maximum(meet, self.kl[1:]), self.kl[:-1])


def pareto_front(model: Compiled, temperatures: Sequence[float]) -> ParetoFront:
    """Return the optimum at each temperature: no policy earns more with the same KL.

    ``F(α) = max_π J(π) - α KL(π)`` is the value of VARIATIONAL; the optimum has ``KL = -dF/dα`` and ``J = F + α KL``.

    Args:
        model: the compiled world.
        temperatures: α > 0, reward units, at least two different ones.

    Raises:
        WorldError: a temperature is not valid.
        ImpossibleError: every policy earns -inf.

    Source: the envelope theorem; on tables the derivative is the adjoint of the sweep, else each optimum is evaluated.
    """
    alpha = as_temperature(sorted(set(temperatures)), model)
    pairs = _by_adjoint(model, alpha) if isinstance(model, Tables) else _by_evaluation(model, alpha)
    kl, earned = torch.tensor(list(pairs), dtype=torch.float64).T
    return ParetoFront(alpha.double(), kl, earned)


def _by_adjoint(model: Tables, alpha: Tensor) -> Iterator[list[float]]:
    size = max(1, ENTRIES // (model.states.size * ((model.horizon or 1) + 1)))
    for some in alpha.split(size):
        with torch.enable_grad():
            each = some.clone().requires_grad_()
            value = solve(model.detach(), VARIATIONAL, temperature=each).value
            (slope,) = torch.autograd.grad(value.sum(), each)
        kl = (-slope).clamp_min(0.0)
        yield from torch.stack((kl, value.detach() + some * kl), -1).tolist()


def _by_evaluation(model: Compiled, alpha: Tensor) -> Iterator[list[float]]:
    for each in alpha:
        best = measure(answers_of("pareto_front", model, each, SAMPLES, 0), VARIATIONAL)
        yield [best.kl_to_prior, best.expected_return]
