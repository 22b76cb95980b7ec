"""The living part of a slice as a Markov chain."""

from dataclasses import dataclass

from torch import Tensor

from cai.exact.tables.backup import Tilt, look_ahead, put_back

DENSE = 1500
"""Up to so many states a linear system is solved densely; beyond, its power series is summed, accelerated."""


@dataclass(frozen=True)
class Chain:
    """One living step: ``weights`` π(a|s) p(outcome|s,a) p(survive|s') and ``successor``, ``[*B, S, A, K]``.

    The weights of a state sum to less than 1.
    """

    weights: Tensor
    successor: Tensor

    def pull(self, h: Tensor) -> Tensor:
        """Return J h, ``[*B, S]``."""
        return (self.weights * look_ahead(h, self.successor)).sum((-1, -2))

    def push(self, mu: Tensor) -> Tensor:
        """Return Jᵀ μ, ``[*B, S]``."""
        return put_back(mu[..., None, None] * self.weights, self.successor, mu.shape[-1])

    def dense(self) -> Tensor | None:
        """Return J, ``[*B, S, S]``; None for many states."""
        S = self.weights.shape[-3]
        if S > DENSE:
            return None
        flat = self.weights.flatten(-2)
        numbers = self.successor.expand(self.weights.shape).flatten(-2)
        return flat.new_zeros(*flat.shape[:-1], S).scatter_add(-1, numbers, flat)


def chain_of(tilted: Tilt, possible: Tensor) -> Chain:
    """Return the chain of a tilted slice; a state that is not ``possible [*B, S]`` leads nowhere."""
    weights = (tilted.log_policy.unsqueeze(-1) + tilted.log_outcome).exp()
    successor = tilted.slice.successor
    weights = weights * look_ahead(tilted.log_survive.exp(), successor)
    return Chain(weights * possible[..., None, None], successor)
