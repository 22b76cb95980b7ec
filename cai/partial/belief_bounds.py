"""A bound on the error of the start value over beliefs at an infinite horizon: from the cut, rounding and merging."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.exact.messages import Messages
from cai.exact.rounding import ULPS, Rounding, largest
from cai.exact.rules import VARIATIONAL
from cai.exact.tables import policy_evaluation as acting
from cai.partial.belief_tree import CELL, Layer
from cai.partial.filtering import TableBeliefs


def tail_of(engine: TableBeliefs, last: Layer, full: Messages, T: int) -> tuple[Float[Tensor, " S"], float]:
    """Return the middle of what may follow time T, reward units ``[S]``, and γ^T times half of its range.

    A belief is worth at most what its best state is where all is seen, and at least what the prior earns in its worst.

    Args:
        engine: the compiled world, and what is seen of it.
        last: the beliefs of time T-1.
        full: the messages of the same rule where the state is seen.
        T: where to cut.
    """
    tables = engine.model
    slice_, here = tables.at(0), (last.beliefs > 0).any(0)
    possible = (slice_.log_prob > -torch.inf) & (slice_.log_prior > -torch.inf).unsqueeze(-1) & here[:, None, None]
    ahead = slice_.successor[possible].unique()
    hi, lo = float(full.v[ahead].max()) + full.error_bound, float(_prior_earns(full)[ahead].min())
    if lo == -torch.inf:  # the prior risks what is forbidden: nothing is proved
        return torch.zeros_like(tables.terminal), torch.inf
    return torch.full_like(tables.terminal, (hi + lo) / 2), tables.discount**T * (hi - lo) / 2


def drift(full: Messages, values: Sequence[Tensor]) -> float:
    """Return a bound on what rounding and the merging of beliefs move the start value by, reward units.

    The value of a policy is linear in the belief. Beliefs that are taken for equal differ by ``3/2 CELL`` in a state at
    most, and a belief is rounded, so that each layer moves a value by half of the difference of the two, times the
    spread of a policy's values over the states. Rewards less the price of acting, α KL, have a range; the spread is at
    most that for ever. With the rounding of each backup that is ``Σ γ^t`` of the same.

    Args:
        full: the messages of the same rule where the state is seen.
        values: v of the beliefs of each time.
    """
    tables = full.model
    assert isinstance(tables, Tables)
    S = tables.states.size
    reward = tables.reward[tables.reward > -torch.inf]
    if not len(reward):
        return 0.0
    spread = (float(reward.max() - reward.min()) + _dearest(full)) / (1 - tables.discount)
    ulps, eps = ULPS + S, torch.finfo(tables.dtype).eps
    moved = (1.5 * S * CELL + ulps * eps) * spread / 2
    rounded = Rounding(largest(tables.reward), float(full.temperature), ulps)(*values)
    return (moved + rounded) / (1 - tables.discount)


def _dearest(full: Messages) -> float:
    """Return the most that the best policy over beliefs pays for one action, α KL(π ‖ p), reward units.

    It is at most ``α log 1/p(a)``, and at most what better actions bring: the range of values.
    """
    if full.rule != VARIATIONAL:
        return 0.0
    assert isinstance(full.model, Tables)
    log_prior = full.model.log_prior
    rarest = float(full.temperature) * -float(log_prior[log_prior > -torch.inf].min())
    range_ = float(full.v.max()) + full.error_bound - float(_prior_earns(full).min())
    return min(rarest, range_)


def _prior_earns(full: Messages) -> Float[Tensor, " S"]:
    """Return what the action prior earns at least, reward units; -inf where it risks what is forbidden."""
    tables = full.model
    assert isinstance(tables, Tables)
    evaluated = acting.values(tables, tables.log_prior, full.temperature)
    pi = tables.log_prior.exp()
    again = torch.where(pi > 0, pi * evaluated.q, 0.0).sum(-1)
    off = torch.where(evaluated.v == again, 0.0, (evaluated.v - again).abs()).max()
    rounding = Rounding(largest(tables.reward), 0.0)(evaluated.v)
    return evaluated.v - (float(off) + rounding) / (1 - tables.discount)
