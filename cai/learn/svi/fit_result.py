"""What a fit gives back: the policy, how good it is, and how it got there."""

from dataclasses import dataclass

from cai.world.program import Actor


@dataclass(frozen=True)
class Record:
    """One recorded step of a fit, before its update.

    Attributes:
        step: how many updates had been made.
        elbo: ELBO(π) as the estimator saw it, nats: exact, or the mean of the step's particles.
        gap: ELBO* - ELBO(π), nats, exact; None where it was not computed at this step, or is not known at all.
        seconds: how long the fit had been at work.
    """

    step: int
    elbo: float
    gap: float | None
    seconds: float


@dataclass(frozen=True, repr=False)
class Fit:
    """A fitted policy; ``evaluate`` and ``compare`` take it as it is.

    Attributes:
        policy: the policy after the last update.
        temperature: α, reward units.
        estimator: which estimator of the gradient was used: "tables", "enumeration", "score", "reparameterised".
        elbo: ELBO(π) of the policy, nats.
        standard_error: of ``elbo``, nats; 0 where it is exact.
        elbo_star: ELBO*, nats (log Z for a ``FullGuide``, which may reach it); None where it cannot be had.
        history: the recorded steps; the last one is the result itself.
        steps: how many updates were made, those before a resume included.
        samples: how many trajectories ``elbo`` is the mean of; 0 where it is exact.
        stopped: why it ended: "gap" (within the tolerance), "steps" (all were made) or "interrupted".
    """

    policy: Actor
    temperature: float
    estimator: str
    elbo: float
    standard_error: float
    elbo_star: float | None
    history: tuple[Record, ...]
    steps: int
    stopped: str
    samples: int = 0

    def __repr__(self) -> str:
        error = f" ± {self.standard_error:.2g}" if self.samples else ""
        gap = "" if self.gap is None else f", gap={self.gap:.3g}"
        made = f"{self.steps} steps by {self.estimator}, stopped by {self.stopped}"
        return f"Fit(elbo={self.elbo:.6g}{error} nats{gap}, {made})"

    @property
    def gap(self) -> float | None:
        """ELBO* - ELBO(π), nats; None where ELBO* cannot be had or ELBO(π) is only estimated."""
        return None if self.elbo_star is None or self.samples else self.elbo_star - self.elbo
