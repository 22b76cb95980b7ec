"""The mistakes, each solved exactly as the fixed point of its own backup."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.errors import NotConvergedError
from cai.exact.rules import POSTERIOR
from cai.verification.answer import Answer, answer, right
from cai.verification.task import Task


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what a learner that makes it learns.

    Attributes:
        name: its name.
        words: "an agent that …", to be read after "your policy is that of".
        solve: its exact answer on a task; None where the mistake does not determine one.
    """

    name: str
    words: str
    solve: Callable[[Task], Answer | None]

    def answer(self, task: Task) -> Answer | None:
        """Return its exact answer; None where there is none, or no fixed point."""
        try:
            return self.solve(task)
        except NotConvergedError:
            return None


def truncation_ends(task: Task) -> Answer:
    """Solve ``target = Σ_k p_k (r_k + γ (1 - over_k) (1 - cut) v')``."""
    short = replace(task, discount=0.0) if task.cut else task
    return answer(short, right(short))


def termination_goes_on(task: Task) -> Answer:
    """Solve ``target = Σ_k p_k (r_k + γ v(s'_k))``, also where the outcome ends the episode."""
    endless = replace(task, over=torch.zeros_like(task.over))
    return answer(endless, right(endless))


def later_entropy_missing(task: Task) -> Answer:
    """Solve ``v = Σ_a π(a|s) q(s,a)``: the value has no entropy, the policy has it."""
    exact = right(task)

    def value(q: Tensor) -> Tensor:
        log_pi = exact.policy(q)
        return torch.where(log_pi > -torch.inf, log_pi.exp() * q, 0.0).sum(-1)

    return answer(task, replace(exact, value=value))


def temperature_times(factor: float) -> Callable[[Task], Answer]:
    """Solve the task at another temperature."""

    def solved(task: Task) -> Answer:
        other = replace(task, temperature=factor * task.temperature)
        return answer(other, right(other))

    return solved


def optimistic(task: Task) -> Answer:
    """Solve POSTERIOR's backup: luck is taken for choice."""
    other = replace(task, rule=POSTERIOR)
    return answer(other, right(other))


MISTAKES: dict[str, Mistake] = {
    one.name: one
    for one in (
        Mistake("truncation ends", "an agent that takes a time limit for the end of the future", truncation_ends),
        Mistake("termination goes on", "an agent that counts on rewards after the end", termination_goes_on),
        Mistake("later entropy missing", "an agent that does not count later entropy", later_entropy_missing),
        Mistake("temperature doubled", "an agent at twice the temperature", temperature_times(2.0)),
        Mistake("optimistic", "an agent that takes luck for choice", optimistic),
    )
}
