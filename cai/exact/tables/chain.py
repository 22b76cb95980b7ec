"""The living part of a slice as a Markov chain, and its two sums over a lifetime.

One step takes s to s' with ``weights`` π(a|s) p(outcome|s,a) p(survive|s'), summing to less than 1. With J that step
as a matrix, ``(I - J)⁻¹ b`` is what b adds up to over the life to come, and ``(I - Jᵀ)⁻¹ b`` are the visits of a life
begun in b.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.table_model import Slice
from cai.errors import NotConvergedError
from cai.exact.anderson import Anderson
from cai.exact.tables.backup import Tilt, look_ahead, put_back

DENSE = 1500
"""Up to so many states a linear system is solved densely; beyond, its power series is summed, accelerated."""
MAX_STEPS = 500_000
PATIENCE = 2000
"""A sum that has not come closer in so many steps never will."""
FINE, COARSE = 8, 1000
"""Units in the last place by which one more step may change a sum; and where it comes no closer to that any more."""


@dataclass(frozen=True)
class Chain:
    """One living step: ``weights [*B, S, A, K]`` and the outcomes' ``successor [*B, S, A, K]``."""

    weights: Tensor
    successor: Tensor

    def pull(self, h: Tensor) -> Tensor:
        """Return J h, ``[*B, S]``."""
        return (self.weights * look_ahead(h, self.successor)).sum((-1, -2))

    def push(self, mu: Tensor) -> Tensor:
        """Return Jᵀ μ, ``[*B, S]``."""
        return put_back(mu[..., None, None] * self.weights, self.successor, mu.shape[-1])

    def dense(self) -> Tensor:
        """Return J, ``[*B, S, S]``."""
        S = self.weights.shape[-3]
        flat = self.weights.flatten(-2)
        numbers = self.successor.expand(self.weights.shape).flatten(-2)
        return flat.new_zeros(*flat.shape[:-1], S).scatter_add(-1, numbers, flat)


def chain_of(one: Slice, tilted: Tilt, possible: Tensor) -> Chain:
    """Return the chain of a tilted slice; a state that is not ``possible [*B, S]`` leads nowhere."""
    weights = (tilted.log_policy.unsqueeze(-1) + tilted.log_outcome).exp()
    weights = weights * look_ahead(tilted.log_survive.exp(), one.successor)
    return Chain(weights * possible[..., None, None], one.successor)


def life_to_come(chain: Chain, b: Tensor) -> Tensor:
    """Return ``(I - J)⁻¹ b``, ``[*B, S]``.

    Raises:
        NotConvergedError: the sum over a lifetime is not finite, or too long to be added up.
    """
    if chain.weights.shape[-3] <= DENSE:
        return _dense(chain.dense(), b)
    return _summed(chain.pull, b)


def visits(chain: Chain, b: Tensor) -> Tensor:
    """Return ``(I - Jᵀ)⁻¹ b``, ``[*B, S]``.

    Raises:
        NotConvergedError: the sum over a lifetime is not finite, or too long to be added up.
    """
    if chain.weights.shape[-3] <= DENSE:
        return _dense(chain.dense().mT, b)
    total = _summed(chain.push, b)
    # A life is where it begins at least, and rounding must not make a chance negative.
    return torch.maximum(total, b) if bool((b >= 0).all()) else total


def _dense(J: Tensor, b: Tensor) -> Tensor:
    try:
        solved = torch.linalg.solve(torch.eye(J.shape[-1], dtype=J.dtype, device=J.device) - J, b)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise NotConvergedError("a lifetime is not finite: I - J is singular") from error
    return torch.as_tensor(solved)


def _summed(step: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Return ``x = b + step(x)``, the sum over a lifetime, as far as rounding allows."""
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
