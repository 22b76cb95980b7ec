"""Which compiled form a world is solved in: tables, or factors where tables would cost more or cannot be had."""

from cai.compile.factor_model import Factors
from cai.compile.factorise import factorise
from cai.compile.slices import Shape, is_timed, measure
from cai.compile.table_model import Tables
from cai.compile.tabulate import MAX_BYTES, tabulate
from cai.compile.validate import require_valid
from cai.errors import IntractableError, fault
from cai.exact.factors.factored_sweep import prepare
from cai.exact.rules import VARIATIONAL
from cai.world.definition import World, horizon_of, require_methods

FORMS = ("auto", "tables", "factors")
SMALL = 1_000_000
"""Entries S·A·K of a slice up to which nothing is gained by looking for factors."""


def compiled(world: World | Tables | Factors, form: str = "auto") -> Tables | Factors:
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
    if form == "tables" or not hasattr(world, "initial"):
        return tabulate(world)
    return _cheaper(world)


def _cheaper(world: World) -> Tables | Factors:
    require_methods(world)
    shape = measure(world)
    if not may_be_factored(shape):
        return tabulate(world)
    entries = shape.states.size * shape.actions.size * shape.outcomes
    times = (horizon_of(world) or 1) if is_timed(world) else 1
    fits = 24 * entries * times <= MAX_BYTES
    try:
        factors = factorise(world)
        if not fits or entries > prepare(factors).cost(VARIATIONAL).work:
            return factors
    except IntractableError:
        if not fits:  # what ties the variables is the better reason
            raise
    return tabulate(world)


def may_be_factored(shape: Shape) -> bool:
    """Tell whether factors may serve better than tables, so that both are to be weighed.

    Tables of one state variable and one latent, or none, are as small as their factors.
    """
    entries = shape.states.size * shape.actions.size * shape.outcomes
    return entries > SMALL and (len(shape.states.names) > 1 or len(shape.latents) > 1)
