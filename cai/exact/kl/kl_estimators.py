"""The estimators of one token's KL: their values, and what the gradients of them add to that of the reward."""

import torch
from jaxtyping import Float
from torch import Tensor


def nats(log_pi: Float[Tensor, "*S A"], log_ref: Float[Tensor, "*S A"]) -> Float[Tensor, "*S A"]:
    """Return ℓ = log π/ref, nats; 0 where neither takes the action."""
    return torch.where(log_pi == log_ref, 0.0, log_pi - log_ref)


def estimate(kl: str, log_pi: Float[Tensor, "*S A"], log_ref: Float[Tensor, "*S A"]) -> Float[Tensor, "*S A"]:
    """Return an estimator's value where π_old = π, nats: ratio × k3 is k3 there."""
    log_r, pi = nats(log_pi, log_ref), log_pi.exp()
    if kl == "k1":
        return log_r
    if kl == "k2":
        return log_r**2 / 2
    if kl == "full":
        return torch.where(pi > 0, pi * log_r, 0.0).sum(-1, keepdim=True).expand_as(log_r)
    return (-log_r).exp() - 1 + log_r


def slope(kl: str, log_pi: Float[Tensor, "*S A"], log_ref: Float[Tensor, "*S A"]) -> Float[Tensor, "*S A"]:
    """Return f of ``∇k = f ∇log π``, nats; of the full KL, whose gradient is ``E[ℓ ∇log π]``, ℓ."""
    log_r = nats(log_pi, log_ref)
    if kl == "k1":
        return torch.ones_like(log_r)
    return 1 - (-log_r).exp() if kl == "k3" else log_r
