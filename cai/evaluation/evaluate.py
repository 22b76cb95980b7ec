"""evaluate: what a policy gets, and where every nat between it and the exact answers goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.ends import inspect_ends
from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.errors import ImpossibleError, NotConvergedError, demand, fault
from cai.evaluation.answers import Answers, shortfall
from cai.evaluation.factored import measure_factors
from cai.evaluation.measured import Single, by_state, expected
from cai.evaluation.separate import answers_of as part_answers
from cai.evaluation.separate import measure_separate, split
from cai.exact.forms import compiled
from cai.exact.messages import Messages
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.exact.tables.backup import look_ahead
from cai.exact.tables.policy_evaluation import occupancy, values
from cai.exact.temperature import as_temperature, single_temperature
from cai.policies.as_policy import acting_weights, as_policy, checked_table
from cai.policies.protocol import FinitePolicy
from cai.support.numerics import nats
from cai.world.definition import World

TableAnswers = Answers[Tables, Messages]


@dataclass(frozen=True, repr=False)
class Evaluation(Single[Messages]):
    """A policy on a world, exactly. For the infinite horizon read every ``[T, …]`` without T, summed over all times.

    Attributes:
        tables: the compiled world.
        policy: what was evaluated.
        temperature: α, reward units.
        log_policy: log π_t(a|s), nats, ``[T, S, A]``.
        occupancy: p(s_t, a_t, alive) under the policy and the true dynamics, ``[T, S, A]``.
        final_states: p(s_T, alive), ``[S]``.
        answers: what the policy is measured against.
        standard_error: of the expected return, reward units; 0, since nothing was sampled.
    """

    tables: Tables
    policy: FinitePolicy
    temperature: Float[Tensor, ""]
    log_policy: Float[Tensor, "..."]
    occupancy: Float[Tensor, "..."]
    final_states: Float[Tensor, " S"]
    answers: TableAnswers
    standard_error: float = 0.0

    def __repr__(self) -> str:
        return f"Evaluation({self.shown}, on {self.tables})"

    @cached_property
    def expected_return(self) -> float:
        """E_π[Σ r], the terminal reward included, reward units."""
        total = expected(self.final_states, self.tables.terminal) if self.tables.horizon else torch.zeros(())
        for t, joint in enumerate(self._by_time(self.occupancy)):
            one = self.tables.at(t)
            total = total + expected(joint.unsqueeze(-1) * one.log_prob.exp(), one.reward)
        return float(total)

    @cached_property
    def entropy(self) -> float:
        """E_π[Σ H(π(·|s_t))] until the episode ends, nats."""
        return float(-expected(acting_weights(self.tables, self.occupancy), self.log_policy))

    @cached_property
    def kl_to_prior(self) -> float:
        """E_π[Σ KL(π(·|s_t) ‖ p(·|s_t))], nats; inf where the policy does what the prior forbids."""
        return float(sum(self._kl(occ, t, self.tables.at(t).log_prior).sum() for t, occ in self._times()))

    @cached_property
    def v(self) -> Float[Tensor, "..."]:
        """The policy's own value, KL to the prior paid, ``[T+1, S]``, reward units: ``Σ p(s_0) v_0/α = ELBO(π)``."""
        return values(self.tables, self.log_policy, self.temperature).v

    @cached_property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ π*(·|s_t)) against VARIATIONAL, nats, ``[T, S]``."""
        rows = (self._kl(occ, t, self.variational.policy.log_probs(t)) for t, occ in self._times())
        return self.in_room(self._stacked(rows))

    @cached_property
    def action_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ p(·|s_t, O)) against POSTERIOR, nats, ``[T, S]``."""
        rows = (self._kl(occ, t, self.posterior.policy.log_probs(t)) for t, occ in self._times())
        return self.in_room(self._stacked(rows))

    @cached_property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``: zero iff nothing is luck.

        With a discount, survival is part of the outcome.
        """
        return self.in_room(self._stacked(self._luck(occ, t) for t, occ in self._times()))

    @cached_property
    def regret_per_state(self) -> Float[Tensor, "..."]:
        """p(s_t) Σ_a π(a|s_t) (v*_t(s_t) - q*_t(s_t, a)) against HARD, reward units, ``[T, S]``."""
        return self._stacked(by_state(occ, shortfall(self.tables, self.hard, t)) for t, occ in self._times())

    @property
    def world(self) -> Tables:
        """The compiled world."""
        return self.tables

    @property
    def reach(self) -> Float[Tensor, "..."]:
        """p(s_t, alive) under the policy, ``[T, S]``."""
        return self.occupancy.sum(-1)

    def log_policy_at(self, t: int) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""
        return self._by_time(self.log_policy)[t]

    @property
    def timed(self) -> bool:
        """Whether the slices differ over time."""
        return self.tables.timed

    @property
    def _log_initial(self) -> Tensor:
        return self.tables.log_initial

    def _luck(self, occupancy: Tensor, t: int) -> Tensor:
        one, tilted = self.tables.at(t), self.posterior.tilt(t)
        p = one.log_prob.exp()
        nats = torch.where(p > 0, p * (one.log_prob - tilted.log_outcome), 0.0).sum(-1)
        if self.tables.discount < 1:
            log_survival = self.tables.log_survival
            survival = (log_survival.exp() * (log_survival - tilted.log_survival)).sum(-1)
            nats = nats + torch.where(p > 0, p * look_ahead(survival, one.successor), 0.0).sum(-1)
        return torch.where(occupancy > 0, occupancy * nats, 0.0).sum(-1)

    def _kl(self, occupancy: Tensor, t: int, log_other: Tensor) -> Tensor:
        """Return ``Σ_a p(s_t, a) (log π - log other)``, nats, [S]."""
        return by_state(occupancy, self.log_policy_at(t) - log_other)

    def _times(self) -> Any:
        return enumerate(self._by_time(self.occupancy))

    def _by_time(self, field: Tensor) -> Tensor:
        return field if self.tables.horizon is not None else field.unsqueeze(0)

    def _stacked(self, rows: Any) -> Tensor:
        stacked = torch.stack(list(rows))
        return stacked if self.tables.horizon is not None else stacked[0]


@torch.no_grad()
def evaluate(world: World | Tables | Factors, policy: Any, *, temperature: float | Tensor = 1.0) -> Any:
    """Evaluate any policy exactly, by pushing its state distribution forward through the true dynamics.

    ``ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)]``, and two decompositions, both exact for every policy:
    ``ELBO* - ELBO(π) = Σ policy nats`` and ``log Z - ELBO(π) = start + Σ action + Σ luck nats``.

    Args:
        world: a world, or the tables or factors it was compiled to.
        policy: None (the action prior), a Policy, messages, a tensor ``[S, A]`` or ``[T, S, A]`` of probabilities, an
            object with ``act``, a function ``(state, t) -> probabilities [S, A]``, or a ``Rule`` to be solved.
        temperature: α > 0, reward units; one number.

    Raises:
        WorldError: the world, the policy or the temperature does not conform.
        IntractableError: the world can be neither tabulated nor factorised.
    """
    return measure(answers_of("evaluate", compiled(world), temperature), policy)


def answers_of(where: str, model: Tables | Factors, temperature: float | Tensor) -> Sequence[Answers[Any, Any]]:
    """Return what policies on a compiled world are measured against: of each of its independent parts."""
    if isinstance(model, Factors):
        return part_answers(split(model) or [model], single_temperature(temperature).to(model.dtype))
    alpha = as_temperature(temperature, model)
    if alpha.dim() or model.batch_shape:
        raise fault(where, f"a batch of shape {[*model.batch_shape, *alpha.shape]}", "one world, one temperature")
    return (TableAnswers(model.detach(), alpha.detach()),)


def exact(answers: Sequence[Answers[Any, Any]]) -> tuple[float | None, float | None]:
    """Return ELBO* and log Z, nats, summed over the parts of the world, each None where it is not finite."""

    def total(rule: Rule) -> float | None:
        try:
            return sum(float(nats(one.under(rule).value, one.temperature)) for one in answers)
        except (ImpossibleError, NotConvergedError):
            return None

    return total(VARIATIONAL), total(POSTERIOR)


def measure(answers: Sequence[Answers[Any, Any]], policy: Any) -> Any:
    """Evaluate a policy of any form against given answers."""
    if len(answers) > 1:
        return measure_separate(answers, policy)
    (one,) = answers
    return _measure_tables(one, policy) if isinstance(one.world, Tables) else measure_factors(one, policy)


def _measure_tables(answers: TableAnswers, policy: Any) -> Evaluation:
    if isinstance(policy, Rule):
        policy = answers.under(policy)
    tables, acting = answers.world, as_policy(answers.world, policy)
    demand(inspect_ends(tables))
    log_pi = checked_table(tables, acting)
    states, end = occupancy(tables, log_pi), tables.log_initial.exp()
    if tables.horizon is not None:
        states, end = states[:-1], states[-1]
    return Evaluation(tables, acting, answers.temperature, log_pi, states.unsqueeze(-1) * log_pi.exp(), end, answers)
