"""A policy on a world that falls apart: the accounts of its parts, added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.errors import fault
from cai.evaluation.factored import FactoredAnswers, FactoredEvaluation, measure_factors
from cai.evaluation.losses import Loss
from cai.evaluation.measured import Measured
from cai.exact.forms import JOINT
from cai.exact.messages import Messages
from cai.exact.parts import parts_of
from cai.exact.rules import Rule
from cai.policies.product_policy import ProductPolicy


@dataclass(frozen=True, repr=False)
class SeparateEvaluation(Measured):
    """A policy whose parts act side by side on a world that falls apart; every account is the sum of the parts'.

    Attributes:
        parts: the evaluation of each part; nats by time and state are found there.
        temperature: α, reward units.
        standard_error: 0, since nothing was sampled.
    """

    parts: tuple[FactoredEvaluation, ...]
    temperature: Tensor
    standard_error: float = 0.0

    def __repr__(self) -> str:
        return f"SeparateEvaluation({self.shown})"

    @property
    def expected_return(self) -> float:
        """E_π[Σ r], reward units."""
        return sum(part.expected_return for part in self.parts)

    @property
    def entropy(self) -> float:
        """E_π[Σ H(π(·|s_t))], nats."""
        return sum(part.entropy for part in self.parts)

    @property
    def kl_to_prior(self) -> float:
        """E_π[Σ KL(π ‖ prior)], nats."""
        return sum(part.kl_to_prior for part in self.parts)

    @property
    def elbo_star(self) -> float:
        """ELBO* of VARIATIONAL, nats."""
        return sum(part.elbo_star for part in self.parts)

    @property
    def log_evidence(self) -> float:
        """log Z of POSTERIOR, nats."""
        return sum(part.log_evidence for part in self.parts)

    @property
    def best_return(self) -> float:
        """J* of HARD, reward units."""
        return sum(part.best_return for part in self.parts)

    @property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats."""
        return sum(part.start_nats for part in self.parts)

    @property
    def policy_nats(self) -> Tensor:
        """Nats against VARIATIONAL, a number for each part."""
        return torch.stack([part.policy_nats.sum() for part in self.parts])

    @property
    def regret_per_state(self) -> Tensor:
        """Regret against HARD, reward units, a number for each part."""
        return torch.stack([part.regret_per_state.sum() for part in self.parts])

    @property
    def action_nats(self) -> Tensor:
        """Nats against POSTERIOR's policy, a number for each part."""
        return torch.stack([part.action_nats.sum() for part in self.parts])

    @property
    def luck_nats(self) -> Tensor:
        """Nats of luck, a number for each part."""
        return torch.stack([part.luck_nats.sum() for part in self.parts])

    @cached_property
    def visits(self) -> dict[str, Tensor]:
        """p(x_t) of every state variable, ``[T+1, n]``."""
        return {name: found for part in self.parts for name, found in part.visits.items()}

    @property
    def timed(self) -> bool:
        """Whether the slices differ over time."""
        return any(part.timed for part in self.parts)

    def _worst(self, n: int, by: str, scale: float, together: bool) -> tuple[Loss, ...]:
        """Return the worst places of all parts; a place is a state of one part, numbered there."""
        found = [loss for part in self.parts for loss in part._worst(n, by, scale, together)]
        return tuple(sorted(found, key=lambda loss: -loss.lost)[:n])


def split(factors: Factors) -> list[Factors]:
    """Return the parts that are measured for themselves: none where the joint state is small, or parts die together."""
    if factors.states.size < JOINT or factors.discount < 1:
        return []
    parts = parts_of(factors)
    together = factors.ends is not None and all(part.ends is None for part in parts)  # an end that no part knows alone
    return parts if len(parts) > 1 and not together else []


def answers_of(parts: Sequence[Factors], alpha: Tensor) -> tuple[FactoredAnswers, ...]:
    """Return what the policies of each part are measured against."""
    return tuple(FactoredAnswers(part.detach(), alpha.detach()) for part in parts)


def measure_separate(answers: Sequence[FactoredAnswers], policy: object) -> SeparateEvaluation:
    """Evaluate a policy that acts part by part: the prior, a rule, or what was solved so.

    Raises:
        WorldError: the policy is of another kind, and would tie the parts.
    """
    chosen = policy.policy if isinstance(policy, Messages) else policy
    if isinstance(chosen, ProductPolicy):
        each: Sequence[object] = chosen.parts
    elif chosen is None or (isinstance(chosen, Rule) and chosen.is_known):
        each = [chosen] * len(answers)
    else:
        expected = "None, a Rule of cai's means, or what cai.solve returns for this world: its parts are measured apart"
        raise fault("policy", f"a {type(policy).__name__}", expected)
    own = [(one.world.states.names, one.world.actions.names) for one in answers]
    if isinstance(chosen, ProductPolicy) and [(p.states.names, p.actions.names) for p in chosen.parts] != own:
        raise fault("policy", "a policy whose parts are others than this world's", "one that was solved for this world")
    parts = tuple(measure_factors(one, own) for one, own in zip(answers, each, strict=True))
    return SeparateEvaluation(parts, answers[0].temperature)
