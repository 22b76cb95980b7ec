"""The expected advantage of a return: its group's other texts averaged over, of the same policy."""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import Finding, IntractableError
from cai.exact.kl.kl_objective import KLObjective

MOST = 2_000_000
"""Groups that are counted, at most."""


def expected_advantages(
    objective: KLObjective, returns: Float[Tensor, " N"], chances: Float[Tensor, "T N"]
) -> Float[Tensor, " N"]:
    """Return ``E[A_i | R_i]`` of each return, where texts are drawn from a distribution of lengths and returns.

    The mean of the own group is a text's own return by 1/G, and else the mean: ``E[R_i - mean | R_i] = (1 - 1/G)(R_i -
    E[R])``. The standard deviation of a finite group needs all groups: a multinomial distribution of the other G - 1.

    Args:
        objective: baseline, scale and group.
        returns: the different returns, reward units.
        chances: of each length t + 1 and return.
    """
    p = chances.sum(0) / chances.sum()
    if objective.scale == "group_std" and objective.group is not None:
        return _standardised(objective, objective.group, returns, p)
    shrunk, noise = baseline_of(objective)
    mean = (p * returns).sum()
    centred = returns - mean if objective.baseline in ("group_mean", "leave_one_out") else returns
    variance = (p * (returns - mean) ** 2).sum()
    if objective.scale == "group_std":
        return centred / variance.sqrt()
    if objective.scale == "none":
        return shrunk * centred
    tokens = chances * torch.arange(1, len(chances) + 1, dtype=p.dtype).unsqueeze(-1)
    w = tokens.sum(0) / tokens.sum()
    centred = centred - (w * centred).sum()
    return shrunk * centred / (shrunk**2 * (w * centred**2).sum() + noise * variance).sqrt()


def baseline_of(objective: KLObjective) -> tuple[float, float]:
    """Return by what the baseline multiplies R - E[R], and what share of Var R it adds to an advantage's variance."""
    G = objective.group
    if G is None or objective.baseline not in ("group_mean", "leave_one_out"):
        return 1.0, 0.0
    return (1.0, 1 / (G - 1)) if objective.baseline == "leave_one_out" else ((G - 1) / G, (G - 1) / G**2)


def _standardised(objective: KLObjective, G: int, returns: Tensor, p: Tensor) -> Tensor:
    """Return E[(R_i - baseline)/std | R_i]; a group of equal returns has the advantage 0.

    Raises:
        IntractableError: there are too many groups.
    """
    N = len(returns)
    groups = math.comb(G + N - 2, N - 1)
    if groups > MOST:
        seen = f"{groups:,} groups of {G} texts with {N} different returns"
        raise IntractableError([Finding("KL objective, group_std", seen, f"at most {MOST:,}, or group=None")])
    others = _counts(G - 1, N)
    log_p = math.lgamma(G) - torch.lgamma(others + 1).sum(-1) + torch.special.xlogy(others, p).sum(-1)
    found = []
    for i in range(N):
        counts = others.clone()
        counts[:, i] += 1
        mean = (counts * returns).sum(-1) / G
        variance = (counts * (returns - mean.unsqueeze(-1)) ** 2).sum(-1) / G
        alike = (counts > 0).sum(-1) == 1
        rest = (others * returns).sum(-1) / (G - 1)
        centre = {"group_mean": mean, "leave_one_out": rest}.get(objective.baseline, torch.zeros_like(mean))
        each = torch.where(alike, 0.0, (returns[i] - centre) / torch.where(alike, 1.0, variance).sqrt())
        found.append((log_p.exp() * each).sum())
    return torch.stack(found)


def _counts(n: int, N: int) -> Float[Tensor, "M N"]:
    """Return every way to share n among N: N - 1 bars among n stars."""
    bars = list(itertools.combinations(range(n + N - 1), N - 1))
    at = torch.tensor(bars, dtype=torch.float64).reshape(len(bars), N - 1)
    ends = torch.cat([torch.full((len(bars), 1), -1.0), at, torch.full((len(bars), 1), float(n + N - 1))], -1)
    return (ends.diff(dim=-1) - 1).double()
