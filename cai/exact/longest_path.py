"""The infinite horizon of a rule whose means are all maxima: the best path that ends, by sweeps that start at -inf.

    F(v)(s) = max over s' of (M(s, s') + v(s')), b(s):        go on, or end in this step

F^n(-inf) is the best over paths of at most n steps. Either no cycle gains and a best path visits no state twice, so
that S sweeps settle (Bellman 1958; Ford 1956), or a cycle gains and the answer is infinite.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cai.errors import NotConvergedError
from cai.exact.anderson import gap
from cai.exact.rule_means import is_maximum
from cai.exact.rules import Rule

MOST = 100_000
"""Sweeps after which it is left open whether they would settle."""


def is_path(rule: Rule) -> bool:
    """Return whether a rule seeks a best path: whether all its means are maxima."""
    return is_maximum(rule.over_outcomes) and is_maximum(rule.over_actions)


def longest_path(
    backup: Callable[[Tensor], Tensor], nobody: Tensor, rounding: Callable[[Tensor], float], what: str
) -> tuple[Tensor, float]:
    """Return the least fixed point v of a max-plus backup F, and a proved bound on its error, reward units.

    From below: ``v = F^n(-inf)``, n roundings apart. From above: let every step that is survived pay e more, which is
    ``F(u + e)``. If that settles too, at ``u = F(u + e)`` up to a rounding below e, then ``F(u) <= u``: u is not below
    the answer, and no cycle gains.

    Args:
        backup: F.
        nobody: the starting values, -inf in every state, ``[*B, S]``.
        rounding: bounds what one backup of such values may lose.
        what: the problem, for the error.

    Raises:
        NotConvergedError: the answer is infinite, or too large to distinguish from infinity.
    """
    S = nobody.shape[-1]
    v, n, rise = _swept(backup, nobody)
    slack = rounding(v)
    if rise > (2 * S + 1) * slack and S <= MOST:
        seen = f"the answer is infinite: values still rise by {rise:.3g} after S = {S:,} sweeps"
        why = "some cycle of states gains more than it costs to survive it"
        raise NotConvergedError(f"{what}: {seen}: {why} (a lower discount or a finite horizon has an answer)")
    u, _, lifted = _swept(lambda x: backup(x + 4 * slack), v)
    if rise > 0 or lifted > 0:
        why = "some cycle of states costs nothing, as far as rounding and so many sweeps can tell"
        raise NotConvergedError(f"{what}: values do not settle in {n:,} sweeps: {why}; the answer may be infinite")
    return v, max(float(gap(u, v).max()) + slack, n * slack)


def _swept(step: Callable[[Tensor], Tensor], v: Tensor) -> tuple[Tensor, int, float]:
    """Step until nothing changes any more, S + 1 times at most; return how often, and the last rise, too."""
    for n in range(1, min(v.shape[-1], MOST) + 2):
        before, v = v, step(v)
        if torch.equal(before, v):
            return v, n, 0.0
    return v, n, float(gap(v, before).max())
