"""RDDL's expressions as terms: whatever depends on constants alone is computed once, and only the rest is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cai.bridges.networks.node_tables import DUST, ROUNDING
from cai.bridges.rddl.real_draws import REAL_DRAWS
from cai.errors import Finding, IntractableError, fault

_NAMED = ("abs", "round", "floor", "ceil", "exp", "sqrt", "cos", "sin", "tan", "acos", "asin", "atan")
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "/": torch.true_divide,
    "==": torch.eq,
    "~=": torch.ne,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
    "min": torch.minimum,
    "max": torch.maximum,
    "div": torch.floor_divide,
    "mod": torch.remainder,
    "fmod": torch.remainder,
    "pow": torch.pow,
    "log": lambda x, base: x.log() / base.log(),
    "hypot": torch.hypot,
    "sgn": torch.sign,
    "ln": torch.log,
    "lngamma": torch.lgamma,
    "gamma": lambda x: x.lgamma().exp(),
    **{name: getattr(torch, name) for name in (*_NAMED, "cosh", "sinh", "tanh")},
}
DRAWS = ("Bernoulli", "Discrete", "UnnormDiscrete")
ABSORBING = {"^": False, "|": True}


@dataclass(frozen=True, eq=False)
class Term:
    """An expression that reads fluents or draws at random; equal terms without a draw are one object.

    Attributes:
        op: RDDL's operator or distribution, or "read".
        args: terms and Python constants; the fluent's name for "read".
        scope: the fluents below, as they are named in the grounded domain.
        random: whether a draw is below.
        site: for a draw, the name of the latent that it becomes where no fluent's own site takes it in.
    """

    op: str
    args: tuple[Any, ...]
    scope: frozenset[str]
    random: bool
    site: str = ""


@cache
def _takes(op: str, n: int) -> bool:
    """Tell whether an operation takes so many arguments."""
    try:
        OPERATIONS[op](*torch.ones(n, dtype=torch.float64))
    except TypeError:
        return False
    return True


class Folder:
    """Turns pyRDDLGym's grounded expressions into terms; what depends on constants alone is computed here.

    Args:
        constants: the values of the non-fluents and the numbers of the objects, by name.
        fluents: the names of all other fluents, next states included.
    """

    def __init__(self, constants: Mapping[str, Any], fluents: Iterable[str]) -> None:
        self.constants, self.fluents = constants, frozenset(fluents)
        self.terms: dict[Any, Term] = {}
        self.where, self.draws = "", 0

    def fold(self, expression: Any, where: str) -> Any:
        """Return the expression as a term, or as a Python constant where it reads nothing.

        Args:
            expression: pyRDDLGym's grounded expression.
            where: the fluent's label, for the names of latents and the errors.

        Raises:
            IntractableError: a distribution or an operator that is not known.
            WorldError: a name that is not declared.
        """
        self.where, self.draws = where, 0
        return self._fold(expression)

    def make(self, op: str, *args: Any) -> Any:
        """Apply an operator to terms and constants; a constant where no term is left to depend on."""
        if op in ABSORBING:
            return self._junction(op, args)
        if op in ("+", "*"):
            return self._arithmetic(op, args)
        if op == "if":
            condition, then, other = args
            if not isinstance(condition, Term):
                return then if condition else other
            return then if _same(then, other) else self._term("if", args)
        if op == "not":
            return self._term("not", args) if isinstance(args[0], Term) else not args[0]
        if op in DRAWS:
            self._require_probabilities(op, args)
            if op == "Bernoulli" and not isinstance(args[0], Term) and not 0 < args[0] < 1:
                return bool(args[0] > 0)
        if op in DRAWS or op in REAL_DRAWS:
            self.draws += 1
            return self._term(op, args, f"{self.where}#{self.draws}")
        if op not in OPERATIONS:
            known = ", ".join((*DRAWS, *REAL_DRAWS))
            raise IntractableError([Finding(f"RDDL, '{self.where}'", f"{op}", f"RDDL's functions, or one of {known}")])
        if not _takes(op, len(args)):
            raise fault(
                f"RDDL, '{self.where}'", f"{op} of {len(args)} arguments", "as many as RDDL's own function takes"
            )
        if not any(isinstance(arg, Term) for arg in args):
            return OPERATIONS[op](*(torch.tensor(float(arg), dtype=torch.float64) for arg in args)).item()
        return self._term(op, args)

    def _require_probabilities(self, op: str, args: Sequence[Any]) -> None:
        """Raise where constants are no probabilities; those that read fluents are looked at in every slice."""
        p = [float(arg) for arg in args if not isinstance(arg, Term)]
        where = f"RDDL, '{self.where}'"
        for probability in p:
            if not probability >= -DUST or (op != "UnnormDiscrete" and probability > 1 + ROUNDING):
                raise fault(
                    where, f"{op} of {probability:g}", "numbers from 0 to 1" if op != "UnnormDiscrete" else "at least 0"
                )
        if op == "Discrete" and len(p) == len(args) and abs(sum(p) - 1) > ROUNDING:
            raise fault(where, f"Discrete probabilities that sum to {sum(p):g}", "a sum of 1, or UnnormDiscrete")

    def read(self, name: str) -> Any:
        """Return the term that reads a fluent, or the value of a constant."""
        if name in self.fluents:
            return self._term("read", (name,))
        name = name.removeprefix("@")
        if name not in self.constants:
            raise fault(f"RDDL, '{self.where}'", f"'{name}', which is not declared", "fluents, non-fluents and objects")
        return self.constants[name]

    def addends(self, term: Any, scale: float = 1.0) -> list[tuple[float, Any]]:
        """Split a term into scaled terms that add up to it, over small scopes; a constant is its own scale, of 1.0."""
        if not isinstance(term, Term):
            return [(scale * term, 1.0)]
        if term.op == "+":
            return [addend for arg in term.args for addend in self.addends(arg, scale)]
        if term.op == "*":
            sums = [arg for arg in term.args if isinstance(arg, Term) and arg.op == "+"]
            if len(sums) == 1:  # a product of n sums has 2ⁿ terms, which no scope is worth
                rest = [arg for arg in term.args if arg is not sums[0]]
                return [addend for arg in sums[0].args for addend in self.addends(self.make("*", arg, *rest), scale)]
            if not isinstance(term.args[0], Term):
                return self.addends(self.make("*", *term.args[1:]), scale * term.args[0])
        if term.op == "if":
            condition, then, other = term.args
            apart = [self.make("if", condition, self.make("*", s, addend), 0.0) for s, addend in self.addends(then)]
            apart += [self.make("if", condition, 0.0, self.make("*", s, addend)) for s, addend in self.addends(other)]
            if len(apart) > 2:
                return [(scale, addend) for addend in apart]
        return [(scale, term)]

    def _fold(self, expression: Any) -> Any:
        kind, name = expression.etype
        if kind == "constant":
            return expression.args
        if kind == "pvar":
            return self.read(name)
        if kind == "control":
            condition = self._fold(expression.args[0])
            if name == "switch":
                return self._switch(condition, expression.args[1:])
            if not isinstance(condition, Term):  # what the other branch reads or draws is no part of the world
                return self._fold(expression.args[1 if condition else 2])
            return self.make("if", condition, *map(self._fold, expression.args[1:]))
        if name in ("KronDelta", "DiracDelta"):
            return self._fold(expression.args[0])
        op, args = "^" if name == "&" else name, []
        for arg in expression.args:
            args.append(self._fold(arg))
            if op in ABSORBING and not isinstance(args[-1], Term) and bool(args[-1]) == ABSORBING[op]:
                return ABSORBING[op]
        if op == "-":
            return self.make("+", *args[:-1], self.make("*", -1, args[-1]))
        if op == "~":
            return self.make("not", *args) if len(args) == 1 else self.make("~=", *args)
        if op == "=>":
            return self.make("|", self.make("not", args[0]), args[1])
        return self.make("==" if op == "<=>" else op, *args)

    def _switch(self, subject: Any, cases: Sequence[Any]) -> Any:
        value: Any = 0
        for kind, case in sorted(cases, key=lambda pair: bool(pair[0] == "default"), reverse=True):
            if kind == "default":
                value = self._fold(case)
            else:
                value = self.make("if", self.make("==", subject, self.read(case[0])), self._fold(case[1]), value)
        return value

    def _junction(self, op: str, args: Sequence[Any]) -> Any:
        terms: dict[Term, None] = {}  # in order, each once
        for arg in args:
            if isinstance(arg, Term):
                terms |= dict.fromkeys(arg.args if arg.op == op else (arg,))
            elif bool(arg) == ABSORBING[op]:
                return ABSORBING[op]
        if len(terms) < 2:
            return next(iter(terms), not ABSORBING[op])
        return self._term(op, list(terms))

    def _arithmetic(self, op: str, args: Sequence[Any]) -> Any:
        constant: float = 0 if op == "+" else 1
        terms: list[Any] = []
        nested = ((*arg.args,) if isinstance(arg, Term) and arg.op == op else (arg,) for arg in args)
        for part in (part for parts in nested for part in parts):
            if isinstance(part, Term):
                terms.append(part)
            else:
                constant = constant + part if op == "+" else constant * part
        if not terms or (op == "*" and constant == 0):
            return constant
        if constant == (0 if op == "+" else 1):
            return terms[0] if len(terms) == 1 else self._term(op, terms)
        return self._term(op, (constant, *terms))

    def _term(self, op: str, args: Sequence[Any], site: str = "") -> Term:
        terms = [arg for arg in args if isinstance(arg, Term)]
        random = bool(site) or any(term.random for term in terms)
        # True, 1 and 1.0 are equal keys, but a truth value is no number.
        key = (op, *((id(arg),) if isinstance(arg, Term) else (type(arg), arg) for arg in args))
        if random or key not in self.terms:
            scope = frozenset(args) if op == "read" else frozenset[str]().union(*(term.scope for term in terms))
            term = Term(op, tuple(args), scope, random, site)
            if random:  # two draws are two, however alike
                return term
            self.terms[key] = term
        return self.terms[key]


def _same(a: Any, b: Any) -> bool:
    return a is b if isinstance(a, Term) or isinstance(b, Term) else type(a) is type(b) and a == b
