"""The last line of a backup, hard or soft, and the policy that goes with it; α = None means hard.

soft   V(s) = α log Σ_a p(a|s) exp(Q(s,a)/α)     π(a|s) = p(a|s) exp((Q(s,a) - V(s))/α)
hard   V(s) = max of Q(s,a) over p(a|s) > 0      π(a|s) ∝ p(a|s) where Q(s,a) = V(s)
"""

import torch
from torch import Tensor

from cai.support.numerics import logsumexp


def state_value(q: Tensor, log_prior: Tensor, alpha: float | None) -> Tensor:
    """Return V(s), reward units, of ``q [*, A]`` in reward units and log p(a|s) ``[*, A]`` in nats."""
    if alpha is None:
        return torch.where(log_prior > -torch.inf, q, -torch.inf).amax(-1)
    return alpha * logsumexp(log_prior + q / alpha, -1)


def log_policy(q: Tensor, log_prior: Tensor, alpha: float | None) -> Tensor:
    """Return log π(a|s), nats, ``[*, A]``; a hard policy shares ties as the prior does.

    Where the value of every action is -inf it is the prior.
    """
    allowed = torch.where(log_prior > -torch.inf, q, -torch.inf)
    q = torch.where((allowed > -torch.inf).any(-1, keepdim=True), q, 0.0)
    if alpha is not None:
        return (log_prior + q / alpha).log_softmax(-1)
    best = q == state_value(q, log_prior, None).unsqueeze(-1)
    return torch.where(best, log_prior, -torch.inf).log_softmax(-1)


def policy_value(q: Tensor, log_pi: Tensor, log_prior: Tensor, alpha: float | None) -> Tensor:
    """Return Σ_a π(a|s) (Q(s,a) - α log π(a|s)/p(a|s)), reward units: V(s) of a policy that need not be Q's own."""
    price = 0.0 if alpha is None else alpha * (log_pi - log_prior)
    return torch.where(log_pi > -torch.inf, log_pi.exp() * (q - price), 0.0).sum(-1)


def q_loss(q_tm1: Tensor, target: Tensor, v_tm1: Tensor, value_gradient: float) -> Tensor:
    """Return a loss whose gradient is ``-(∇Q(s,a) - c ∇V(s)) δ``, with δ = target - Q(s,a) held fixed, ``[N]`` each.

    c = 0 is the shortcut of (soft) Q-learning, ``θ ← θ + lr ∇Q (r + γ V(s') - Q)``; c = 1 restores the term that it
    drops, and is the soft policy gradient's direction: it moves Q - V alone, so the level of V is not learned.
    """
    delta = (target - q_tm1).detach()
    return -((q_tm1 - value_gradient * v_tm1) * delta).mean()
