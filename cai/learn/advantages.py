"""Advantages: what a policy gradient puts in the place of the return; all are ``[T, N]``, reward units."""

import torch
from torch import Tensor


def rewards_to_go(rewards: Tensor, gamma: float) -> Tensor:
    """Return Σ_{t'≥t} γ^(t'-t) r_t', ``[T, N]``, reward units."""
    total, returns = torch.zeros_like(rewards[0]), []
    for r_t in rewards.flip(0):
        total = r_t + gamma * total
        returns.append(total)
    return torch.stack(returns[::-1])


def generalised_advantages(
    rewards: Tensor, v: Tensor, v_next: Tensor, going: Tensor, gamma: float, lam: float
) -> Tensor:
    """Return ``Â_t = δ_t + γ λ Â_{t+1}``, δ_t = r_t + γ V(s_{t+1}) - V(s_t) (Schulman et al. 2016, equation 16).

    Args:
        rewards: r_t, reward units, ``[T, N]``.
        v: V(s_t); what it is where nothing lives does not matter.
        v_next: V(s_{t+1}), 0 where nothing is paid any more.
        going: whether Â_{t+1} belongs to the same episode.
        gamma: γ.
        lam: λ; at 1 it is the reward to go less V(s_t).
    """
    delta = rewards + gamma * v_next - v
    total, advantages = torch.zeros_like(delta[0]), []
    for delta_t, on in zip(delta.flip(0), going.flip(0), strict=True):
        total = delta_t + gamma * lam * torch.where(on, total, 0.0)
        advantages.append(total)
    return torch.stack(advantages[::-1])


def less_group_mean(returned: Tensor, group: int) -> Tensor:
    """Return the returns less the mean of their group, themselves among it (Shao et al. 2024)."""
    grouped: Tensor = returned.unflatten(1, (-1, group))
    return (grouped - grouped.mean(-1, keepdim=True)).flatten(1)


def less_others(returned: Tensor, among: Tensor, group: int) -> Tensor:
    """Return the returns less the mean of the *others* in their group, of which ``among [T, N]`` count.

    The mean is independent of the own action (Kool et al. 2019; Ahmadian et al. 2024). Where nobody else
    counts, it is 0.
    """
    grouped, counts = returned.unflatten(1, (-1, group)), among.unflatten(1, (-1, group))
    n = counts.sum(-1, keepdim=True)
    kept = torch.where(counts, grouped, 0.0)
    others = (kept.sum(-1, keepdim=True) - kept) / (n - 1).clamp(min=1)
    less: Tensor = grouped - torch.where(counts & (n > 1), others, 0.0)
    return less.flatten(1)


def over_group_deviation(advantages: Tensor, returned: Tensor, group: int) -> Tensor:
    """Return advantages over the deviation of their group's returns, a mean over G; 0 where these are all the same."""
    grouped = returned.unflatten(1, (-1, group))
    alike = (grouped == grouped[..., :1]).all(-1, keepdim=True)
    deviation = torch.where(alike, torch.inf, grouped.std(-1, correction=0, keepdim=True))
    scaled: Tensor = advantages.unflatten(1, (-1, group)) / deviation
    return scaled.flatten(1)


def whitened(advantages: Tensor, alive: Tensor) -> Tensor:
    """Return advantages of mean 0 and deviation 1 over the batch's living steps."""
    living = advantages[alive]
    deviation = living.std(correction=0)
    return (advantages - living.mean()) / torch.where(deviation > 0, deviation, 1.0)
