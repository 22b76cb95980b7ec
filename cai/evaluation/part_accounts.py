"""A policy on one independent part of a world: its occupancy and the cost of its actions at each time.

Every account is an expectation under the joint p(s_t, a_t, alive) of the policy and the true dynamics:

    KL to the prior    log π - log p(a|s)                            nats
    policy nats        log π - log π* of VARIATIONAL                 nats
    action nats        log π - log p(a|s, O) of POSTERIOR            nats
    luck nats          KL(p(outcome|s, a) ‖ p(outcome|s, a, O))      nats
    regret             v* - q* of HARD                               reward units
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import is_finite
from cai.errors import Finding, IntractableError, NoClosedFormError
from cai.evaluation.answers import Answers
from cai.evaluation.losses import Loss, by_state, costliest, losses, losses_by_time
from cai.exact.messages import Messages
from cai.exact.operator import MF, Act, F, M, Measured
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.policies.protocol import Policy
from cai.support.numerics import nats

KEPT = 1 << 24
"""Entries of a policy's tables up to which they are kept, rather than asked of the policy again."""
ACCOUNTS = {"policy_nats": "policy", "action_nats": "action", "luck_nats": "luck", "regret": "regret"}
"""The numbers that are accounts by time, and what each is called here."""
SHARED = 1 << 22
"""Entries of an answer's tables up to which they are kept for all policies."""


