"""Sums over a trajectory of random length: two linear systems of a Markov chain with survival.

With J the matrix of one surviving step, ``(I - J)⁻¹ b`` is the sum of b over the rest of the trajectory, and ``(I -
Jᵀ)⁻¹ b`` are the expected visits of a trajectory that starts in b.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.errors import NotConvergedError
from cai.exact.anderson import Anderson

MAX_STEPS = 500_000
PATIENCE = 2000
"""A sum that has not come closer in so many steps never will."""
FINE, COARSE = 8, 1000
"""Units in the last place by which one more step may change a sum; and where it comes no closer to that any more."""


@runtime_checkable
class Transition(Protocol):
    """One living step J."""

    def pull(self, h: Tensor) -> Tensor:
        """Return J h, ``[*B, S]``."""

    def push(self, mu: Tensor) -> Tensor:
        """Return Jᵀ μ, ``[*B, S]``."""

    def dense(self) -> Tensor | None:
        """Return J, ``[*B, S, S]``; None where it is too large to be solved densely."""


def life_to_come(transition: Transition, b: Tensor) -> Tensor:
    """Return ``(I - J)⁻¹ b``, ``[*B, S]``.

    Raises:
        NotConvergedError: the sum over a lifetime is not finite, or too long to be added up.
    """
    J = transition.dense()
    return summed(transition.pull, b) if J is None else _solved(J, b)


def visits(transition: Transition, b: Tensor) -> Tensor:
    """Return ``(I - Jᵀ)⁻¹ b``, ``[*B, S]``.

    Raises:
        NotConvergedError: the sum over a lifetime is not finite, or too long to be added up.
    """
    J = transition.dense()
    if J is not None:
        return _solved(J.mT, b)
    total = summed(transition.push, b)
    # A trajectory visits its start at least once, and rounding must not make a probability negative.
    return torch.maximum(total, b) if bool((b >= 0).all()) else total


def _solved(J: Tensor, b: Tensor) -> Tensor:
    try:
        x = torch.linalg.solve(torch.eye(J.shape[-1], dtype=J.dtype, device=J.device) - J, b)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise NotConvergedError("a lifetime is not finite: I - J is singular") from error
    return torch.as_tensor(x)


def summed(step: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Return ``x = b + step(x)``, the sum over a lifetime, as far as rounding allows.

    Raises:
        NotConvergedError: it is not finite, or too long to be added up.
    """
    eps, search = torch.finfo(b.dtype).eps, Anderson(lambda x: b + step(x), b)
    recent = earlier = float("inf")
    for n in range(1, MAX_STEPS + 1):
        x, size = search.best.fx, search.best.size
        ulps = size / (eps * max(float(x.abs().max()), torch.finfo(b.dtype).tiny))
        if ulps <= FINE or (n % 100 == 0 and ulps <= COARSE and size > 0.5 * recent):
            return x
        if n % PATIENCE == 0 and size > 0.9995 * earlier:
            break
        recent = size if n % 100 == 0 else recent
        earlier = size if n % PATIENCE == 0 else earlier
        search.advance()
    raise NotConvergedError(f"a lifetime is too long: {n:,} steps do not add up")
