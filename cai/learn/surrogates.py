"""Surrogates: what a policy gradient climbs at each step of a trajectory; its gradient is the estimate."""

import torch
from torch import Tensor

from cai.errors import fault
from cai.learn.action_heads import ActionHead, Discrete


def score_function(log_pi: Tensor, advantages: Tensor) -> Tensor:
    """Return log π(a|s) Ψ, whose gradient is REINFORCE's (Williams 1992)."""
    return log_pi * advantages


def clipped(log_pi: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return ``min(ρ Ψ, clip(ρ, 1 ± ε) Ψ)``, ρ = π/π_old (Schulman et al. 2017, equation 7)."""
    ratio = (log_pi - old).exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def action_kl(kind: str, head: ActionHead, out: Tensor, prior: Tensor, log_ratio: Tensor, old: Tensor) -> Tensor:
    """Return an estimate of KL(π(·|s) ‖ p(·|s)) at the actions taken, nats: all kinds have the same mean.

    Args:
        kind: "k1" is log π/p, "k2" (log π/p)²/2, "k3" p/π - 1 + log π/p (Schulman 2020); "ratio_k3" is (π/π_old) k3;
            "full" is the sum over all actions.
        head: of the actions.
        out, prior: what the head reads, ``[*, …]``.
        log_ratio: log π/p at the actions, ``[*]``.
        old: the same of the policy that drew them.

    Raises:
        WorldError: "full" over actions that are not finite.
    """
    if kind == "full":
        if not isinstance(head, Discrete):
            raise fault("learner, kl", "'full' over continuous actions", "finitely many actions, or an estimate")
        return head.kl(out, prior)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return log_ratio**2 / 2
    k3 = torch.expm1(-log_ratio) + log_ratio
    return k3 if kind == "k3" else (log_ratio - old).exp() * k3