@dataclass(frozen=True, eq=False)
class Part:
    """A policy on one part. For the infinite horizon read every ``[T, …]`` without T, summed over all times.

    Attributes:
        answers: of the whole world.
        index: which part this is.
        policy: what acts here.
        operator: this part of the world under the true dynamics, where the policy's expectations are taken.
    """

    answers: Answers
    index: int
    policy: Policy
    operator: Measured

    @property
    def model(self) -> Any:
        """The compiled part, a ``Model``."""
        return self.operator.model

    @property
    def alpha(self) -> Tensor:
        """The temperature α, reward units."""
        return self.operator.alpha

    def under(self, rule: Rule) -> Messages:
        """Return this part's exact answer under a rule."""
        return self.answers.under(rule).parts[self.index]

    @property
    def times(self) -> range:
        """The times at which the policy acts; 0 alone for the infinite horizon."""
        return range(1 if self.model.horizon is None else self.model.horizon)

    @cached_property
    def _acts(self) -> list[Act]:
        """The policy at every time; empty where these are too many numbers to be kept."""
        few = len(self.times) * self.operator.entries <= KEPT
        return [self.operator.act(self.policy, t) for t in self.times] if few else []

    def act(self, t: int) -> Act:
        """Return the policy at one time."""
        return self._acts[t] if self._acts else self.operator.act(self.policy, t)

    def log_policy(self, t: int) -> F:
        """Return log π_t(a|s), nats."""
        return self.operator.score(t, self.act(t))

    @cached_property
    def states(self) -> M:
        """p(s_t, alive) of every time, ``[T+1, S]``; one row, the sum over all times, for the infinite horizon."""
        with torch.no_grad():
            return self.operator.states_under(self.act)

    def joints(self) -> Iterator[tuple[int, F, MF]]:
        """Yield each time at which the policy acts with log π_t and p(s_t, a_t, alive), ``[S, A]``."""
        op = self.operator
        for t in self.times:
            act = self.act(t)
            yield t, op.score(t, act), op.joint(self.states[t], act)

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """E_π[Σ r], reward units, entropy and KL to the prior, nats; by trajectory, ``[N]``, where they are sampled."""
        op = self.operator
        reward = entropy = kl = self.alpha.new_zeros((), dtype=torch.float64)
        with torch.no_grad():
            for t, log_pi, joint in self.joints():
                reward = reward + op.total(op.expect(joint, op.expected_reward(t)))
                entropy = entropy - op.total(op.expect(op.in_play(joint), log_pi))
                kl = kl + op.total(op.expect(joint, log_pi - op.log_prior(t)))
            if self.model.horizon is not None:
                reward = reward + op.total(op.expect_state(self.states[-1], op.terminal()))
        return reward, entropy, kl

    @property
    def totals(self) -> tuple[float, float, float]:
        """E_π[Σ r], reward units, entropy and KL to the prior, nats."""
        reward, entropy, kl = (float(total.sum()) for total in self.sums)
        return reward, entropy, kl

    def require_probability(self) -> None:
        """Raise where something was seen of real variables: a term of ``E[Σ r]/α - KL`` is infinite, or both are.

        Raises:
            NoClosedFormError: it is so.
        """
        if getattr(self.model, "exact_evidence", False):
            seen = "evidence on a real variable, exact or noisy, which is a density: no policy makes it certain"
            expected = "no evidence on real variables; cai.solve has log Z"
            raise NoClosedFormError([Finding("evaluate", seen, expected)])

    @property
    def elbo(self) -> float:
        """This part of ELBO(π), nats."""
        self.require_probability()
        reward, _, kl = self.totals
        return float(nats(self.alpha.new_tensor(reward), self.alpha)) - kl

    @property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (log π - log π*), nats, ``[T, S]``."""
        return self._finite(self._shown("policy"))

    @property
    def action_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (log π - log p(a|s, O)), nats, ``[T, S]``."""
        return self._finite(self._shown("action"))

    @property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``."""
        return self._finite(self._shown("luck"))

    @property
    def regret(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (v* - q*), reward units, ``[T, S]``."""
        return self._shown("regret")

    def standard_error(self, field: str) -> float:
        """Return the standard error of a number of the policy, summed over all times; 0 where it is exact."""
        reward, entropy, kl = self.sums
        known = {"expected_return": reward, "entropy": entropy, "kl_to_prior": kl}
        gaps = ("elbo", "optimality_gap", "evidence_gap")
        if field in ACCOUNTS:
            return self.operator.standard_error(self._rows(ACCOUNTS[field]).sum(0))
        total = reward / self.alpha - kl if field in gaps else known.get(field)
        return 0.0 if total is None else self.operator.standard_error(total)

    @cached_property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats."""
        promised = self.under(POSTERIOR)
        op = promised.operator
        return float(self._finite(op.start_luck(op.at(promised.v, 0))))

    @property
    def visits(self) -> dict[str, Any]:
        """p(x_t, alive) of every state variable, ``[T+1, n]``; one row for the infinite horizon.

        Of a real variable its mass, mean and covariance at each time.
        """
        return {name: self.operator.state_marginal(0, self.states, [name]) for name in self.model.states.names}

    def worst(self, n: int, by: str, scale: float, *, together: bool) -> tuple[Loss, ...]:
        """Return the n places where the policy loses most here; see ``Evaluation.worst``."""
        lost = by_state(self.model, self.policy_nats if by == "nats" else self.regret)
        places = costliest(lost, scale, n, together=together)
        if not is_finite(self.model):
            return losses_by_time(self.model, places, self._alive, by)
        best = self.under(VARIATIONAL if by == "nats" else HARD)

        def tables(t: int) -> tuple[Tensor, Tensor, Tensor]:
            log_pi, log_best = self.log_policy(t), best.policy.log_probs(t)
            return log_pi.exp(), log_best.exp(), log_pi - log_best if by == "nats" else best.shortfall(t)

        return losses(self.model, places, self.states[: len(self.times)], by, tables)

    @property
    def steps(self) -> float:
        """The expected number of steps at which the policy acts; of the infinite horizon those of a lifetime."""
        if not is_finite(self.model):
            return sum(self._alive)
        acting = self.states[: len(self.times)]
        return float((acting if self.model.ended is None else acting * ~self.model.ended).sum())

    @property
    def _alive(self) -> list[float]:
        """p(alive) at every time at which the policy acts, γ^t; of the infinite horizon its sum."""
        discount: float = self.model.discount
        return [1 / (1 - discount)] if self.model.horizon is None else [discount**t for t in self.times]

    def _best(self, rule: Rule, t: int) -> F:
        """Return log π*_t(a|s) of an exact answer, nats."""
        answer = self.under(rule)
        return self._once(rule, t, lambda t: answer.operator.score(t, answer.log_policy(t)))

    def _once(self, what: object, t: int, make: Callable[[int], F]) -> F:
        """Return a function of time that is the same for every policy, ``[S, A]``; cached where it is small."""
        if len(self.times) * self.operator.entries > SHARED:
            return make(t)
        key, shared = (self.index, what, t), self.answers.shared
        if key not in shared:
            shared[key] = make(t)
        return shared[key]

    def _cost(self, account: str, t: int, log_pi: F) -> F:
        """Return what an account charges for each action at time t."""
        if account == "luck":
            return self._once(account, t, self.under(POSTERIOR).luck)
        if account == "regret":
            return self._once(account, t, self.under(HARD).shortfall)
        return log_pi - self._best(VARIATIONAL if account == "policy" else POSTERIOR, t)

    def _rows(self, account: str) -> Tensor:
        """Return an account of every time, by state or by trajectory where there are such, ``[T, …]``; cached."""
        if account not in self._known:
            self.require_probability()
            op = self.operator
            with torch.no_grad():
                costs = (op.expect(joint, self._cost(account, t, log_pi)) for t, log_pi, joint in self.joints())
                self._known[account] = torch.stack(list(costs))
        return self._known[account]

    @cached_property
    def _known(self) -> dict[str, Tensor]:
        return {}

    def _shown(self, account: str) -> Tensor:
        shown: Tensor = self.shaped(self.operator.by_place(self._rows(account)))
        return shown

    def shaped(self, rows: Any) -> Any:
        """Return an account of every time, without its axis of time for the infinite horizon."""
        return rows[0] if self.model.horizon is None else rows

    def _finite(self, lost: Tensor) -> Tensor:
        """Return nats that the policy loses, infinite ones only where its ELBO is -inf.

        Raises:
            IntractableError: else they are finite, and too large for their dtype.
        """
        if bool(lost.isinf().any()) and self.elbo > -torch.inf:
            seen = f"a loss at temperature {float(self.alpha):.6g}, too large in nats"
            expected = f"at most {torch.finfo(lost.dtype).max:.3g}: a higher temperature; .regret is in reward units"
            raise IntractableError([Finding("evaluate", seen, expected)])
        return lost
