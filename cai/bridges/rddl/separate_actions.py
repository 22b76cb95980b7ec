"""RDDL's action fluents as one variable each, real ones in the box that their preconditions give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical, HalfNormal, Normal, TransformedDistribution, Uniform
from torch import Tensor
from torch.distributions import AffineTransform

from cai.bridges.rddl.expressions import Evaluation, Fluent, number
from cai.bridges.rddl.terms import Folder, Term
from cai.errors import Finding, IntractableError

MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<"}


@dataclass(frozen=True)
class SeparateActions:
    """Every action fluent a variable of its own.

    A finite one is uniform; a real one is uniform between its bounds, a half-normal from its only bound on, or normal
    around its default where it has none.

    Attributes:
        named: the action fluents by their grounded name.
        defaults: their defaults.
        box: the lower and the upper bound of each real one, terms of the state or numbers; None where it has none.
        charged: the conditions that are no such bounds; a step that breaks one has a reward of -inf.
        deviation: of the normal priors.
    """

    named: Mapping[str, Fluent]
    defaults: Mapping[str, float]
    box: Mapping[str, tuple[Any, Any]]
    charged: tuple[Term, ...]
    deviation: float
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def sample(self, rules: Mapping[str, Any], fluents: Mapping[str, Fluent], state: Mapping[str, Tensor]) -> Any:
        """Sample every action fluent in a state, ``{fluent: value}``."""
        run = Evaluation(rules, fluents, state)
        return {fluent.label: pyro.sample(fluent.label, self._prior(name, run)) for name, fluent in self.named.items()}

    def fluents(self, action: Any) -> dict[str, Tensor]:
        """Return what an action sets every fluent to, by its grounded name."""
        return {name: action[fluent.label] for name, fluent in self.named.items()}

    def _prior(self, name: str, run: Evaluation) -> Any:
        size = self.named[name].size
        if size is not None:
            return Categorical(logits=torch.zeros(size))
        low, high = (None if end is None else _tensor(run.value(end)) for end in self.box[name])
        if low is not None and high is not None:
            least = torch.finfo(low.dtype).eps * (1 + low.abs())  # a box may close in some states: it keeps a width
            return Uniform(*torch.broadcast_tensors(low, torch.maximum(high, low + least)))
        if low is not None:
            return _from(low, self.deviation)
        return (
            Normal(torch.tensor(float(self.defaults[name])), torch.tensor(self.deviation))
            if high is None
            else _from(high, -self.deviation)
        )


def _from(end: Tensor, deviation: float) -> Any:
    """Return the half-normal distribution that goes up from a bound, or down where the deviation is negative."""
    return TransformedDistribution(HalfNormal(torch.ones(())), AffineTransform(end, deviation))


def separate_actions(
    folder: Folder,
    named: Mapping[str, Fluent],
    defaults: Mapping[str, float],
    conditions: Sequence[Term],
    limits: Mapping[str, tuple[float, float]],
    deviation: float,
) -> SeparateActions:
    """Return the action fluents one by one, their bounds read off the conditions.

    Args:
        folder: makes terms.
        named, defaults: the action fluents and their defaults.
        conditions: what an action must satisfy.
        limits: bounds that the caller gives, by label.
        deviation: of the priors of real fluents without bounds.

    Raises:
        IntractableError: an int fluent has no bounds.
    """
    box: dict[str, tuple[Any, Any]] = {name: limits.get(fluent.label, (None, None)) for name, fluent in named.items()}
    charged = []
    for condition in conditions:
        bounds = _bounds(folder, condition, named)
        for name, low, high in bounds:
            box[name] = _tightest(folder, "max", box[name][0], low), _tightest(folder, "min", box[name][1], high)
        charged += [] if bounds else [condition]
    return SeparateActions(named, defaults, box, tuple(charged), deviation)


def require_bounds(label: str) -> None:
    """Raise for an int action fluent without bounds."""
    seen = "an action fluent of int without bounds"
    expected = f"bounds by a precondition, or bounds={{'{label}': (least, largest)}}"
    raise IntractableError([Finding(f"from_rddl, '{label}'", seen, expected)])


def _bounds(folder: Folder, term: Term, named: Mapping[str, Fluent]) -> list[tuple[str, Any, Any]]:
    """Read ``a <= high``, ``low <= a`` and ``|a| <= high`` as bounds of an action; none where it is something else."""
    if term.op not in MIRRORED:
        return []
    op, (left, right) = term.op, term.args
    if not _is_action(left, named):
        op, left, right = MIRRORED[op], right, left
    if not _is_action(left, named) or (isinstance(right, Term) and right.scope & set(named)):
        return []
    if left.op == "abs" and op in (">", ">="):
        return []
    low, high = (None, right) if op in ("<", "<=") else (right, None)
    if left.op == "abs":
        left, low = left.args[0], folder.make("*", -1, right)
    name = left.args[0]
    return [] if named[name].size is not None and isinstance(right, Term) else [(name, low, high)]


def _is_action(term: Any, named: Mapping[str, Fluent]) -> bool:
    inner = term.args[0] if isinstance(term, Term) and term.op == "abs" else term
    return isinstance(inner, Term) and inner.op == "read" and inner.args[0] in named


def _tightest(folder: Folder, op: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return folder.make(op, one, other)


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(number(value), dtype=torch.get_default_dtype())
