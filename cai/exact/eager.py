"""Backups as a few tensor operations each, on any device and in batches: for worlds that are not worth a kernel."""

import torch
from torch import Tensor

from cai.exact.backup import Step, back_up, look_ahead, survive
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
        return _into(out, back_up(rule, one, v_next, alpha, log_survival).v)

    return step


def _linear(rule: Rule, merged: Merged, alpha: Tensor, log_survival: Tensor) -> Step:
    """``v = α log Σ M(s, s') exp(v'/α)``, for MAP ``v = max (α log M(s, s') + v')``, in log space."""

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        u = survive(rule, v_next, alpha, log_survival) / alpha[..., None]
        x = (merged.log_m + look_ahead(u, merged.successor)).squeeze(-2)
        return _into(out, alpha[..., None] * (x.amax(-1) if rule == MAP else x.logsumexp(-1)))

    return step


def _held(rule: Rule, held: Held, log_prior: Tensor, alpha: Tensor) -> Step:
    """``q = E[r] + γ Σ p v'``, then the mean over actions; at no temperature that is too warm for a plain logarithm."""
    soft, a = isinstance(rule.over_actions, Soft), alpha[..., None]
    bias = log_prior if soft else torch.where(log_prior == -torch.inf, log_prior, 0.0)
    certain = bool((held.onward > 0).all())  # else an outcome of probability 0 may lead to -inf

    def step(v_next: Tensor, out: Tensor | None = None) -> Tensor:
        ahead = look_ahead(v_next, held.successor)
        q = held.reward + (held.onward * ahead).sum(-1) if certain else held.q(v_next)
        v = a * torch.logsumexp(bias + q / a.unsqueeze(-1), -1) if soft else (bias + q).amax(-1)
        return _into(out, v)

    return step


def _into(out: Tensor | None, v: Tensor) -> Tensor:
    return v if out is None else out.copy_(v)
