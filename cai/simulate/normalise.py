"""Features of mean 0 and deviation 1: measured once, under the action prior, and then fixed.

Statistics that change during learning would change the meaning of every observation in a replay buffer and of every
stored policy. Fixed ones are part of the simulator, and so of every policy that was learned on it.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from cai.simulate.acting import prior_action
from cai.simulate.rollout import roll
from cai.simulate.simulator import EnvState, Simulator, but_last
from cai.world.spaces import Values

LONGEST = 1000  # steps of an episode that is measured


@dataclass(frozen=True)
class Moments:
    """The mean of N vectors, and Σ (x - mean)², in their dtype.

    Attributes:
        count: N.
        mean: ``[F]``.
        square: Σ (x - mean)², ``[F]``.
    """

    count: int | Tensor
    mean: Float[Tensor, " F"]
    square: Float[Tensor, " F"]

    @property
    def deviation(self) -> Float[Tensor, " F"]:
        """√(Σ (x - mean)²/N); 1 where x never changes."""
        deviation = (self.square / self.count).sqrt()
        return torch.where(deviation > 1e-8 * self.mean.abs(), deviation, 1.0)

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both samples together (Chan, Golub & LeVeque 1983, equation 2.1)."""
        count, apart = self.count + other.count, other.mean - self.mean
        square = self.square + other.square + apart**2 * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), square)


def moments(x: Float[Tensor, "N F"]) -> Moments:
    """Return the moments of N vectors."""
    mean = x.mean(0)
    return Moments(len(x), mean, ((x - mean) ** 2).sum(0))


class Normalised:
    """A simulator with features ``(x - mean)/deviation``; all else is the simulator's own."""

    def __init__(self, simulator: Simulator, measured: Moments) -> None:
        self.simulator, self.measured = simulator, measured
        self.mean, self.deviation = measured.mean.to(simulator.dtype), measured.deviation.to(simulator.dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "simulator":  # what copy and pickle ask of an object not yet made
            raise AttributeError(name)
        return getattr(self.simulator, name)

    def features(self, state: Any) -> Float[Tensor, "*B F"]:
        """Return the features, normalised."""
        return (self.simulator.features(state) - self.mean) / self.deviation


def normalised(simulator: Simulator, samples: int = 2000) -> Simulator:
    """Measure at least so many states in whole episodes of the action prior, and return the simulator normalised.

    Raises:
        WorldError: an episode ends where it starts.
    """

    def choose(env_state: EnvState, t: int) -> Values:
        return prior_action(simulator, env_state.state, t)

    measured: Moments | None = None
    while measured is None or measured.count < samples:
        seen = roll(simulator, choose, LONGEST)
        here = moments(simulator.features(but_last(seen.states))[seen.alive].double())
        measured = here if measured is None else measured.merged(here)
    return cast(Simulator, Normalised(simulator, measured))
