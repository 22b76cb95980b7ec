"""How large a compiled world is, in words."""

import torch

from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.evaluation.separate import split
from cai.exact.cost import Cost
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.rules import POSTERIOR
from cai.exact.sweep import LONG


def size_of(model: Tables | Factors | None) -> str:
    """Say how large a compiled world is, in a line, and of factors what one backup costs; empty where there is none."""
    if model is None:
        return ""
    states, actions = model.states, model.actions
    clock = f"horizon T = {model.horizon:,}" if model.horizon is not None else "infinite horizon"
    survival = f", discount γ = {model.discount:g}" if model.discount < 1 else ""
    joint = "joint state" if isinstance(model, Factors) else "state"
    size = f"{states.size:,} {joint}{'s' * (states.size > 1)}, {actions.size:,} action{'s' * (actions.size > 1)}"
    if isinstance(model, Tables):
        return f"{size}, {model.log_prob.shape[-1]:,} outcome{'s' * (model.log_prob.shape[-1] > 1)}, {clock}{survival}"
    costs = _costs(model)
    work, peak = sum(cost.work for cost in costs), max(cost.peak for cost in costs)
    parts = f" in {len(costs)} separate parts" if len(costs) > 1 else ""
    backup = f"a backup{parts}: {work:.3g} multiplications, {8 * peak:.3g} bytes"
    return f"{len(states.names)} state variables, {size}, {clock}{survival}; {backup}"


def is_long(factors: Factors) -> bool:
    """Tell whether a sweep takes so long that what it will cost should be said before it."""
    return (factors.horizon or 1) * sum(cost.work for cost in _costs(factors)) > LONG


def largest_part(factors: Factors) -> Factors:
    """Return the independent part with the most joint states."""
    return max(split(factors) or [factors], key=lambda part: part.states.size)


def _costs(factors: Factors) -> list[Cost]:
    return [FactorOperator(part, POSTERIOR, torch.ones(())).cost() for part in split(factors) or [factors]]
