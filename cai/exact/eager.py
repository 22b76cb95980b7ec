"""Backups as a few tensor operations each, on any device and in batches: for worlds that are not worth a kernel."""

import torch
from torch import Tensor

from cai.exact.backup import Step, back_up, reader, survive
from cai.exact.held import Held, hold
from cai.exact.merge import Merged, merge
from cai.exact.rules import MAP, POSTERIOR, Expect, Rule, Soft
from cai.types import Slice


def eager(rule: Rule, one: Slice, alpha: Tensor, log_survival: Tensor) -> Step:
    """Return the slice's backup in its shortest form: merged, held, or as the equation stands."""
    if rule in (POSTERIOR, MAP):
        return _linear(rule, merge(rule, one, alpha), alpha, log_survival)
    if isinstance(rule.over_outcomes, Expect):
        return _held(rule, hold(one, float(log_survival[0].exp())), one.log_prior, alpha)
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
    mortal = bool(log_survival[1] > -torch.inf)

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        c = survive(rule, v_next, alpha, log_survival) if mortal else v_next
        x = (merged.log_m + read(c / a)).squeeze(-2)
        return torch.mul(a, x.amax(-1) if rule == MAP else x.logsumexp(-1), out=out)

    return step


def _held(rule: Rule, held: Held, log_prior: Tensor, alpha: Tensor) -> Step:
    """``q = E[r] + γ Σ p v'``, then the mean over actions; at no temperature that is too warm for a plain logarithm."""
    read, a = reader(held.successor), alpha[..., None]
    soft = isinstance(rule.over_actions, Soft)
    bias = log_prior if soft else torch.where(log_prior == -torch.inf, log_prior, 0.0)
    never = held.onward == 0
    holes = bool(never.any())  # an outcome of probability 0 may lead to -inf, and counts for nothing

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        following = held.onward * read(v_next)
        following = following.masked_fill_(never, 0.0) if holes else following
        q = held.reward + following.sum(-1)
        v = a * torch.logsumexp(bias + q / a.unsqueeze(-1), -1) if soft else (bias + q).amax(-1)
        return v if out is None else out.copy_(v)

    return step
