"""The compiled forms of worlds, and the choice between them.

A form is a line in ``FORMS``: how a world is compiled to it, and its operator under a rule at a temperature.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.factorise import factorise
from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.real_program import is_real
from cai.compile.switching import is_mixed, switching
from cai.compile.switching_model import SwitchingLinear
from cai.compile.table_model import Tables
from cai.compile.tabulate import MAX_BYTES, tabulate
from cai.compile.validate import require_valid
from cai.errors import IntractableError, fault
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.operator import Operator
from cai.exact.parts import parts_of
from cai.exact.product import ProductOperator
from cai.exact.rule_means import assumption
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.exact.switching.switching_operator import SwitchingOperator
from cai.exact.tables.table_operator import TableOperator
from cai.exact.temperature import as_temperature, single_temperature
from cai.support.memo import Memo
from cai.support.process import precision
from cai.support.wording import meant
from cai.world.definition import World
from cai.world.spec import Spec, read

APPROXIMATE = "; or an approximation: cai.approximate, cai solve --approximate"
SAMPLED = "; or the returns of sampled trajectories: cai.rollout(world, policy)"

Compiled: TypeAlias = Any
"""A world compiled to one of the forms: a ``Model``."""
SMALL = 1_000_000
"""Entries S·A·K of a slice up to which nothing is gained by looking for factors."""
JOINT = 1 << 16
"""Joint states from which on independent parts are solved apart."""
_PARTS: Memo[list[Factors]] = Memo(most=1)  # so that their plans are cached, too


def of_factors(model: Factors, rule: Rule, alpha: Tensor) -> Operator:
    """Return factors under a rule; where their joint state is large, and they fall apart, part by part.

    With a discount below 1 the parts end together, so only a rule that averages outcomes solves them apart. A mean
    without ``assumption()`` may not add up over parts.
    """
    if model.states.size >= JOINT and rule.is_known and (model.discount == 1 or rule.averages):
        split = partial(parts_of, model)
        parts = split() if model.requires_grad else _PARTS.of(model, model.version, split)
        if len(parts) > 1:
            return ProductOperator(model, tuple(FactorOperator(part, rule, alpha) for part in parts))
    return FactorOperator(model, rule, alpha)


@dataclass(frozen=True)
class Form:
    """A compiled form.

    Attributes:
        name: what ``form=`` and the command line call it.
        model: the type of its compiled worlds.
        compile: from a world to a model; raises ``IntractableError`` where it cannot.
        operator: a model under a rule at a temperature.
        can: whether a world is compiled to this form by default.
        batches: whether it takes several temperatures at once.
    """

    name: str
    model: type
    compile: Callable[[Any], Any]
    operator: Callable[[Any, Rule, Tensor], Operator]
    can: Callable[[Spec], bool] = lambda spec: False
    batches: bool = False


FORMS: list[Form] = [
    Form("tables", Tables, tabulate, TableOperator, batches=True),
    Form("factors", Factors, factorise, of_factors),
    Form("gaussian", LinearGaussian, linearise, GaussianOperator, can=is_real, batches=True),  # type: ignore[arg-type]
    Form("switching", SwitchingLinear, switching, SwitchingOperator, can=is_mixed),  # type: ignore[arg-type]
]
"""The forms. A form of your own is one more line: its operator needs no more than ``cai.exact.operator`` says."""


def names() -> list[str]:
    """Return the names of the forms."""
    return ["auto", *(form.name for form in FORMS)]


def is_compiled(world: Any) -> bool:
    """Return whether a world is compiled to one of the forms."""
    return any(isinstance(world, form.model) for form in FORMS)


def form_of(model: Compiled) -> Form:
    """Return the form that a compiled world has."""
    return next(form for form in FORMS if isinstance(model, form.model))


def operator(model: Compiled, rule: Rule = POSTERIOR, temperature: float | Sequence[float] | Tensor = 1.0) -> Operator:
    """Return a compiled world under a rule at a temperature.

    Raises:
        WorldError: the temperature is not a positive, finite number, or several where the form takes one.
    """
    form = form_of(model)
    if not form.batches:
        return form.operator(model, rule, single_temperature(temperature).to(model.dtype))
    return form.operator(model, rule, as_temperature(temperature, model))


def compiled(world: World | Spec | Compiled, form: str = "auto", *, under: Iterable[Any] = ()) -> Compiled:
    """Compile a world; ``auto`` takes tables where they are small, else whichever form needs fewer operations a backup.

    Args:
        world: a world, or one that is compiled.
        form: the name of a form, or "auto".
        under: the rules, among other things, under which it is to be solved. A mean over outcomes that says nothing of
            itself cannot be taken variable by variable: ``auto`` is then tables.

    Raises:
        WorldError: the world is not valid, or is compiled to another form already.
        IntractableError: it cannot be compiled.
    """
    if form not in names():
        raise fault("form", f"{form!r}", f"one of {', '.join(names())}{meant(str(form), names())}")
    if is_compiled(world):
        own = form_of(world).name
        if form not in ("auto", own):
            raise fault("form", f"'{form}', of a world that is compiled to {own}", "the world itself")
        if isinstance(world, Tables | Factors | LinearGaussian):
            require_valid(world)
        return world
    rules = (rule for rule in under if isinstance(rule, Rule))
    if form == "auto" and any(assumption(rule.over_outcomes) is None for rule in rules):
        form = "tables"
    for known in FORMS:
        if form == known.name:
            return known.compile(world)
    with precision(torch.float64), otherwise_approximate(world):
        spec = read(world)
        ready = next((known for known in FORMS if known.can(spec)), None)
        return _cheaper(spec) if ready is None else ready.compile(world)


@contextmanager
def otherwise_approximate(world: Any = None) -> Iterator[None]:
    """Let an error that says why a world has no exact form say, too, what takes it as it is.

    A world may name its own exact answer, as ``conditioned_by``.
    """
    try:
        yield
    except IntractableError as error:
        *before, last = error.findings
        if last.expected.endswith(APPROXIMATE):
            raise
        own = getattr(world, "conditioned_by", None)
        expected = last.expected + (f"; or its exact conditional: {own}" if own else "") + APPROXIMATE
        raise type(error)([*before, replace(last, expected=expected)]) from error.__cause__


@contextmanager
def otherwise_sampled(world: Any) -> Iterator[None]:
    """Let an error that says why a world has no exact form say, too, how a policy is measured in it.

    A world may name its own measure of a policy, as ``measured_by``.
    """
    try:
        yield
    except IntractableError as error:
        *before, last = error.findings
        own = getattr(world, "measured_by", None)
        expected = last.expected + (f"; or a policy's distance: {own}" if own else "") + SAMPLED
        raise type(error)([*before, replace(last, expected=expected)]) from error.__cause__


def _cheaper(spec: Spec) -> Compiled:
    if spec.variables.state_space is None and spec.variables.action_space is None:
        return linearise(spec)  # all is real: it says why the world is not linear-Gaussian
    if not may_be_factored(spec):
        return tabulate(spec)
    entries = spec.states.size * spec.actions.size * spec.outcomes
    fits = 24 * entries * spec.times <= MAX_BYTES
    try:
        factors = factorise(spec)
        if not fits or entries > FactorOperator(factors, VARIATIONAL, torch.ones(())).cost().work:
            return factors
    except IntractableError:
        if not fits:  # the error of factorise names the variables, which is the better reason
            raise
    return tabulate(spec)


def may_be_factored(spec: Spec) -> bool:
    """Return whether factors may serve better than tables, so that both are to be weighed.

    Tables of one state variable and one latent, or none, are as small as their factors.
    """
    entries = spec.states.size * spec.actions.size * spec.outcomes
    return entries > SMALL and (len(spec.states.names) > 1 or len(spec.latents) > 1)
