"""Ready-made conditional distributions for the nodes of a network: few numbers where a table would have many."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cai.errors import fault


class NoisyOr:
    """A binary node that each parent may switch on independently: ``p(1|x) = 1 - (1 - leak) Π_i (1 - w_i(x_i))``.

    A weight is one probability for a binary parent (its value 0 does not switch the node on), or one for each of the
    parent's values. Tensors that require a gradient keep it.

    Reference: Pearl (1988), Probabilistic Reasoning in Intelligent Systems, section 4.3.2.

    Args:
        weights: one for each parent, in the order of the node's parents.
        leak: the probability that it is on although no parent switches it on.

    Raises:
        WorldError: a weight or the leak is not a probability.
    """

    size = 2

    def __init__(self, weights: Sequence[Any], leak: Any = 0.0) -> None:
        self.weights = tuple(_numbers(f"NoisyOr, weights[{i}]", weight) for i, weight in enumerate(weights))
        self.leak = _numbers("NoisyOr, leak", leak)
        for i, weight in enumerate(self.weights):
            _require_probabilities(f"NoisyOr, weights[{i}]", weight)
        _require_probabilities("NoisyOr, leak", self.leak)

    def __repr__(self) -> str:
        return f"NoisyOr({len(self.weights)} parents)"

    def __call__(self, *values: Tensor) -> Tensor:
        """Return the probabilities of 0 and 1 on a new last axis."""
        _require_parents("NoisyOr", len(self.weights), values)
        off = 1 - self.leak
        for weight, value in zip(self.weights, values, strict=True):
            by_value = torch.stack([torch.zeros_like(weight), weight]) if weight.dim() == 0 else weight
            off = off * (1 - by_value)[value]
        return torch.stack([off, 1 - off], -1)


class Logistic:
    """A binary node by logistic regression on its parents' values ``0 … n-1``: ``p(1|x) = σ(bias + Σ_i w_i x_i)``.

    With K numbers in place of each weight and of the bias it is the multinomial logit of a node of K values,
    ``p(k|x) ∝ exp(bias_k + Σ_i w_ik x_i)``. Tensors that require a gradient keep it.

    Args:
        weights: one for each parent, in the order of the node's parents; a number, or K of them.
        bias: a number, or K of them.

    Raises:
        WorldError: a number is not finite, or the weights and the bias differ in shape.
    """

    def __init__(self, weights: Sequence[Any], bias: Any = 0.0) -> None:
        self.weights = tuple(_numbers(f"Logistic, weights[{i}]", weight) for i, weight in enumerate(weights))
        self.bias = _numbers("Logistic, bias", bias)
        self.size = len(self.bias) if self.bias.dim() else 2
        for i, weight in enumerate(self.weights):
            if weight.shape != self.bias.shape:
                seen, expected = f"shape {tuple(weight.shape)}", f"{tuple(self.bias.shape)}, the shape of the bias"
                raise fault(f"Logistic, weights[{i}]", seen, expected)

    def __repr__(self) -> str:
        return f"Logistic({len(self.weights)} parents, {self.size} values)"

    def __call__(self, *values: Tensor) -> Tensor:
        """Return the probabilities of 0 … K-1 on a new last axis."""
        _require_parents("Logistic", len(self.weights), values)
        several = self.bias.dim() == 1
        z = self.bias
        for weight, value in zip(self.weights, values, strict=True):
            z = z + weight * (value.unsqueeze(-1) if several else value)
        return z.softmax(-1) if several else torch.stack([torch.sigmoid(-z), torch.sigmoid(z)], -1)


def _numbers(where: str, value: Any) -> Tensor:
    expected = "a finite number, or a list of them"
    try:
        numbers = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise fault(where, f"{value!r}", expected) from None
    numbers = numbers if numbers.is_floating_point() else numbers.to(torch.float64)
    if numbers.dim() > 1 or not bool(numbers.isfinite().all()) or not numbers.numel():
        raise fault(where, f"{numbers.tolist()}", expected)
    return numbers


def _require_probabilities(where: str, numbers: Tensor) -> None:
    if bool(((numbers < 0) | (numbers > 1)).any()):
        raise fault(where, f"{numbers.tolist()}", "probabilities, from 0 to 1")


def _require_parents(where: str, expected: int, values: Sequence[Tensor]) -> None:
    if len(values) != expected:
        raise fault(f"{where}, weights", f"{expected} for {len(values)} parents", "one for each parent")
