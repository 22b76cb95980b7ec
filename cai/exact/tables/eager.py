"""Backups as a few tensor operations each, on any device and in batches: for worlds that are not worth a kernel."""

from collections.abc import Callable

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.exact.rules import MAP, POSTERIOR, Mean, Rule, assumption
from cai.exact.tables.averaged import Held, hold
from cai.exact.tables.backup import Step, back_up, reader, survive
from cai.exact.tables.merged import Merged, merge


def eager(rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> Step:
    """Return the slice's backup in its shortest form: merged, held, or as the equation stands."""
    if rule in (POSTERIOR, MAP):
        return _linear(rule, merge(rule, one, alpha), alpha, log_survival)
    if rule.averages:
        return _held(hold(one, float(log_survival[0].exp())), _over_actions(rule.over_actions, one.log_prior, alpha))
    return plain(rule, one, alpha, log_survival)


def plain(rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> Step:
    """Return the backup as the equation stands: right at every temperature, and the one that others are held to."""

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        v = back_up(rule, one, v_next, alpha, log_survival).v
        return v if out is None else out.copy_(v)

    return step


def _linear(rule: Rule, merged: Merged, alpha: Tensor, log_survival: Tensor) -> Step:
    """``v = α log Σ M(s, s') exp(v'/α)``, for MAP ``v = max (α log M(s, s') + v')``, in log space."""
    read, a = reader(merged.successor), alpha[..., None]
    gain, mortal = merged.gain[..., 0, 0], bool(log_survival[1] > -torch.inf)

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        c = survive(rule, v_next, alpha, log_survival) if mortal else v_next
        top = c.amax(-1, keepdim=True).clamp(min=torch.finfo(c.dtype).min)
        x = (merged.log_m + read((c - top) / a)).squeeze(-2)
        return torch.add(gain + top, a * (x.amax(-1) if rule == MAP else x.logsumexp(-1)), out=out)

    return step


def _held(held: Held, mean: Callable[[Tensor], Tensor]) -> Step:
    """``q = E[r] + γ Σ p v'``, then the mean over actions."""
    read = reader(held.successor)
    never = held.onward == 0
    holes = bool(never.any())  # an outcome of probability 0 may lead to -inf, and counts for nothing

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        following = held.onward * read(v_next)
        following = following.masked_fill_(never, 0.0) if holes else following
        v = mean(held.reward + following.sum(-1))
        return v if out is None else out.copy_(v)

    return step


def _over_actions(mean: Mean, log_prior: Tensor, alpha: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the mean of ``q [*B, S, A]``; at no temperature that is too warm or too cold for a plain logarithm."""
    known, a = assumption(mean), alpha[..., None]
    if known is not None and known.kind == "linear" and known.eta is None:
        return lambda q: a * torch.logsumexp(log_prior + q / a.unsqueeze(-1), -1)
    if known is not None and known.kind == "maximum":
        price = a.unsqueeze(-1) * log_prior if known.paid else torch.zeros_like(log_prior)
        bias = torch.where(log_prior == -torch.inf, log_prior, price)
        return lambda q: (bias + q).amax(-1)
    return lambda q: mean.value(q, log_prior, a)
