"""Stochastic variational inference with a neural policy: gradients of the ELBO through differentiable dynamics.

    maximise  ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)]  <=  ELBO*  <=  log Z

This is ``cai.fit`` with a network, as a method. The ELBO of a policy bounds both from below (Levine 2018, section 3).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.estimate import Estimate
from cai.compile.noise_program import NoiseProgram
from cai.errors import fault
from cai.learn.loop import require_number, require_whole
from cai.learn.result import Learned
from cai.learn.svi.fit import fit

CERTAIN = 3.0
"""How many standard errors a sampled lower bound lies below its estimate."""


@dataclass(frozen=True)
class NeuralSVI:
    """SVI of VARIATIONAL with a neural policy; the dynamics are held fixed.

    The gradient goes through the samples where every variable has a reparameterised draw, else ``cai.fit`` chooses
    another estimator; a note says which. ``history`` is the ELBO of each update's trajectories. The bounds come from
    fresh trajectories, which the fit has not seen.

    Attributes:
        steps: how many updates.
        particles: trajectories for each update.
        learning_rate: Adam's first step size, which decays; that of ``cai.fit`` unless given.
        samples: fresh trajectories, for the bounds.
    """

    name: ClassVar[str] = "svi"
    steps: int = 1000
    particles: int = 100
    learning_rate: float | None = None
    samples: int = 10_000

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Fit a network from the action prior on; see ``Method.run``. A guess is not used.

        Raises:
            WorldError: an option is not valid, or the world is given from a state on.
        """
        for name, least in (("steps", 1), ("particles", 1), ("samples", 2)):
            require_whole(f"svi, {name}", getattr(self, name), least)
        rate = self.learning_rate
        if rate is not None:
            require_number("svi, learning_rate", rate, lambda x: 0 < x < math.inf, "a step size above 0")
        fitted = fit(
            _whole(world),
            "neural",
            temperature=temperature,
            optimizer=rate,
            steps=self.steps,
            particles=self.particles,
            samples=self.samples,
            seed=int(torch.randint(2**31, (), generator=generator)),
            progress=progress,
        )
        bound = at_least(fitted)
        return Approximation(
            self.name,
            temperature,
            fitted.policy,
            log_evidence=bound,
            elbo=bound,
            history=tuple(one.elbo for one in fitted.history[:-1] if one.elbo is not None),
            notes=_notes(fitted),
        )


def _whole(world: Any) -> Any:
    """Return the world itself: a network is fitted to all times and states at once."""
    if not isinstance(world, NoiseProgram):
        return world
    if world.begins is not None or world.first:
        seen = f"a world from t = {world.first} on, in one state"
        raise fault("svi", seen, "a whole world; its policy acts in every state, and need not plan again")
    return world.spec.world


def at_least(fitted: Learned) -> Estimate:
    """Return what the ELBO of a fitted policy says of ELBO* and log Z: a lower bound, but for three standard errors."""
    if fitted.elbo is None:
        return Estimate()
    error = fitted.standard_error or 0.0
    return Estimate(lower=fitted.elbo - CERTAIN * error, sampled=error > 0)


def _notes(fitted: Learned) -> tuple[str, ...]:
    error = f" ± {fitted.standard_error:.2g}" if fitted.standard_error else ""
    fresh = f", from {fitted.samples:,} fresh trajectories" if fitted.samples else ""
    reached = () if fitted.elbo is None else (f"ELBO(π) = {fitted.elbo:.6g}{error} nats{fresh}",)
    return (*reached, f"{fitted.updates:,} updates, gradients: {fitted.estimator}")
