"""What a learner gives back: the policy, and how it got there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One evaluation of a policy while it is learned.

    Attributes:
        steps: environment steps taken so far, those of all parallel copies.
        updates: updates of the parameters so far.
        seconds: CPU seconds spent on learning so far, evaluations not counted.
        stochastic_return: E_π[Σ γ^t r_t], reward units, γ the world's own discount: the ``expected_return`` of
            ``evaluate``. Exact where the world has tables, else the mean of episodes.
        deterministic_return: the same of the most probable action, reward units. Of equally probable ones tables take
            each with the same chance, episodes the first.
        elbo: ELBO(π), nats, exact; None where the world has no tables.
        policy_nats: ELBO* - ELBO(π), nats, exact; None where it is not known.
        entropy: E_π[Σ H(π(·|s_t))], nats; None where it is not known.
        metrics: what the algorithm tells of its last update: losses, step sizes.
    """

    steps: int
    updates: int
    seconds: float
    stochastic_return: float
    deterministic_return: float
    elbo: float | None = None
    policy_nats: float | None = None
    entropy: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Learned:
    """A learned policy; ``evaluate`` and ``compare`` take it as it is.

    Attributes:
        policy: the policy after the last update.
        algorithm: the learner's name.
        temperature: α, reward units, at which it was learned, or a hard learner measured; None where it was neither.
        seed: of everything random in it.
        history: the evaluations, the one before the first update and the one after the last included.
        steps: environment steps taken.
        updates: updates made.
        seconds: CPU seconds spent on learning, evaluations not counted.
        stopped: why it ended: "steps" (all were taken), "target" or "interrupted".
    """

    policy: Any
    algorithm: str
    temperature: float | None
    seed: int
    history: tuple[Progress, ...]
    steps: int
    updates: int
    seconds: float
    stopped: str

    def __repr__(self) -> str:
        last = self.history[-1]
        nats = "" if last.policy_nats is None else f", policy_nats={last.policy_nats:.3g}"
        scores = f"return={last.stochastic_return:.6g}{nats}"
        return f"Learned({self.algorithm}, {scores}, {self.steps:,} steps, seed {self.seed}, stopped by {self.stopped})"

    @property
    def worst_after_best(self) -> float:
        """The lowest deterministic return at or after the highest one, reward units: what was learned *and held*.

        What stood there before the first update does not count, where there is more.
        """
        scores = [one.deterministic_return for one in self.history[1:] or self.history]
        return min(scores[scores.index(max(scores)) :])
