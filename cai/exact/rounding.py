"""How far the rounding of one backup can go."""

import torch
from torch import Tensor

from cai.types import Slice

ULPS = 32
"""Units in the last place that a backup may lose, of the largest number that it handles."""
WARM = 30.0
"""From so many times the size of all values on, every form of the backup sees to it that α costs no digits."""


class Rounding:
    """A bound on the rounding of one backup, reward units: called with v ``[*B, S]``, before the backup or after it.

    A soft mean passes through ``α log Σ``, so α counts beside values and rewards.
    """

    def __init__(self, one: Slice, alpha: Tensor) -> None:
        self.reward, self.alpha = largest(one.reward), float(alpha.max())

    def __call__(self, *values: Tensor) -> float:
        """Return the bound."""
        size = max(self.reward, *map(largest, values))
        return ULPS * torch.finfo(values[0].dtype).eps * (max(1.0, size) + min(self.alpha, WARM * size))


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
