"""Successors merged over actions: with a fixed prior POSTERIOR is linear in β, and a backup is one sparse product.

    β_t(s) = Σ_s' M(s, s') β_{t+1}(s')
    M(s, s') = Σ p(a|s) p(outcome|s, a) exp(r/α)  over the outcomes that lead to s'

MAP is the same with maxima in place of sums.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rules import MAP, Rule
from cai.exact.tables.backup import Equation


@dataclass(frozen=True)
class Merged:
    """The operator M of one slice, E entries a row, laid out like the outcomes of a slice with a single action.

    The best reward of a row is taken out of it, so that no reward over α overflows, nor drowns a probability.

    Attributes:
        successor: s' of each entry, ``[*B, S, 1, E]``.
        log_m: log M(s, s') - gain/α, nats, ``[*B, S, 1, E]``; -inf for an entry that the row does not need.
        gain: the best reward that a state may meet, reward units, ``[*L, S, 1, 1]``; 0 where there is none.
        entry: which entry each outcome went to, ``[*B, S, A, K]``; any of them for an outcome that is impossible.
    """

    successor: Tensor
    log_m: Tensor
    gain: Tensor
    entry: Tensor


def best_reward(slice_: Slice) -> Tensor:
    """Return the largest reward of any possible outcome of each state, reward units, ``[*L, S, 1, 1]``; 0 for none."""
    possible = (slice_.log_prior.unsqueeze(-1) > -torch.inf) & (slice_.log_prob > -torch.inf)
    best = torch.where(possible, slice_.reward, -torch.inf).amax((-2, -1), keepdim=True)
    return torch.where(best == -torch.inf, 0.0, best)


def log_weights(slice_: Slice, alpha: Tensor, gain: Tensor) -> Tensor:
    """Return ``log p(a|s) + log p(outcome|s, a) + (r - gain)/α``, nats, ``[*B, S, A, K]``."""
    return slice_.log_prior.unsqueeze(-1) + slice_.log_prob + (slice_.reward - gain) / alpha[..., None, None, None]


def merge(equation: Equation) -> Merged:
    """Merge the outcomes of every state that share a successor, in the order of the successors' numbers."""
    slice_ = equation.slice
    gain = best_reward(slice_)
    log_w = log_weights(slice_, equation.alpha, gain).flatten(-2)
    possible = (log_w > -torch.inf).reshape(-1, *log_w.shape[-2:]).any(0)  # one pattern for a whole batch
    number = torch.where(possible, slice_.successor.flatten(-2), -1)
    ordered, order = number.sort(dim=-1, stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    place = (fresh & (ordered >= 0)).cumsum(-1)
    E = max(1, int(place.max()))
    entry = torch.empty_like(place).scatter_(-1, order, (place - 1).clamp(min=0))
    successor = number.new_zeros(*number.shape[:-1], E).scatter_reduce_(-1, entry, number, "amax")
    log_m = _total(equation.rule, log_w, entry.expand(log_w.shape), E)
    return Merged(successor.unsqueeze(-2), log_m.unsqueeze(-2), gain, entry.reshape(slice_.successor.shape))


def _total(rule: Rule, log_w: Tensor, entry: Tensor, E: int) -> Tensor:
    """Take the log-sum, for MAP the maximum, of the outcomes that went to each entry."""
    top = log_w.new_full((*log_w.shape[:-1], E), -torch.inf).scatter_reduce_(-1, entry, log_w, "amax")
    if rule == MAP:
        return top
    base = torch.where(top == -torch.inf, 0.0, top)
    return base + torch.zeros_like(top).scatter_add_(-1, entry, (log_w - base.gather(-1, entry)).exp()).log()
