"""Numbers in log space: logarithms of zero without NaN in a derivative, and an error for values too large in nats."""

import torch
from torch import Tensor

from cai.errors import Finding, IntractableError

COLD = 1e18
"""Room below the largest number of a dtype: so many numbers in nats can be added up, or one be that unlikely."""


def log(p: Tensor) -> Tensor:
    """Return log p, -inf at 0 without an infinite derivative there."""
    return torch.where(p > 0, torch.where(p > 0, p, 1.0).log(), -torch.inf)


def logsumexp(x: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Return log Σ exp x: -inf where all entries are, with a derivative of zero there, where torch's is NaN."""
    nothing = (x == -torch.inf).all(dim, keepdim=True) if isinstance(dim, int) else _all(x == -torch.inf, dim)
    total = torch.where(nothing, 0.0, x).logsumexp(dim, keepdim=True)
    total = torch.where(nothing, -torch.inf, total)
    return total if keepdim else total.squeeze(dim)


def nats(value: Tensor, alpha: Tensor) -> Tensor:
    """Return value/α, nats; -inf stays -inf.

    Raises:
        IntractableError: it is finite, and so large that the dtype has no room to add such numbers up.
    """
    ratio = value / alpha
    most = torch.finfo(ratio.dtype).max / COLD
    lost = (ratio.abs() > most) & value.isfinite()
    if bool(lost.any()):
        x, a = (float(number.detach().expand(lost.shape)[lost][0]) for number in (value, alpha))
        seen = f"{x:.6g} reward units at temperature {a:.6g}, too large in nats"
        expected = f"at most {most:.3g} nats: a higher temperature, or the number in reward units"
        raise IntractableError([Finding("a number in nats", seen, expected)])
    return ratio


def _all(flags: Tensor, dims: tuple[int, ...]) -> Tensor:
    for dim in dims:
        flags = flags.all(dim, keepdim=True)
    return flags
