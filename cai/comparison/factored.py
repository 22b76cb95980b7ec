"""A policy on a world whose variables are kept apart: the same accounts, time by time, by variable elimination."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import ImpossibleError, NotConvergedError
from cai.exact.backup import survive
from cai.exact.factored_messages import FactoredMessages
from cai.exact.factored_sweep import Prepared, prepare
from cai.exact.rules import POSTERIOR, VARIATIONAL, Expect, Rule
from cai.exact.solve_factors import solve_prepared
from cai.factors import Factors
from cai.memory import TENSOR, require_room
from cai.policies.gate import as_policy, policy_table
from cai.policies.protocol import FinitePolicy
from cai.types import Space

SETTLED = 1e-14
"""Chance to be alive at which the sum over an infinite horizon is broken off."""


@dataclass(frozen=True)
class FactoredAnswers:
    """The exact answers that policies of one world are measured against, each solved when it is first asked for."""

    prepared: Prepared
    temperature: Tensor

    @cached_property
    def variational(self) -> FactoredMessages:
        """The variational optimum."""
        return solve_prepared(VARIATIONAL, self.prepared, self.temperature)

    @cached_property
    def posterior(self) -> FactoredMessages:
        """The exact posterior."""
        return solve_prepared(POSTERIOR, self.prepared, self.temperature)


@dataclass(frozen=True)
class _Pass:
    """What one pass forward adds up: totals, and nats by time and state (by state alone where T is infinite).

    ``visits`` has p(x_t, alive) of every state variable, ``[T+1, n]``; a single row of sums where T is infinite.
    """

    expected_return: float
    entropy: float
    kl_to_prior: float
    policy_nats: Tensor | None
    action_nats: Tensor | None
    luck_nats: Tensor | None
    visits: dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class FactoredEvaluation:
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
        numbers = f"expected_return={self.expected_return:.6g}, elbo={self.elbo:.6g} nats"
        return f"FactoredEvaluation({numbers}, on {self.factors})"

    @property
    def factors(self) -> Factors:
        """The compiled world."""
        return self.answers.prepared.factors

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
    def elbo(self) -> float:
        """ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)], nats; -inf where the policy risks what is forbidden."""
        return self.expected_return / float(self.temperature) - self.kl_to_prior

    @property
    def optimality_gap(self) -> float:
        """ELBO* - ELBO(π) >= 0, nats; equals the sum of ``policy_nats``."""
        return float(self.variational.elbo) - self.elbo

    @property
    def evidence_gap(self) -> float:
        """log Z - ELBO(π) = KL(p̂(τ) ‖ p(τ|O)) >= 0, nats; the sum of start, action and luck nats."""
        return float(self.posterior.log_evidence) - self.elbo

    @property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ π*(·|s_t)) against VARIATIONAL, nats, ``[T, S]``."""
        return self._given(self._totals.policy_nats, VARIATIONAL)

    @cached_property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats."""
        log_p = self.answers.prepared.log_initial
        return float(_weighted(log_p.exp(), log_p - self.posterior.log_initial()))

    @property
    def action_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ p(·|s_t, O)) against POSTERIOR, nats, ``[T, S]``."""
        return self._given(self._totals.action_nats, POSTERIOR)

    @property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``; survival is in the outcome.

        Since log p(outcome|O) = log p(outcome) + (r + v' - q)/α, this is ``(q - E[r + v'])/α`` of POSTERIOR; 0 where
        q is -inf, since nothing is tilted there.
        """
        return self._given(self._totals.luck_nats, POSTERIOR)

    @property
    def visits(self) -> dict[str, Tensor]:
        """p(x_t, alive) of every state variable, ``[T+1, n]``; for the infinite horizon its sum, ``[1, n]``."""
        return self._totals.visits

    @property
    def variational(self) -> FactoredMessages:
        """The variational optimum at this temperature: the best any policy can do."""
        return self.answers.variational

    @property
    def posterior(self) -> FactoredMessages:
        """The exact posterior at this temperature."""
        return self.answers.posterior

    def _given(self, nats: Tensor | None, rule: Rule) -> Tensor:
        if nats is None:
            raise ImpossibleError(f"{rule} has no finite answer to measure against")
        return nats

    @cached_property
    def _totals(self) -> _Pass:
        with torch.no_grad():
            return _account(self)


def evaluate_factors(factors: Factors, policy: object, alpha: Tensor) -> FactoredEvaluation:
    """Evaluate any policy on factors; see ``cai.evaluate``."""
    return measure_factors(FactoredAnswers(prepare(factors.detach()), alpha.detach()), policy)


def measure_factors(answers: FactoredAnswers, policy: object) -> FactoredEvaluation:
    """Evaluate a policy of any form against given answers."""
    S, T = answers.prepared.states.size, answers.prepared.horizon or 1
    require_room("evaluate", f"three accounts of S = {S:,} states at T = {T:,} times", 3 * T * (8 * S + TENSOR))
    if isinstance(policy, Rule):
        policy = solve_prepared(policy, answers.prepared, answers.temperature)
    return FactoredEvaluation(as_policy(answers.prepared, policy), answers.temperature, answers)


def _occupancies(one: FactoredEvaluation) -> Iterator[tuple[int, Tensor]]:
    """Yield each time with p(s_t, a_t, alive), ``[S, A]``; for the infinite horizon their sum, once."""
    prepared, policy = one.answers.prepared, one.policy
    d, gamma = prepared.log_initial.exp(), prepared.factors.discount
    if prepared.horizon is not None:
        for t in range(prepared.horizon):
            weights = d.unsqueeze(-1) * policy_table(prepared, policy, t).exp()
            yield t, weights
            d = gamma * prepared.at(t).step(weights)
        yield prepared.horizon, d.unsqueeze(-1)
        return
    pi, total = policy_table(prepared, policy, 0).exp(), torch.zeros_like(d)
    while float(d.sum()) > SETTLED:
        total = total + d
        d = gamma * prepared.at(0).step(d.unsqueeze(-1) * pi)
    yield 0, total.unsqueeze(-1) * pi


def _account(one: FactoredEvaluation) -> _Pass:
    """Walk through all times once, and add up every account."""
    prepared, alpha = one.answers.prepared, one.temperature
    best, promised = (_possible(one, name) for name in ("variational", "posterior"))
    totals = [0.0, 0.0, 0.0]
    rows: dict[str, list[Tensor]] = {"policy": [], "action": [], "luck": []}
    visits: list[dict[str, Tensor]] = []
    for t, weights in _occupancies(one):
        visits.append(_by_variable(prepared.states, weights.sum(-1)))
        if t == prepared.horizon:
            totals[0] += float(_weighted(weights.squeeze(-1), prepared.terminal))
            break
        plan, log_pi = prepared.at(t), policy_table(prepared, one.policy, t)
        totals[0] += float(_weighted(weights, plan.expected_reward))
        totals[1] -= float(_weighted(weights, log_pi))
        totals[2] += float(_weighted(weights, log_pi - plan.log_prior))
        if best is not None:
            rows["policy"].append(_by_state(weights, log_pi - best.policy.log_probs(t)))
        if promised is not None:
            rows["action"].append(_by_state(weights, log_pi - promised.policy.log_probs(t)))
            rows["luck"].append(_by_state(weights, _luck(promised, t) / alpha))
    timed = prepared.horizon is not None
    policy, action, luck = (
        torch.stack(found) if timed and found else (found[0] if found else None) for found in rows.values()
    )
    by_name = {name: torch.stack([row[name] for row in visits]) for name in prepared.states.names}
    return _Pass(totals[0], totals[1], totals[2], policy, action, luck, by_name)


def _by_variable(states: Space, weights: Tensor) -> dict[str, Tensor]:
    joint = weights.reshape(states.sizes)
    axes = range(joint.dim())
    return {
        name: joint.sum([other for other in axes if other != i]) if joint.dim() > 1 else joint
        for i, name in enumerate(states.names)
    }


def _luck(promised: FactoredMessages, t: int) -> Tensor:
    """Return ``q - E[r + v']`` of POSTERIOR, reward units, ``[S, A]``: what it counts on beyond the mean."""
    prepared, v = promised.prepared, promised.v
    v_next = v if prepared.horizon is None else v[t + 1]
    held = survive(VARIATIONAL, v_next, promised.temperature, prepared.factors.log_survival)
    mean = prepared.at(t).mean(Expect(), held, promised.temperature)
    q = promised.q(t)
    return torch.where(q == -torch.inf, 0.0, q - mean)  # impossible: a matter of action nats, nothing is tilted there


def _possible(one: FactoredEvaluation, name: str) -> FactoredMessages | None:
    try:
        found: FactoredMessages = getattr(one.answers, name)
    except (ImpossibleError, NotConvergedError):
        return None
    return found


def _weighted(weights: Tensor, x: Tensor) -> Tensor:
    return torch.where(weights > 0, weights * x, 0.0).sum()


def _by_state(weights: Tensor, x: Tensor) -> Tensor:
    return torch.where(weights > 0, weights * x, 0.0).sum(-1)
