"""The one backward sweep: v_T is the terminal reward, then a backup for each time, last to first."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cai.exact.backup import Step
from cai.exact.prepare import largest, prepare, room
from cai.exact.rules import Rule
from cai.exact.scan import scan, scan_pays
from cai.types import Tables


def sweep(rule: Rule, tables: Tables, alpha: Float[Tensor, "*M"]) -> Float[Tensor, "*B T1 S"]:
    """Return v of every time, reward units, by one backward pass over the slices.

    ``v_T = r_T``, ``v_t = backup(v_{t+1})``: under POSTERIOR ``β_t(s) = exp(v_t(s)/α)`` (Levine 2018, section 2.3).

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with a finite horizon; its batch broadcasts against that of ``alpha``.
        alpha: temperatures, reward units.
    """
    assert tables.horizon is not None
    at_once = scan(tables, alpha) if scan_pays(rule, tables, alpha) else None
    if at_once is not None:
        return at_once
    T = tables.horizon
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    v = room(tables.terminal, T + 1, *batch, tables.states.size)
    v[T] = tables.terminal
    for t, step in enumerate_back(steps(rule, tables, alpha), T):
        step(v[t + 1], out=v[t])
    return v.movedim(0, -2)


def steps(rule: Rule, tables: Tables, alpha: Tensor) -> Iterator[Step]:
    """Yield the step of every time, the last first; one and the same where all slices are."""
    assert tables.horizon is not None
    scale, log_survival = largest(tables.terminal), tables.log_survival
    uses = 1 if tables.timed else tables.horizon
    step = None
    for t in reversed(range(tables.horizon)):
        if step is None or tables.timed:
            step = prepare(rule, tables.at(t), alpha, log_survival, uses=uses, scale=scale)
        yield step


def enumerate_back(items: Iterator[Step], T: int) -> Iterator[tuple[int, Step]]:
    """Number items from T-1 down to 0."""
    return zip(reversed(range(T)), items, strict=True)
