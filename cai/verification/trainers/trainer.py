"""A learner as ``cai.verify`` takes it, with what it does not claim to know of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cai.verification.probe import Claim


@dataclass(frozen=True)
class Trainer:
    """A function (env, seed) -> policy, with what its learner does not claim to know of.

    Attributes:
        name: of the learner.
        learn: the function.
        without: the claims that the learner does not make; ``cai.verify`` leaves out the probes that need one.
    """

    name: str
    learn: Callable[[Any, int], Any]
    without: frozenset[Claim] = frozenset()

    def __call__(self, env: Any, seed: int) -> Any:
        """Learn, and return a policy."""
        return self.learn(env, seed)
