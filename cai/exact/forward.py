"""The forward pass: probability flowing through the tilted slices, and the forward messages in log space."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cai.compile.table_model import Slice, Tables
from cai.exact.rounding import largest
from cai.exact.rules import POSTERIOR
from cai.exact.tables.adjoints import gathering
from cai.exact.tables.backup import Tilt, put_back
from cai.support.numerics import nats


def push(mu: Tensor, one: Slice, tilted: Tilt) -> tuple[Tensor, Tensor]:
    """Push ``p(s_t, alive) [*B, S]`` through one slice: outcome marginals ``[*B, S, A, K]`` and ``p(s_{t+1}, alive)``.

    ``μ_t(s, a, outcome) = μ_t(s) π(a|s) p̃(outcome|s, a)``; the next μ sums over what leads to s' and survives.
    """
    joint = mu[..., None, None] * (tilted.log_policy.unsqueeze(-1) + tilted.log_outcome).exp()
    return joint, put_back(joint, one.successor, mu.shape[-1]) * tilted.log_survive.exp()


def flow(mu: Tensor, slices: Iterator[tuple[Slice, Tilt]]) -> Iterator[Tensor]:
    """Yield ``p(s_t, alive)`` for t = 0 … T from the start ``mu [*B, S]``."""
    yield mu
    for one, tilted in slices:
        mu = push(mu, one, tilted)[1]
        yield mu


def posterior_flow(tables: Tables, alpha: Tensor, v: Tensor, mu: Tensor) -> Iterator[Tensor]:
    """Yield ``p(s_t, alive|O)`` for t = 0 … T from the start ``mu [*B, S]``, given POSTERIOR's ``v [*B, T+1, S]``.

    It is the adjoint's own flow, since the gradient of log Z is made of the posterior's marginals.
    """
    yield mu
    T, one = v.shape[-2] - 1, None
    scale = largest(tables.terminal)
    for t in range(T):
        if one is None or tables.timed:
            uses = 1 if tables.timed else T
            one = gathering(POSTERIOR, tables.at(t), alpha, tables.log_survival, uses=uses, scale=scale)
        mu = one.push(v[..., t + 1, :], mu)
        yield mu


def forward_message(log_f: Tensor, one: Slice, alpha: Tensor, log_discount: Tensor) -> Tensor:
    """Advance the forward message ``f_t(s) = p(s_t, alive, O_{<t})`` by one slice, in nats, shape ``[*B, S]``.

    ``f_{t+1}(s') = γ Σ f_t(s) p(a|s) p(outcome|s,a) exp(r/α)`` over all that leads to s': the forward half of the
    forward-backward recursion (Rabiner 1989, section III.A).
    """
    entries = one.log_prior.unsqueeze(-1) + one.log_prob + nats(one.reward, alpha[..., None, None, None])
    entries = (log_f[..., None, None] + entries).flatten(-3)
    number = one.successor.flatten(-3).expand(entries.shape)
    top = torch.full_like(log_f, -torch.inf).scatter_reduce(-1, number, entries, "amax")
    top = torch.where(top == -torch.inf, 0.0, top)
    total = torch.zeros_like(log_f).scatter_add(-1, number, (entries - top.gather(-1, number)).exp())
    return top + total.log() + log_discount
