"""solve on factors: what it costs is predicted first, and refused where it is too much."""

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.errors import Finding, ImpossibleError, IntractableError, fault
from cai.exact.factors.factored_messages import FactoredMessages
from cai.exact.factors.factored_sweep import Prepared, factored_fixed_point, factored_sweep, prepare
from cai.exact.product import SeparateMessages, parts_of
from cai.exact.rounding import Rounding
from cai.exact.rules import POSTERIOR, Rule

JOINT = 1 << 16
"""Joint states from which on independent parts are solved apart."""
MAX_BYTES = 6e9
"""What a solve may hold: more is refused before it is begun."""


def solve_factors(
    rule: Rule, factors: Factors, alpha: Tensor, max_bytes: float = MAX_BYTES
) -> FactoredMessages | SeparateMessages:
    """Solve factors under a rule; see ``cai.solve``.

    Where the joint state is large and the world falls apart, each part is solved for itself. With a discount the parts
    die together, which only a rule that averages outcomes does not see. Of a mean that says nothing of itself it is not
    known that it adds up over parts.

    Raises:
        IntractableError: the messages or a step of the elimination would need more than ``max_bytes``.
        ImpossibleError: the start value is -inf.
    """
    if factors.states.size >= JOINT and rule.is_known and (factors.discount == 1 or rule.averages):
        parts = parts_of(factors)
        if len(parts) > 1:
            found = tuple(solve_prepared(rule, prepare(part), alpha, max_bytes) for part in parts)
            bound = sum(map(_start_bound, found)) if factors.horizon is None else 0.0
            return SeparateMessages(factors, found, rule, alpha, error_bound=bound)
    return solve_prepared(rule, prepare(factors), alpha, max_bytes)


def _start_bound(part: FactoredMessages) -> float:
    """Return a bound on the error of a part's start value, an average of v, in a sum of several, reward units."""
    return part.error_bound + Rounding(0.0, 0.0)(part.v)


def solve_prepared(rule: Rule, prepared: Prepared, alpha: Tensor, max_bytes: float = MAX_BYTES) -> FactoredMessages:
    """Solve factors whose plans are made, and which may be shared by several solves."""
    factors = prepared.factors
    need = bytes_needed(prepared, rule, max_bytes)
    if need > max_bytes:
        S, A = factors.states.size, factors.actions.size
        seen = f"S = {S:,} joint states, A = {A:,} actions: messages and elimination need {need:,.0f} bytes"
        raise IntractableError([Finding("factors", seen, f"at most {max_bytes:,.0f}")])
    if factors.horizon is None:
        if torch.is_grad_enabled() and factors.requires_grad:
            seen = "tables that ask for gradients, with an infinite horizon"
            raise fault("factors", seen, "a finite horizon, or form='tables': no derivative is had of this fixed point")
        with torch.no_grad():
            v, iterations, bound = factored_fixed_point(rule, prepared, alpha)
    else:
        v, iterations, bound = factored_sweep(rule, prepared, alpha), factors.horizon, 0.0
    messages = FactoredMessages(prepared, rule, alpha, v, iterations, bound)
    if float(messages.value.detach()) == -torch.inf:
        raise ImpossibleError(_why(rule))
    return messages


def _why(rule: Rule) -> str:
    if rule == POSTERIOR:
        return "the evidence is zero: no trajectory can be optimal; every way from the start meets a -inf"
    if rule.lost_by_one:
        risk = "every policy risks a forbidden reward, or evidence that may not hold (-inf)"
        return f"under {rule} the start value is -inf: {risk}; POSTERIOR bends the dynamics towards it"
    return f"under {rule} the start value is -inf: no trajectory can be optimal"


def bytes_needed(prepared: Prepared, rule: Rule, most: float = float("inf")) -> float:
    """Predict the memory of a solve: the messages of all times, q of one, and the largest step of the elimination.

    The plan, which takes long for very many actions, is looked at only if the rest is below ``most``.
    """
    factors = prepared.factors
    S, A, T = factors.states.size, factors.actions.size, factors.horizon or 1
    need = 8.0 * S * (T + 1.0 + 3.0 * A)
    return need if need > most else need + 8 * prepared.cost(rule).peak
