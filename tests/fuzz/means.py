"""Means that a user might write: the library knows nothing of them but the four methods of ``Mean``."""

import torch
from torch import Tensor


class Hurwicz:
    """A share of optimism: ``(1 - h) Σ w x + h max x`` (Hurwicz 1951)."""

    def __init__(self, optimism: float) -> None:
        self.optimism = optimism

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return the mean."""
        w = log_w.exp()
        average = torch.where(w > 0, w * x, 0.0).sum(-1)
        return (1 - self.optimism) * average + self.optimism * torch.where(w > 0, x, -torch.inf).amax(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log ((1 - h) w + h 1[x is the first maximum])."""
        first = torch.nn.functional.one_hot(torch.where(log_w > -torch.inf, x, -torch.inf).argmax(-1), x.shape[-1])
        mixed = ((1 - self.optimism) * log_w.exp() + self.optimism * first).log()
        return torch.where((value == -torch.inf).unsqueeze(-1), log_w, mixed)

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return (1 - h) w x."""
        w = log_w.exp()
        return torch.where(w > 0, (1 - self.optimism) * w * torch.where(x == -torch.inf, 0.0, x), 0.0)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(value)


class Worst:
    """The minimum of x over the support of w: whoever chooses is an adversary."""

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        """Return min x where w > 0."""
        return torch.where(log_w == -torch.inf, torch.inf, x).amin(-1)

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        """Return log 1[x is the first minimum]."""
        worst = torch.where(log_w == -torch.inf, torch.inf, x).argmin(-1)
        return torch.nn.functional.one_hot(worst, x.shape[-1]).to(x.dtype).log()

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(weights)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(value)
