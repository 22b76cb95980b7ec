"""The one backward sweep: v_T is the terminal reward, then a backup for each time, last to first."""

import torch
from jaxtyping import Float
from torch import Tensor

from cai.exact.backup import back_up, differentiable_backup
from cai.exact.rules import Rule
from cai.types import Tables


def sweep(rule: Rule, tables: Tables, alpha: Float[Tensor, "*M"]) -> Float[Tensor, "*B T1 S"]:
    """Return v of every time, reward units, by one backward pass over the slices.

    ``v_T = r_T``, ``v_t = backup(v_{t+1})``: under POSTERIOR ``β_t(s) = exp(v_t(s)/α)`` (Levine 2018, section 2.3).
    Differentiable in rewards, log-probabilities, prior and α.

    Args:
        rule: how outcomes and actions are marginalised.
        tables: with a finite horizon; its batch broadcasts against that of ``alpha``.
        alpha: temperatures, reward units.
    """
    assert tables.horizon is not None
    slices = list(tables.slices())
    log_survival = tables.log_survival
    batch = torch.broadcast_shapes(tables.batch_shape, alpha.shape)
    v = tables.terminal.expand(*batch, -1)
    messages = [v]
    # The autograd node is worth its overhead only where somebody asks for a gradient.
    tracked = torch.is_grad_enabled() and _any_requires_grad(tables, alpha)
    for t in range(tables.horizon - 1, -1, -1):
        one = slices[t] if tables.timed else slices[0]
        if tracked:
            v = differentiable_backup(rule, one, v, alpha, log_survival)[1]
        else:
            v = back_up(rule, one, v, alpha, log_survival).v
        messages.append(v)
    return torch.stack(messages[::-1], -2)


def _any_requires_grad(tables: Tables, alpha: Tensor) -> bool:
    fields = (tables.log_prior, tables.log_prob, tables.reward, tables.terminal, alpha)
    return any(field.requires_grad for field in fields)
