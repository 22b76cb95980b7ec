"""A bound on the rounding error of one backup."""

import torch
from torch import Tensor

from cai.compile.table_model import Slice

ULPS = 32
"""Units in the last place that a backup may lose, of the largest number that it handles."""
DRIFT = 4
"""Units in the last place a step by which symmetric choices may drift apart, at most; measured: 0.06 (see TIE)."""
WARM = 30.0
"""From so many times the size of all values on, every form of the backup sees to it that α costs no digits."""


class Rounding:
    """A bound on the rounding of one backup, reward units: called with v ``[*B, S]``, before the backup or after it.

    It is relative to the numbers at hand, whatever their unit. A soft mean passes through ``α log Σ``, so α counts
    beside values and rewards, as far as it is not so warm that the logarithm is taken near 1.

    Args:
        reward: the largest size of a reward, reward units.
        alpha: the largest temperature, reward units.
        ulps: what a backup may lose, in units in the last place of the largest number.
        warm: from so many times the size of all values on α costs no digits; inf where it always does.
    """

    def __init__(self, reward: float, alpha: float, ulps: int = ULPS, warm: float = WARM) -> None:
        self.reward, self.alpha, self.ulps, self.warm = reward, alpha, ulps, warm

    @staticmethod
    def of(slice_: Slice, alpha: Tensor) -> "Rounding":
        """Return the bound for a slice."""
        return Rounding(largest(slice_.reward), float(alpha.max()))

    def size(self, *values: Tensor) -> float:
        """Return the size of the largest number at hand, reward units."""
        return max(self.reward, *map(largest, values))

    def __call__(self, *values: Tensor) -> float:
        """Return the bound."""
        size = self.size(*values)
        heat = self.alpha if self.warm == float("inf") else min(self.alpha, self.warm * size)
        return self.ulps * torch.finfo(values[0].dtype).eps * (size + heat)


def tied_from(value: Tensor, sizes: Tensor, steps: int, error_bound: float) -> Tensor:
    """Return the score from which on choices are tied, where the mean over them is a maximum.

    Choices that are equal by symmetry differ by what the sweep has lost: DRIFT units in the last place a step, of the
    largest number at hand, or of an endless sweep its proved bound, both ways.

    Args:
        value: the maximum, reward units, ``[*B, S]``.
        sizes: of the numbers that were added up, reward units, ``[*B, 1]``.
        steps: to go; 0 for the infinite horizon.
        error_bound: of v, reward units.
    """
    return value - DRIFT * steps * torch.finfo(value.dtype).eps * sizes - 2 * error_bound


def at_hand(reward: Tensor, v_next: Tensor) -> Tensor:
    """Return the largest finite size of rewards ``[*B, S, A, K]`` and values ``[*B, S]``, ``[*B, 1]``."""
    sizes = [torch.where(x.detach().isinf(), 0.0, x.detach().abs()) for x in (reward.flatten(-3), v_next)]
    return torch.maximum(*(x.amax(-1, keepdim=True) for x in sizes))


def largest(values: Tensor) -> float:
    """Return the largest finite size of any value; 0 where there is none."""
    if values.device.type == "cpu":  # NumPy goes through tables in the order in which they lie, torch does not
        array = values.detach().numpy()
        low, high = float(array.min()), float(array.max())
    else:
        low, high = (float(end) for end in torch.aminmax(values))
    if low > -torch.inf:
        return max(-low, high)
    return float(torch.where(values == -torch.inf, 0.0, values).abs().max())
