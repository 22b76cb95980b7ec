"""The one backward sweep: v_T is the terminal reward, then a backup for each time, last to first."""

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.exact.rounding import largest
from cai.exact.rules import Rule
from cai.exact.tables.backup import Step
from cai.exact.tables.doubling import scan, scan_pays
from cai.exact.tables.prepare import prepare, room
from cai.support.memory import require_room


def sweep(rule: Rule, tables: Tables, alpha: Float[Tensor, "*M"], step: Step | None = None) -> Float[Tensor, "*B T1 S"]:
    """Return v of every time, reward units, by one backward pass over the slices.

    ``v_T = r_T``, ``v_t = backup(v_{t+1})``: under POSTERIOR ``β_t(s) = exp(v_t(s)/α)`` (Levine 2018, section 2.3).

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with a finite horizon; its batch broadcasts against that of ``alpha``.
        alpha: temperatures, reward units.
        step: ``ready(rule, tables, alpha)``, if that is at hand.

    Raises:
        IntractableError: the values of all times need more memory than there is.
    """
    assert tables.horizon is not None
    T, S = tables.horizon, tables.states.size
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    size = f"values of S = {S:,} states at T = {T:,} times" + (f" in a batch of {batch.numel():,}" if batch else "")
    require_room("solve", size, (T + 1) * batch.numel() * S * tables.dtype.itemsize)
    at_once = scan(tables, alpha) if scan_pays(rule, tables, alpha) else None
    if at_once is not None:
        return at_once
    v = room(tables.reward, T + 1, *batch, S)
    v[T] = tables.terminal
    step = step or ready(rule, tables, alpha)
    for t in reversed(range(T)):
        take = step or ready(rule, tables, alpha, t)
        assert take is not None
        take(v[t + 1], out=v[t])
    return v.movedim(0, -2)


def ready(rule: Rule, tables: Tables, alpha: Tensor, t: int | None = None) -> Step | None:
    """Return the step of time t; without one the step of all times, None where they differ."""
    if t is None and tables.timed:
        return None
    scale, uses = largest(tables.terminal), 1 if tables.timed else tables.horizon or 1
    return prepare(rule, tables.at(t or 0), alpha, tables.log_survival, uses=uses, scale=scale)
