"""Draws from a switching world's true dynamics."""

import torch
from torch import Tensor

from cai.compile.by_mode import picked
from cai.exact.operator import Operator, Pick


def draw_start(op: Operator, n: int, pick: Pick) -> Tensor:
    """Draw n start states from p(s_0), ``[N, 1 + n]``."""
    model = op.model
    i = pick.several(model.log_modes, n)
    scale, middle = model.start_scale[i], model.start_mean[i]
    x = middle + (scale @ pick.normal(middle, scale.shape[-1]).unsqueeze(-1)).squeeze(-1)
    s: Tensor = model.states.row(i, x)
    return s


def draw(op: Operator, t: int, s: Tensor, a: Tensor, pick: Pick) -> Tensor:
    """Draw next states from the true dynamics, ``[N, 1 + n]``."""
    model, space = op.model, op.model.states
    log_p, slices = model.at(t)
    e = pick(torch.where(model.source == space.mode(s).unsqueeze(-1), log_p, -torch.inf))
    seen, own = torch.cat((space.real(s), a), -1), picked(slices, e)
    y = torch.cat((seen, pick.normal(seen, own.transition.shape[-1] - seen.shape[-1])), -1)
    x = (own.transition @ y.unsqueeze(-1)).squeeze(-1) + own.drift
    following: Tensor = space.row(model.target[e], x)
    return following
