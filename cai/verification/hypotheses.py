"""The hypotheses of a probe: its right answer, and what each mistake learns there."""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.exact.rules import VARIATIONAL, Rule
from cai.verification.answer import Answer, answer, right
from cai.verification.distances import path_kl
from cai.verification.mistakes import MISTAKES
from cai.verification.probe import Probe
from cai.verification.probes import PROBES
from cai.verification.task import Task, task_of

RIGHT = "right"
"""The name of the right answer beside those of the mistakes."""
NEARER = 4.0
"""How many times nearer, in nats, an answer must be than another to explain a policy in its place."""
APART = 0.01
"""Nats below which two answers are one."""


@dataclass(frozen=True)
class Hypotheses:
    """A probe under a rule with all its exact answers.

    Attributes:
        probe: the probe.
        rule: the rule that a learner is to follow.
    """

    probe: Probe
    rule: Rule

    @cached_property
    def task(self) -> Task:
        """The probe as tensors."""
        return task_of(self.probe, self.rule)

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """The right answer, under "right", and that of each mistake which determines one."""
        wrong = {name: mistake.answer(self.task) for name, mistake in MISTAKES.items()}
        known = {name: one for name, one in wrong.items() if one is not None}
        return {RIGHT: answer(self.task, right(self.task)), **known}

    @cached_property
    def separations(self) -> dict[str, float]:
        """How far the right policy is from the answer of each mistake, nats."""
        return {name: float(apart) for name, apart in self.distances(self.answers[RIGHT].log_pi).items()}

    def distances(self, log_pi: Float[Tensor, "T S A"]) -> dict[str, Tensor]:
        """Return the path KL of a policy to every answer, nats."""
        T, every = self.task.horizon or 1, self.answers.values()
        policies = torch.stack([one.log_pi.expand(T, -1, -1) for one in every])
        return dict(zip(self.answers, path_kl(self.task, log_pi, policies).unbind(), strict=True))

    @property
    def tells(self) -> bool:
        """Whether the probe's own mistake makes a difference under the rule."""
        return self.separations.get(self.probe.catches, 0.0) >= APART

    @property
    def least(self) -> float:
        """How far from right an answer must be to count, nats: a quarter as far as that of the probe's own mistake."""
        return max(self.separations.get(self.probe.catches, 0.0) / NEARER, APART)

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """The mistakes that count on this probe."""
        return tuple(name for name, apart in self.separations.items() if apart >= self.least and name != RIGHT)

    @cached_property
    def blank(self) -> Float[Tensor, "2 T S A"]:
        """The policies that have learned nothing, nats: the prior and a uniform one."""
        prior = self.task.log_prior.expand(self.task.horizon or 1, -1, -1)
        return torch.stack([prior, torch.where(prior > -torch.inf, 0.0, -torch.inf).log_softmax(-1)])

    @cached_property
    def untrained(self) -> float:
        """How far a policy is from right that has learned nothing, nats."""
        return max(float(self.distances(policy)[RIGHT]) for policy in self.blank)

    def from_untrained(self, log_pi: Float[Tensor, "T S A"]) -> float:
        """Return the path KL of a policy to the nearer one that has learned nothing, nats."""
        soft = replace(self.task, rule=VARIATIONAL)  # under HARD each action of a uniform policy would count as best
        return float(path_kl(soft, log_pi, self.blank).amin())


def hypotheses(probe: Probe, rule: Rule) -> Hypotheses:
    """Return a probe under a rule; those of this library are solved once."""
    return _solved(probe.name, rule) if PROBES.get(probe.name) is probe else Hypotheses(probe, rule)


@cache
def _solved(name: str, rule: Rule) -> Hypotheses:
    return Hypotheses(PROBES[name], rule)
