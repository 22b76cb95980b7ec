"""What a policy of tokens has to say, the log-probability of each next one, and what follows from it."""

from typing import Any, Protocol, runtime_checkable

import pyro
from jaxtyping import Float
from pyro.distributions import Categorical
from torch import Tensor


@runtime_checkable
class TokenPolicy(Protocol):
    """A policy of texts in a world of language."""

    def log_next(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return log π_t(x | state) of each token, nats."""


def written(policy: TokenPolicy, state: Any, t: int) -> Tensor:
    """Sample the next token at the world's site."""
    token: Tensor = pyro.sample("token", Categorical(logits=policy.log_next(t, state)))
    return token
