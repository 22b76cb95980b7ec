"""A policy on a world whose variables are kept apart: the same accounts, time by time, by variable elimination."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.errors import ImpossibleError, NotConvergedError
from cai.evaluation.answers import Answers, shortfall
from cai.evaluation.measured import Single, by_state, expected
from cai.exact.messages import Messages
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.policies.as_policy import acting_weights, as_policy, policy_table
from cai.policies.protocol import FinitePolicy
from cai.support.memory import TENSOR, require_room
from cai.world.spaces import Space

FactoredAnswers = Answers[Factors, Messages]


@dataclass(frozen=True)
class _Pass:
    """What one pass forward adds up: totals, and accounts by time and state (by state alone where T is infinite).

    ``visits`` has p(x_t, alive) of every state variable, ``[T+1, n]``; a single row of sums where T is infinite.
    """

    expected_return: float
    entropy: float
    kl_to_prior: float
    policy_nats: Tensor | None
    action_nats: Tensor | None
    luck_nats: Tensor | None
    regret: Tensor | None
    reach: Tensor
    visits: dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class FactoredEvaluation(Single[Messages]):
    """A policy on factors, exactly; the members are those of ``Evaluation``.

    Attributes:
        policy: what was evaluated.
        temperature: α, reward units.
        answers: what the policy is measured against.
        standard_error: of the expected return, reward units; 0, since nothing was sampled.
    """

    policy: FinitePolicy
    temperature: Float[Tensor, ""]
    answers: FactoredAnswers
    standard_error: float = 0.0

    def __repr__(self) -> str:
        return f"FactoredEvaluation({self.shown}, on {self.factors})"

    @property
    def factors(self) -> Factors:
        """The compiled world."""
        return self.answers.world

    @property
    def world(self) -> Factors:
        """The compiled world."""
        return self.answers.world

    @property
    def expected_return(self) -> float:
        """E_π[Σ r], the terminal reward included, reward units."""
        return self._totals.expected_return

    @property
    def entropy(self) -> float:
        """E_π[Σ H(π(·|s_t))], nats."""
        return self._totals.entropy

    @property
    def kl_to_prior(self) -> float:
        """E_π[Σ KL(π(·|s_t) ‖ p(·|s_t))], nats; inf where the policy does what the prior forbids."""
        return self._totals.kl_to_prior

    @property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ π*(·|s_t)) against VARIATIONAL, nats, ``[T, S]``."""
        return self.in_room(self._given(self._totals.policy_nats, VARIATIONAL))

    @property
    def regret_per_state(self) -> Float[Tensor, "..."]:
        """p(s_t) Σ_a π(a|s_t) (v*_t(s_t) - q*_t(s_t, a)) against HARD, reward units, ``[T, S]``."""
        return self._given(self._totals.regret, HARD)

    @property
    def action_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ p(·|s_t, O)) against POSTERIOR, nats, ``[T, S]``."""
        return self.in_room(self._given(self._totals.action_nats, POSTERIOR))

    @property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``; survival is in the outcome.

        Since log p(outcome|O) = log p(outcome) + (r + v' - q)/α, this is ``(q - E[r + v'])/α`` of POSTERIOR; 0 where
        q is -inf, since nothing is tilted there.
        """
        return self.in_room(self._given(self._totals.luck_nats, POSTERIOR))

    @property
    def visits(self) -> dict[str, Tensor]:
        """p(x_t, alive) of every state variable, ``[T+1, n]``; for the infinite horizon its sum, ``[1, n]``."""
        return self._totals.visits

    @property
    def reach(self) -> Float[Tensor, "..."]:
        """p(s_t, alive) under the policy, ``[T, S]``."""
        return self._totals.reach

    def log_policy_at(self, t: int) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""
        return policy_table(self.world, self.policy, t)

    @property
    def timed(self) -> bool:
        """Whether the slices differ over time."""
        return self.factors.timed

    @property
    def _log_initial(self) -> Tensor:
        return self.world.log_initial

    def _given(self, lost: Tensor | None, rule: Rule) -> Tensor:
        if lost is None:
            self.answers.under(rule)  # raises why there is no such answer
            raise AssertionError(rule)
        return lost

    @cached_property
    def _totals(self) -> _Pass:
        with torch.no_grad():
            return _account(self)


