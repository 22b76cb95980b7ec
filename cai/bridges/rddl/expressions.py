"""RDDL's terms on tensors that broadcast: the chances of a fluent's values, and the sites that sample them.

Evaluation touches only what a term reads: every tensor is as small as the scope of what it stands for, so that a
compiler that lays each variable along a dimension of its own gets factors over few variables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical, Delta, Normal
from torch import Tensor

from cai.bridges.networks.node_tables import ROUNDING
from cai.bridges.rddl.real_draws import REAL_DRAWS
from cai.bridges.rddl.terms import ABSORBING, DRAWS, OPERATIONS, Term
from cai.errors import fault
from cai.support.numerics import log
from cai.world.definition import Point


@dataclass(frozen=True)
class Fluent:
    """A grounded fluent.

    Attributes:
        label: its name for people, ``running(c1)``.
        size: how many values it takes; None for real numbers, and for whole ones without bounds.
        boolean: whether it is a truth value.
        low: the number that its first value stands for.
        limited: whether the caller said so: what lies beyond is then forbidden.
    """

    label: str
    size: int | None
    boolean: bool = False
    low: int = 0
    limited: bool = False


class Evaluation:
    """One run of a slice: reads what is known, and samples what is not at sites of the fluents' labels.

    Args:
        rules: each fluent's term, or constant.
        fluents: what the names mean.
        known: the values of the fluents that are given, ``0 … size-1`` or real, any shapes that broadcast.
    """

    def __init__(self, rules: Mapping[str, Any], fluents: Mapping[str, Fluent], known: Mapping[str, Tensor]) -> None:
        self.rules, self.fluents = rules, fluents
        self.known = dict(known)
        self.meant: dict[str, Any] = {}
        self.memory: dict[Term, Any] = {}
        self.beyond: list[Tensor] = []
        """Where a fluent that was sampled left its limits."""

    def sample(self, name: str) -> Tensor:
        """Sample a fluent at its own site, a Point or a Delta where it is certain: ``0 … size-1``, or a real number."""
        if name not in self.known:
            fluent = self.fluents[name]
            if fluent.size is None:
                fn, value = self.real_law(self.rules[name])
                self.known[name] = _at(fluent.label, Delta(_tensor(value)) if fn is None else fn)
                return self.known[name]
            law = self.law(self.rules[name], fluent)
            if isinstance(law, list):
                self.known[name] = _draw(fluent.label, law)
            else:
                point = torch.as_tensor(number(law) - fluent.low).long()
                if fluent.limited:
                    self.beyond.append((point < 0) | (point >= fluent.size))
                    point = point.clamp(0, fluent.size - 1)
                self.known[name] = pyro.sample(fluent.label, Point(point, fluent.size))
        return self.known[name]

    def value(self, term: Any) -> Any:
        """Return what a term amounts to: a truth value or a number, as a tensor over its scope or a constant."""
        if not isinstance(term, Term):
            return term
        if term not in self.memory:
            self.memory[term] = self._read(term.args[0]) if term.op == "read" else self._apply(term)
        return self.memory[term]

    def law(self, term: Any, fluent: Fluent) -> Any:
        """Return the chances of a fluent's values as a list; where no chance is in it, the one value.

        Draws in one expression are independent, so that "and", "or", "not" and "if" of them need no latent; a draw
        inside a number or a comparison becomes one.
        """
        if not isinstance(term, Term) or not term.random:
            return self.value(term)
        if term.op == "Bernoulli":
            p = _probability(self.value(term.args[0]))
            return _fit([1 - p, p], fluent) or self.value(term)
        if term.op in DRAWS:
            return _fit(self._discrete(term), fluent) or self.value(term)
        if term.op == "if":
            condition, then, other = (self.law(arg, fluent if i else TRUTH) for i, arg in enumerate(term.args))
            pairs = list(zip(_spread(then, fluent), _spread(other, fluent), strict=True))
            if isinstance(condition, list):
                return [condition[1] * a + condition[0] * b for a, b in pairs]
            return [torch.where(truth(condition), a, b) for a, b in pairs]
        if term.op in ("^", "|", "not") and fluent.boolean:
            parts = [_spread(self.law(arg, TRUTH), TRUTH) for arg in term.args]
            if term.op == "not":
                return parts[0][::-1]
            side = int(term.op == "^")  # all of them true, or all of them false
            probability = parts[0][side]
            for part in parts[1:]:
                probability = probability * part[side]
            return [1 - probability, probability] if side else [probability, 1 - probability]
        return self.value(term)

    def real_law(self, term: Any) -> tuple[Any, Any]:
        """Return the distribution of a real fluent and None; where it has none of its own, None and its value.

        A Normal plus numbers is a Normal; any other draw below the top becomes a latent, and the fluent is certain.
        """
        if isinstance(term, Term) and term.op in REAL_DRAWS:
            return self._real_draw(term), None
        if isinstance(term, Term) and term.op == "+":
            drawn = [arg for arg in term.args if isinstance(arg, Term) and arg.random]
            if len(drawn) == 1 and drawn[0].op == "Normal":
                noise = self._real_draw(drawn[0])
                rest = sum(number(self.value(arg)) for arg in term.args if arg is not drawn[0])
                return Normal(noise.loc + rest, noise.scale), None
        return None, self.value(term)

    def _real_draw(self, term: Term) -> Any:
        return REAL_DRAWS[term.op](*(_tensor(self.value(arg)) for arg in term.args))

    def _read(self, name: str) -> Any:
        if name not in self.meant:
            self.meant[name] = self._real(name) if self.fluents[name].size is None else self._finite(name)
        return self.meant[name]

    def _real(self, name: str) -> Any:
        if name not in self.known:
            fn, value = self.real_law(self.rules[name])
            if fn is None:
                return value
            self.known[name] = _at(self.fluents[name].label, fn)
        return number(self.known[name])

    def _finite(self, name: str) -> Any:
        fluent = self.fluents[name]
        if name not in self.known:
            law = self.law(self.rules[name], fluent)
            if not isinstance(law, list):
                return truth(law) if fluent.boolean else law
            self.known[name] = _draw(fluent.label, law)
        raw = self.known[name]
        return raw.bool() if fluent.boolean else number(raw) + fluent.low

    def _apply(self, term: Term) -> Any:
        if term.op == "Bernoulli":
            p = _probability(self.value(term.args[0]))
            return _draw(term.site, [1 - p, p]).bool()
        if term.op in DRAWS:
            return number(_draw(term.site, self._discrete(term)))
        if term.op in REAL_DRAWS:
            return _at(term.site, self._real_draw(term))
        values = [self.value(arg) for arg in term.args]
        if term.op == "if":
            condition, then, other = values
            both = _is_truth(then) and _is_truth(other)
            return torch.where(truth(condition), *((then, other) if both else (number(then), number(other))))
        if term.op == "not":
            return ~truth(values[0])
        result = truth(values[0]) if term.op in ABSORBING else number(values[0])
        if term.op in ("^", "|", "+", "*"):
            for value in values[1:]:
                result = _TWO[term.op](result, truth(value) if term.op in ABSORBING else number(value))
            return result
        return OPERATIONS[term.op](*map(_tensor, values))

    def _discrete(self, term: Term) -> list[Any]:
        weights = [number(self.value(arg)) for arg in term.args]
        total = sum(weights[1:], weights[0])
        if term.op == "Discrete":
            off = (torch.as_tensor(total) - 1).abs()
            if bool((off > ROUNDING).any()):
                site = term.site.partition("#")[0]
                seen = f"Discrete probabilities that sum to {float(torch.as_tensor(total).flatten()[off.argmax()]):g}"
                raise fault(f"RDDL, '{site}'", seen, "a sum of 1 in every state, or UnnormDiscrete")
            return weights
        return [weight / total for weight in weights]


TRUTH = Fluent("", 2, True)
_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "^": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
}


def number(value: Any) -> Any:
    """Return a value as a number: a tensor in the default dtype, or a Python float."""
    if not isinstance(value, Tensor):
        return float(value)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def truth(value: Any) -> Any:
    """Return a value as a truth value: a tensor of bools, or a Python bool."""
    if not isinstance(value, Tensor):
        return bool(value)
    return value if value.dtype == torch.bool else value != 0


def _is_truth(value: Any) -> bool:
    return value.dtype == torch.bool if isinstance(value, Tensor) else isinstance(value, bool)


def _probability(p: Any) -> Any:
    # States that cannot be reached are enumerated too, and a domain may say nonsense there.
    return p.clamp(0, 1) if isinstance(p, Tensor) else min(max(float(p), 0.0), 1.0)


def _fit(probabilities: list[Any], fluent: Fluent) -> list[Any] | None:
    if fluent.size is None or fluent.low or len(probabilities) > fluent.size:
        return None
    return probabilities + [0.0] * (fluent.size - len(probabilities))


def _spread(law: Any, fluent: Fluent) -> list[Any]:
    if isinstance(law, list):
        return law
    assert fluent.size is not None
    values = range(fluent.low, fluent.low + fluent.size)
    return [number(number(law) == value) for value in values]


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(number(value), dtype=torch.get_default_dtype())


def _at(site: str, fn: Any) -> Tensor:
    value: Tensor = pyro.sample(site, fn)
    return value


def _draw(site: str, probabilities: Sequence[Any]) -> Tensor:
    dtype = torch.get_default_dtype()
    together = torch.broadcast_tensors(*(torch.as_tensor(probability, dtype=dtype) for probability in probabilities))
    return _at(site, Categorical(logits=log(torch.stack(together, -1))))
