"""The one backward sweep: v_T is the terminal reward, then a backup for each time, last to first."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from cai.exact.operator import Operator, V
from cai.support.progress import bar

LONG = 2e9
"""Multiplications of a sweep from which on its cost is said before it."""


@runtime_checkable
class Backups(Protocol):
    """What the recursion asks of an operator, and all that shards and beliefs have of one."""

    def backup(self, t: int, v_next: V, out: Any = None) -> V:
        """Return v_t from v_{t+1}, reward units."""


def backups(op: Backups, v: V, T: int, places: Any = None) -> Iterator[V]:
    """Yield v of the times T-1 … 0, reward units, from v of time T.

    Args:
        op: the operator.
        v: v_T.
        T: the time from which to go back.
        places: where v of each time is to be written, by time; made anew unless given.
    """
    for t in reversed(range(T)):
        v = op.backup(t, v, out=None if places is None else places[t])
        yield v


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
    with bar(f"{op.rule}, backups", T) as show:
        for done, v_t in enumerate(backups(op, v[0], T, places), 1):
            v.append(v_t)
            show(done, "")
    return op.all_times(v[::-1], places)