def measure_factors(answers: FactoredAnswers, policy: object) -> FactoredEvaluation:
    """Evaluate a policy of any form against given answers."""
    S, T = answers.world.states.size, answers.world.horizon or 1
    require_room("evaluate", f"five accounts of S = {S:,} states at T = {T:,} times", 5 * T * (8 * S + TENSOR))
    if isinstance(policy, Rule):
        policy = answers.under(policy)
    return FactoredEvaluation(as_policy(answers.world, policy), answers.temperature, answers)


def _occupancies(one: FactoredEvaluation) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each time with log π_t and p(s_t, a_t, alive), ``[S, A]``; for the infinite horizon their sum, once.

    At T nobody acts: there both are ``[S, 1]``.
    """
    prepared, policy = one.answers.world, one.policy
    op = one.answers.operator(VARIATIONAL)
    d = op.initial()
    if prepared.horizon is not None:
        for t in range(prepared.horizon):
            log_pi = policy_table(prepared, policy, t)
            weights = d.unsqueeze(-1) * log_pi.exp()
            yield t, log_pi, weights
            d = op.push(t, weights)
        yield prepared.horizon, torch.zeros_like(d.unsqueeze(-1)), d.unsqueeze(-1)
        return
    log_pi = policy_table(prepared, policy, 0)
    yield 0, log_pi, op.joint(op.visits(log_pi), log_pi)


def _account(one: FactoredEvaluation) -> _Pass:
    """Walk through all times once, and add up every account."""
    prepared = one.answers.world
    op = one.answers.operator(VARIATIONAL)
    totals = [0.0, 0.0, 0.0]
    rows: dict[str, list[Tensor]] = {"policy_nats": [], "action_nats": [], "luck_nats": [], "regret": [], "reach": []}
    visits: list[dict[str, Tensor]] = []
    for t, log_pi, weights in _occupancies(one):
        visits.append(_by_variable(prepared.states, weights.sum(-1)))
        if t == prepared.horizon:
            totals[0] += float(expected(weights.squeeze(-1), op.terminal()))
            break
        totals[0] += float(expected(weights, op.expected_reward(t)))
        totals[1] -= float(expected(acting_weights(prepared, weights), log_pi))
        totals[2] += float(expected(weights, log_pi - op.log_prior(t)))
        for name, x in _compared(one, log_pi, t).items():
            rows[name].append(by_state(weights, x))
        rows["reach"].append(weights.sum(-1))
    timed = prepared.horizon is not None
    found: dict[str, Any] = {name: torch.stack(x) if timed and x else (x[0] if x else None) for name, x in rows.items()}
    by_name = {name: torch.stack([row[name] for row in visits]) for name in prepared.states.names}
    return _Pass(totals[0], totals[1], totals[2], **found, visits=by_name)


def _compared(one: FactoredEvaluation, log_pi: Tensor, t: int) -> dict[str, Tensor]:
    """Return what each action costs at time t against every answer that there is, ``[S, A]`` by account."""
    answers, found = one.answers, dict[str, Tensor]()
    best, promised, hard = (_possible(answers, rule) for rule in (VARIATIONAL, POSTERIOR, HARD))
    if best is not None:
        found["policy_nats"] = log_pi - best.policy.log_probs(t)
    if promised is not None:
        found["action_nats"] = log_pi - promised.policy.log_probs(t)
        found["luck_nats"] = promised.operator.luck(t, promised._at(t + 1))
    if hard is not None:
        found["regret"] = shortfall(answers.world, hard, t)
    return found


def _by_variable(states: Space, weights: Tensor) -> dict[str, Tensor]:
    joint = weights.reshape(states.sizes)
    axes = range(joint.dim())
    return {
        name: joint.sum([other for other in axes if other != i]) if joint.dim() > 1 else joint
        for i, name in enumerate(states.names)
    }


def _possible(answers: FactoredAnswers, rule: Rule) -> Messages | None:
    try:
        return answers.under(rule)
    except (ImpossibleError, NotConvergedError):
        return None
