"""solve on factors: what it costs is predicted first, and refused where it is too much."""

import torch
from torch import Tensor

from cai.errors import Finding, ImpossibleError, IntractableError
from cai.exact.factored_messages import FactoredMessages
from cai.exact.factored_sweep import Prepared, factored_fixed_point, factored_sweep
from cai.exact.rules import POSTERIOR, Rule
from cai.factors import Factors

MAX_BYTES = 6e9
"""What a solve may hold: more is refused before it is begun."""


def solve_factors(rule: Rule, factors: Factors, alpha: Tensor, max_bytes: float = MAX_BYTES) -> FactoredMessages:
    """Solve factors under a rule; see ``cai.solve``.

    Raises:
        IntractableError: the messages or a step of the elimination would need more than ``max_bytes``.
        ImpossibleError: the start value is -inf.
    """
    return solve_prepared(rule, Prepared(factors), alpha, max_bytes)


def solve_prepared(rule: Rule, prepared: Prepared, alpha: Tensor, max_bytes: float = MAX_BYTES) -> FactoredMessages:
    """Solve factors whose plans are made, and which may be shared by several solves."""
    factors = prepared.factors
    need = bytes_needed(prepared, rule)
    if need > max_bytes:
        S, A = factors.states.size, factors.actions.size
        seen = f"S = {S:,} joint states, A = {A:,} actions: messages and elimination need {need:,.0f} bytes"
        raise IntractableError([Finding("factors", seen, f"at most {max_bytes:,.0f}")])
    if factors.horizon is None:
        with torch.no_grad():
            v, iterations, bound = factored_fixed_point(rule, prepared, alpha)
    else:
        v, iterations, bound = factored_sweep(rule, prepared, alpha), factors.horizon, 0.0
    messages = FactoredMessages(prepared, rule, alpha, v, iterations, bound)
    if float(messages.value.detach()) == -torch.inf:
        lead = (
            "the evidence is zero: no trajectory can be optimal"
            if rule == POSTERIOR
            else f"under {rule} the start value is -inf"
        )
        raise ImpossibleError(f"{lead}; every allowed way from the start meets a reward or evidence of -inf")
    return messages


def bytes_needed(prepared: Prepared, rule: Rule) -> float:
    """Predict the memory of a solve: the messages of all times, q of one, and the largest step of the elimination."""
    factors = prepared.factors
    S, A, T = factors.states.size, factors.actions.size, factors.horizon or 1
    if S > 1e9:
        return 8.0 * S * (T + 1)
    return 8 * (S * (T + 1.0) + 3.0 * S * A + prepared.cost(rule).peak)
