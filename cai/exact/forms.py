"""Which compiled form a world is solved in: tables, or factors where tables would cost more or cannot be had."""

import torch

from cai.compile.factor_model import Factors
from cai.compile.factorise import factorise
from cai.compile.table_model import Tables
from cai.compile.tabulate import MAX_BYTES, tabulate
from cai.compile.validate import require_valid
from cai.errors import IntractableError, fault
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.rules import VARIATIONAL
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spec import Spec, read

FORMS = ("auto", "tables", "factors")
SMALL = 1_000_000
"""Entries S·A·K of a slice up to which nothing is gained by looking for factors."""


def compiled(world: World | Spec | Tables | Factors, form: str = "auto") -> Tables | Factors:
    """Compile a world; ``auto`` takes tables where they are small, else whichever form needs fewer operations a backup.

    Raises:
        WorldError: the world does not conform, or is compiled to another form already.
        IntractableError: it cannot be compiled.
    """
    if form not in FORMS:
        raise fault("form", f"{form!r}", f"one of {list(FORMS)}")
    if isinstance(world, Tables | Factors):
        own = "tables" if isinstance(world, Tables) else "factors"
        if form not in ("auto", own):
            raise fault("form", f"'{form}', of a world that is compiled to {own}", "the world itself")
        require_valid(world)
        return world
    if form == "factors":
        return factorise(world)
    if form == "tables":
        return tabulate(world)
    with precision(torch.float64):
        return _cheaper(read(world))


def _cheaper(spec: Spec) -> Tables | Factors:
    if not may_be_factored(spec):
        return tabulate(spec)
    entries = spec.states.size * spec.actions.size * spec.outcomes
    fits = 24 * entries * spec.times <= MAX_BYTES
    try:
        factors = factorise(spec)
        if not fits or entries > FactorOperator(factors, VARIATIONAL, torch.ones(())).cost().work:
            return factors
    except IntractableError:
        if not fits:  # what ties the variables is the better reason
            raise
    return tabulate(spec)


def may_be_factored(spec: Spec) -> bool:
    """Tell whether factors may serve better than tables, so that both are to be weighed.

    Tables of one state variable and one latent, or none, are as small as their factors.
    """
    entries = spec.states.size * spec.actions.size * spec.outcomes
    return entries > SMALL and (len(spec.states.names) > 1 or len(spec.latents) > 1)
