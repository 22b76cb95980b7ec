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

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import Model
from cai.errors import Finding, IntractableError
from cai.evaluation.answers import Answers
from cai.evaluation.losses import Loss, costliest, losses
from cai.exact.messages import Messages
from cai.exact.operator import Operator
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.policies.as_policy import policy_table, weights_in_play
from cai.policies.protocol import FinitePolicy
from cai.support.memory import TENSOR, require_room
from cai.support.numerics import nats

KEPT = 1 << 24
"""Entries of a policy's tables up to which they are kept, rather than asked of the policy again."""
SHARED = 1 << 22
"""Entries of an answer's tables up to which they are kept for all policies."""


@dataclass(frozen=True, eq=False)
class Part:
    """A policy on one part. For the infinite horizon read every ``[T, …]`` without T, summed over all times.

    Attributes:
        answers: of the whole world.
        index: which part this is.
        policy: what acts here.
    """

    answers: Answers
    index: int
    policy: FinitePolicy

    @property
    def operator(self) -> Operator:
        """This part of the world under the true dynamics."""
        return self.answers.operator.parts[self.index]

    @property
    def model(self) -> Model:
        """The compiled part."""
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
    def _tables(self) -> list[Tensor]:
        """log π_t(a|s) of every time, nats, ``[S, A]`` each; empty where they are too many to be kept."""
        size = len(self.times) * self.model.states.size * self.model.actions.size
        return [policy_table(self.model, self.policy, t) for t in self.times] if size <= KEPT else []

    def log_policy(self, t: int) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats."""
        return self._tables[t] if self._tables else policy_table(self.model, self.policy, t)

    @cached_property
    def states(self) -> Float[Tensor, "T1 S"]:
        """p(s_t, alive) of every time, ``[T+1, S]``; one row, the sum over all times, for the infinite horizon."""
        op, T = self.operator, self.model.horizon
        S, rows = self.model.states.size, 1 if T is None else T
        require_room(
            "evaluate", f"five accounts of S = {S:,} states at T = {rows:,} times", 5 * rows * (8 * S + TENSOR)
        )
        with torch.no_grad():
            if T is None:
                summed: Tensor = op.visits(self.log_policy(0))
                return summed.unsqueeze(0)
            mu: list[Tensor] = [op.initial()]
            for t in range(T):
                mu.append(op.push(t, op.joint(mu[-1], self.log_policy(t))))
            return torch.stack(mu)

    def joints(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each time at which the policy acts with log π_t and p(s_t, a_t, alive), ``[S, A]``."""
        for t in self.times:
            log_pi = self.log_policy(t)
            yield t, log_pi, self.operator.joint(self.states[t], log_pi)

    @cached_property
    def totals(self) -> tuple[float, float, float]:
        """E_π[Σ r], reward units, entropy and KL to the prior, nats."""
        reward, entropy, kl = 0.0, 0.0, 0.0
        for t, log_pi, joint in self.joints():
            reward += float(by_state(joint, self.operator.expected_reward(t)).sum())
            entropy -= float(by_state(weights_in_play(self.model, joint), log_pi).sum())
            kl += float(by_state(joint, log_pi - self.operator.log_prior(t)).sum())
        if self.model.horizon is not None:
            reward += float(by_state(self.states[-1], self.operator.terminal()))
        return reward, entropy, kl

    @property
    def elbo(self) -> float:
        """This part of ELBO(π), nats."""
        reward, _, kl = self.totals
        return float(nats(self.alpha.new_tensor(reward), self.alpha)) - kl

    @cached_property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (log π - log π*), nats, ``[T, S]``."""
        return self._finite(self._account(lambda t, log_pi: log_pi - self._best(VARIATIONAL, t)))

    @cached_property
    def action_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (log π - log p(a|s, O)), nats, ``[T, S]``."""
        return self._finite(self._account(lambda t, log_pi: log_pi - self._best(POSTERIOR, t)))

    @cached_property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``."""
        promised = self.under(POSTERIOR)
        op = promised.operator

        def luck(t: int, log_pi: Tensor) -> Tensor:
            return self._once("luck", t, lambda: op.luck(t, op.at(promised.v, t + 1)))

        return self._finite(self._account(luck))

    @cached_property
    def regret(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (v* - q*), reward units, ``[T, S]``."""
        hard = self.under(HARD)
        return self._account(lambda t, log_pi: self._once("shortfall", t, lambda: shortfall(hard, t)))

    @cached_property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats."""
        log_p = self.model.log_initial
        return float(self._finite(by_state(log_p.exp(), log_p - self.under(POSTERIOR).log_initial())))

    @property
    def visits(self) -> dict[str, Tensor]:
        """p(x_t, alive) of every state variable, ``[T+1, n]``; one row for the infinite horizon."""
        space = self.model.states
        joint = self.states.reshape(-1, *space.sizes)
        axes = range(1, joint.dim())
        return {
            name: joint.sum([axis for axis in axes if axis != i]) if len(axes) > 1 else joint
            for i, name in enumerate(space.names, 1)
        }

    def worst(self, n: int, by: str, scale: float, *, together: bool) -> tuple[Loss, ...]:
        """Return the n places where the policy loses most here; see ``Evaluation.worst``."""
        best = self.under(VARIATIONAL if by == "nats" else HARD)

        def tables(t: int) -> tuple[Tensor, Tensor, Tensor]:
            log_pi, log_best = self.log_policy(t), best.policy.log_probs(t)
            return log_pi.exp(), log_best.exp(), log_pi - log_best if by == "nats" else shortfall(best, t)

        lost = self.policy_nats if by == "nats" else self.regret
        places = costliest(lost, scale, n, together=together)
        return losses(self.model, places, self.states[: len(self.times)], by, tables)

    def _best(self, rule: Rule, t: int) -> Tensor:
        """Return log π*_t(a|s) of an exact answer, nats."""
        policy = self.under(rule).policy
        return self._once(rule, t, lambda: policy.log_probs(t))

    def _once(self, what: object, t: int, make: Callable[[], Tensor]) -> Tensor:
        """Return the tables that are the same for every policy, ``[S, A]``; cached where they are small."""
        if len(self.times) * self.model.states.size * self.model.actions.size > SHARED:
            return make()
        key, shared = (self.index, what, t), self.answers.shared
        if key not in shared:
            shared[key] = make()
        return shared[key]

    def _account(self, cost: Callable[[int, Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            rows = torch.stack([by_state(joint, cost(t, log_pi)) for t, log_pi, joint in self.joints()])
        return self.shaped(rows)

    def shaped(self, rows: Tensor) -> Tensor:
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


def by_state(weights: Tensor, x: Tensor) -> Tensor:
    """Return Σ weights x over the last axis; an entry of weight 0 counts 0, even if x is infinite."""
    return torch.where(weights > 0, weights * x, 0.0).sum(-1)


def shortfall(hard: Messages, t: int) -> Float[Tensor, "S A"]:
    """Return v* - q* of HARD, reward units: the loss of each action; 0 where v* is not finite."""
    q, log_prior = hard.q(t), hard.operator.log_prior(t)
    v = HARD.over_actions.value(q, log_prior, q.new_ones(())).unsqueeze(-1)
    return torch.where(v == -torch.inf, 0.0, v - q)
