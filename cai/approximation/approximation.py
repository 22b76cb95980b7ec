"""Approximation: what a method of approximate inference found, and how good it is."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cai.approximation.estimate import UNKNOWN, Estimate
from cai.approximation.trajectories import Trajectories
from cai.policies.protocol import Policy


@dataclass(frozen=True, eq=False)
class Approximation:
    """The answer of a method, with what is known of its error.

    Attributes:
        method: its name.
        temperature: α, reward units.
        policy: the policy that it found.
        log_evidence: of log Z = log p(O = 1), nats.
        elbo: of ELBO*, the best ELBO of a policy, nats; a policy's own ELBO is a lower bound on it.
        trajectories: weighted samples of p(τ|O); None where the method draws none.
        effective_sample_size: of the weights at each time, ``[T]``; None where there are none.
        history: the objective after each iteration, nats; the method says which.
        guess: where the method may start from next time; see ``Method.run``.
        notes: what a reader must know, in words: fallbacks, why it stopped.
    """

    method: str
    temperature: float
    policy: Policy
    log_evidence: Estimate = UNKNOWN
    elbo: Estimate = UNKNOWN
    trajectories: Trajectories | None = None
    effective_sample_size: Tensor | None = None
    history: tuple[float, ...] = ()
    guess: Any = None
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return plain numbers and words, to be written as JSON."""
        least = None if self.effective_sample_size is None else float(self.effective_sample_size.min())
        estimates = {"log_evidence": self.log_evidence.plain(), "elbo": self.elbo.plain()}
        head = {"method": self.method, "temperature": self.temperature}
        return {**head, **estimates, "least_effective_sample_size": least, "history": self.history, "notes": self.notes}

    def __str__(self) -> str:
        lines = [f"{self.method}, α = {self.temperature:g}"]
        lines += [f"log Z: {self.log_evidence} nats", f"ELBO*: {self.elbo} nats"]
        if self.effective_sample_size is not None:
            least = float(self.effective_sample_size.min())
            lines.append(f"effective sample size: at least {least:.3g} at every time")
        return "\n".join([*lines, *self.notes])
