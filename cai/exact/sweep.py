"""The one backward sweep: v_T is the terminal reward, then a backup for each time, last to first."""

from cai.exact.operator import Operator, V
from cai.support.progress import bar

LONG = 2e9
"""Multiplications of a sweep from which on a bar shows how far it is."""


def sweep(op: Operator) -> V:
    """Return v of every time, reward units, by one backward pass over the slices.

    ``v_T = r_T``, ``v_t = backup(v_{t+1})``: under POSTERIOR ``β_t(s) = exp(v_t(s)/α)`` (Levine 2018, section 2.3).

    Args:
        op: with a finite horizon.
    """
    T = op.model.horizon
    assert T is not None
    at_once = op.at_once()
    if at_once is not None:
        return at_once
    places = op.places()
    v = [op.terminal()]
    with bar(f"{op.rule}, backups", T, shown=T * op.cost().work > LONG) as show:
        for t in reversed(range(T)):
            v.append(op.backup(t, v[-1], out=places[t]))
            show(T - t, "")
    return op.all_times(v[::-1], places)
