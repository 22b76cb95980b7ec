"""Beliefs of linear-Gaussian worlds: compiling the world, reading a record, and filtering it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.linear_observations import LinearObservations, linearise_observations
from cai.compile.linearise import linearise
from cai.compile.quadratic import ConditionalGaussian
from cai.compile.real_program import is_real
from cai.compile.switching import is_mixed
from cai.errors import Finding, IntractableError, fault
from cai.exact.forms import is_compiled
from cai.partial.kalman import Filtered, kalman
from cai.partial.real_records import Vectors, vectors
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spec import read


@dataclass(frozen=True)
class GaussianBeliefs:
    """Beliefs as Gaussians over a world's real coordinates.

    Attributes:
        model: the compiled world.
        seen: the readings, and p(y|s).
    """

    model: LinearGaussian
    seen: LinearObservations

    @property
    def reading(self) -> ConditionalGaussian:
        """p(y|s)."""
        return self.seen.reading

    def record(
        self, observations: Vectors, actions: Vectors
    ) -> tuple[Float[Tensor, "*B T p"], Float[Tensor, "*B k m"]]:
        """Read a record: y_0 … y_{T-1}, NaN where nothing was read, and a_0 … a_{T-2}, or one action more.

        Raises:
            WorldError: it does not fit the variables, or is too long.
        """
        like, horizon = self.model.start_mean, self.model.horizon
        y = vectors(self.seen.space, observations, like, "observations")
        done = vectors(self.model.actions, actions, like, "actions")
        T, k = y.shape[-2], done.shape[-2]
        if T < 1 or k not in {T - 1, T}:
            seen = f"{T} observations and {k} actions"
            raise fault("the record", seen, "at least one observation, and as many actions or one fewer")
        if horizon is not None and horizon < T:
            raise fault("observations", f"{T} of them", f"at most T = {horizon}: o_0 … o_{horizon - 1}")
        if bool(done.isnan().any()):
            raise fault("actions", "NaN, an action that is not known", "the action of every time")
        return y, done

    def history(
        self, observations: Vectors, actions: Vectors
    ) -> tuple[Float[Tensor, "*B T p"], Float[Tensor, "*B k m"]]:
        """Read a record that ends with an observation.

        Raises:
            WorldError: see ``record``, or it ends with an action.
        """
        y, done = self.record(observations, actions)
        if done.shape[-2] == y.shape[-2]:
            seen = f"{y.shape[-2]} observations and as many actions"
            raise fault("history", seen, "one action fewer than observations: the next is asked for")
        return y, done


def is_continuous(world: Any) -> bool:
    """Return whether a world, compiled or not, is one of real variables, whose beliefs are Gaussian.

    Raises:
        IntractableError: some variables are finite and some are real: its beliefs are mixtures of ever more Gaussians.
    """
    if is_compiled(world):
        return isinstance(world, LinearGaussian)
    with precision(torch.float64):
        spec = read(world)
        if is_mixed(spec):
            seen = "finite and real variables together, seen in part: a belief is a mixture of ever more Gaussians"
            raise IntractableError([Finding("world", seen, "all variables finite, or all real and linear-Gaussian")])
        return is_real(spec)


def gaussian_beliefs(world: World) -> GaussianBeliefs:
    """Compile a world of real variables and its ``observe``.

    Raises:
        WorldError, IntractableError: see ``linearise``, ``linearise_observations``; or the world is compiled already.
    """
    if isinstance(world, LinearGaussian):
        raise fault("world", "a cai.LinearGaussian, which does not contain observe", "the world itself")
    with precision(torch.float64):
        spec = read(world)
        model = linearise(spec)
        return GaussianBeliefs(model, linearise_observations(spec, model.sites.names))


def kalman_filter(world: World, observations: Vectors, actions: Vectors) -> Filtered:
    """Filter a record of a linear-Gaussian world: p(s_t | y_{<=t}, a_{<t}) and log p(y_t | y_{<t}, a_{<t}) (Kalman
    1960); ``.smoothed()`` of what is returned gives p(s_t | all readings).

    Missing numbers are NaN in tensors, and None in sequences. With as many actions as observations there is
    one more row: the prediction of the next state. Records side by side make a batch. Differentiable.

    Args:
        world: of real variables, with ``observe``.
        observations: y_0 … y_{T-1}.
        actions: a_0 … a_{T-2}, or one more.

    Raises:
        WorldError: the world or the record is not valid.
        IntractableError: the world is not linear-Gaussian.
        ImpossibleError: a number that is certain has another value in the record; the message names the time.
    """
    engine = gaussian_beliefs(world)
    return kalman(engine.model, engine.reading, *engine.record(observations, actions))
