"""How large a compiled world is, in words."""

from cai.compile.factor_model import Factors
from cai.compile.linear_model import LinearGaussian
from cai.compile.switching_model import SwitchingLinear
from cai.compile.table_model import Tables
from cai.errors import IntractableError
from cai.exact.forms import Compiled, operator
from cai.exact.parts import parts_of
from cai.exact.rules import POSTERIOR
from cai.exact.sweep import LONG
from cai.view.system_words import size_words


def size_of(model: Tables | Factors | LinearGaussian | SwitchingLinear | None) -> str:
    """Say how large a compiled world is, in a line, and of factors what one backup costs; empty where there is none."""
    if model is None:
        return ""
    if isinstance(model, LinearGaussian):
        return size_words(model)
    clock = f"horizon T = {model.horizon:,}" if model.horizon is not None else "infinite horizon"
    survival = f", discount γ = {model.discount:g}" if model.discount < 1 else ""
    if isinstance(model, SwitchingLinear):
        modes, reals = model.states.modes.size, model.states.reals.dimension
        coordinates = f"{reals} state and {model.actions.dimension} action coordinates"
        return f"{modes} modes, {len(model.source)} switches, {coordinates}, {clock}{survival}"
    states, actions = model.states, model.actions
    joint = "joint state" if isinstance(model, Factors) else "state"
    size = f"{states.size:,} {joint}{'s' * (states.size > 1)}, {actions.size:,} action{'s' * (actions.size > 1)}"
    if isinstance(model, Tables):
        return f"{size}, {model.log_prob.shape[-1]:,} outcome{'s' * (model.log_prob.shape[-1] > 1)}, {clock}{survival}"
    op = operator(model, POSTERIOR)
    parts = f" in {len(op.parts)} separate parts" if len(op.parts) > 1 else ""
    backup = f"a backup{parts}: {op.cost().work:.3g} multiplications, {8 * op.cost().peak:.3g} bytes"
    return f"{len(states.names)} state variables, {size}, {clock}{survival}; {backup}"


def is_long(model: Compiled) -> bool:
    """Return whether a sweep is so long that its cost should be said before it; one that is refused is not."""
    try:
        op = operator(model)
        op.require_room()
    except IntractableError:
        return False
    return (model.horizon or 1) * op.cost().work > LONG


def largest_part(factors: Factors) -> Factors:
    """Return the independent part with the most joint states."""
    parts = parts_of(factors) if len(operator(factors).parts) > 1 else [factors]
    return max(parts, key=lambda part: part.states.size)
