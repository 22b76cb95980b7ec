"""Draws from a linear-Gaussian world's true dynamics."""

import torch
from torch import Tensor

from cai.exact.operator import Operator, Pick


def draw_start(op: Operator, n: int, pick: Pick) -> Tensor:
    """Draw n start states from p(s_0), ``[N, n]``."""
    scale, middle = op.model.start_scale, op.model.start_mean
    s: Tensor = middle + pick.normal(middle.expand(n, -1), scale.shape[-1]) @ scale.mT
    return s


def draw(op: Operator, t: int, s: Tensor, a: Tensor, pick: Pick) -> Tensor:
    """Draw next states from the true dynamics, ``[N, n]``."""
    slice_ = op.model.at(t)
    y = torch.cat((s, a, pick.normal(s, op.model.noise)), -1)
    following: Tensor = y @ slice_.transition.mT + slice_.drift
    return following
