"""Success: the probability that an episode ends with a positive reward, where a world has such an end."""

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Slice, Tables
from cai.evaluation.part_accounts import Part


def success_of(part: Part) -> float | None:
    """Return Σ_t E_π[p(s_{t+1} has ended, r_t > 0 | s_t, a_t)], a probability; None where no end pays.

    An episode ends once at most, so that the sum over times is a probability.
    """
    model = part.model
    if not isinstance(model, Tables) or model.ended is None:
        return None
    wins = [_wins(model.at(t), model.ended) for t in (part.times if model.timed else range(1))]
    if not any(bool((win > 0).any()) for win in wins):
        return None
    with torch.no_grad():
        return sum(float((joint * wins[t if model.timed else 0]).sum()) for t, _, joint in part.joints())


def _wins(slice_: Slice, ended: Tensor) -> Float[Tensor, "S A"]:
    """Return the probability that an action ends the episode with a positive reward; 0 where it has ended."""
    won = ended[slice_.successor] & (slice_.reward > 0) & ~ended[:, None, None]
    return torch.where(won, slice_.log_prob.exp(), 0.0).sum(-1)
