"""The result of a learner: its policy and its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cai.support.display import in_notebook
from cai.support.numbers import finite


@dataclass(frozen=True)
class Score:
    """How good a policy is; None where a number is not known.

    Attributes:
        stochastic_return: E_π[Σ γ^t r_t], reward units, γ the world's own discount: the ``expected_return`` of
            ``evaluate``. Exact where the world has tables, else the mean of episodes.
        deterministic_return: the same of the most probable action, reward units. Of equally probable ones tables take
            each with the same chance, episodes the first.
        elbo: ELBO(π), nats: exact, or an estimate (see ``standard_error``).
        policy_nats: ELBO* - ELBO(π), nats, exact (log Z - ELBO of a ``FullGuide``).
        entropy: E_π[Σ H(π(·|s_t))], nats.
        standard_error: of ``elbo``, nats: 0 where it is exact; None where it is the mean of one update's trajectories.
        samples: how many trajectories ``elbo`` is the mean of, in a measurement of its own; else 0.
    """

    stochastic_return: float | None = None
    deterministic_return: float | None = None
    elbo: float | None = None
    policy_nats: float | None = None
    entropy: float | None = None
    standard_error: float | None = None
    samples: int = 0


@dataclass(frozen=True)
class Progress:
    """One evaluation of a policy while it is learned; the numbers of ``Score``, and when.

    Attributes:
        steps: environment steps taken so far, those of all parallel copies; updates, for SVI, which takes no
            environment steps.
        updates: updates of the parameters so far.
        seconds: CPU seconds spent on learning so far, evaluations not counted.
        metrics: the algorithm's own numbers of its last update: losses, step sizes.
    """

    steps: int
    updates: int
    seconds: float
    stochastic_return: float | None = None
    deterministic_return: float | None = None
    elbo: float | None = None
    policy_nats: float | None = None
    entropy: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    samples: int = 0

    def __str__(self) -> str:
        error = f" ± {self.standard_error:.2g}" if self.samples else ""
        known = {"return": self.stochastic_return, "ELBO": self.elbo, "policy nats": self.policy_nats}
        words = [f"{name} {value:.6g}" for name, value in known.items() if value is not None]
        return ", ".join(f"{word}{error if word.startswith('ELBO') else ''}" for word in words)


@dataclass(frozen=True, repr=False)
class Learned:
    """The result of a learner: its policy and its history; ``evaluate`` and ``compare`` take it.

    Attributes:
        policy: the policy after the last update.
        algorithm: the learner's name; "svi" for ``fit``.
        temperature: α, reward units. For a hard learner the α at which it was measured in nats; None where there was
            none.
        seed: of everything random in it.
        history: the evaluations, with one before the first update and one after the last. SVI has one for every update,
            with the estimator's ELBO, and the final result at the end.
        steps: environment steps taken; updates, for SVI.
        updates: updates made.
        seconds: CPU seconds spent on learning, evaluations not counted.
        stopped: why it ended: "steps" (all were taken), "target" (the return was reached), "gap" (within the
            tolerance), "watch" (the callback asked) or "interrupted" (Ctrl-C).
        estimator: which estimator of the ELBO's gradient SVI used: "tables", "enumeration", "score", "reparameterised";
            None for other learners.
        elbo_star: ELBO*, nats (log Z for a ``FullGuide``, which may reach it); None where it is not known.
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
    estimator: str | None = None
    elbo_star: float | None = None

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        by = "" if self.estimator is None else f" by {self.estimator}"
        scores = f"{self.history[-1]}, " if self.history else ""
        return (
            f"Learned({self.algorithm}{by}, {scores}{self.steps:,} steps, seed {self.seed}, stopped by {self.stopped})"
        )

    def plain(self) -> dict[str, Any]:
        """Return all but the policy as dicts, lists and numbers; None for a number that is unknown or not finite."""
        names = ("algorithm", "temperature", "seed", "steps", "updates", "seconds", "stopped")
        head = {name: getattr(self, name) for name in names}
        return {**head, "history": [finite(vars(row)) for row in self.history]}

    @property
    def elbo(self) -> float | None:
        """ELBO(π) at the end, nats; None where it was not measured."""
        return self.history[-1].elbo

    @property
    def standard_error(self) -> float | None:
        """Of ``elbo``, nats; 0 where it is exact."""
        return self.history[-1].standard_error

    @property
    def samples(self) -> int:
        """The number of trajectories behind ``elbo``; 0 where it is exact."""
        return self.history[-1].samples

    @property
    def gap(self) -> float | None:
        """ELBO* - ELBO(π) at the end, nats; None where it is not known."""
        return self.history[-1].policy_nats

    @property
    def worst_after_best(self) -> float | None:
        """The lowest deterministic return at or after the best one, reward units: below the best if learning was lost.

        The evaluation before the first update is left out if there are others. None where no return was measured.
        """
        rows = self.history[1:] or self.history
        scores = [row.deterministic_return for row in rows if row.deterministic_return is not None]
        return min(scores[scores.index(max(scores)) :]) if scores else None
