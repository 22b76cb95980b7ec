"""What can be compared: a policy's exact numbers, and where the policy comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cai.evaluation.evaluation import Evaluation
from cai.policies.protocol import FinitePolicy


@runtime_checkable
class Run(Protocol):
    """One run of a learner, as ``cai.learn`` returns it."""

    @property
    def policy(self) -> Any:
        """The policy after the last update."""

    @property
    def temperature(self) -> float | None:
        """α, reward units; None for a learner of hard optimality."""

    @property
    def seed(self) -> int:
        """The seed of everything random in it."""

    @property
    def history(self) -> Sequence[Any]:
        """The evaluations while it learned, each with ``steps`` and the numbers of ``CURVES`` as far as known."""

    @property
    def steps(self) -> int:
        """How many steps it took."""

    @property
    def seconds(self) -> float:
        """CPU seconds of learning."""

    @property
    def stopped(self) -> str:
        """Why it ended."""


@dataclass(frozen=True)
class InferenceType:
    """One type of inference on a world; ``compare`` takes it as it is.

    Attributes:
        formula: what it computes.
        objective: the number that it computes, nats.
        actions: the labels of its action sequence a_0 …, for a type that never looks at the state; else None. The most
            probable trajectory may end before T where the discount is below 1, and its sequence with it.
        policy: what it would do.
        does: its sequence, or the probabilities of its first action, in words.
    """

    formula: str
    objective: float
    actions: tuple[str, ...] | None
    policy: FinitePolicy
    does: str


@dataclass(frozen=True)
class Subject:
    """One policy that is compared, and where it comes from.

    Attributes:
        evaluation: its exact numbers; None where the world cannot be compiled.
        run: how it was learned; None for a policy that was not.
        inference: the type of inference that it acts by; None for a policy that does not.
    """

    evaluation: Evaluation | None
    run: Run | None = None
    inference: InferenceType | None = None
