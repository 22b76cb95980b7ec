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

from cai.errors import Finding, IntractableError
from cai.evaluation.answers import Answers
from cai.evaluation.losses import Loss, costliest, losses
from cai.exact.messages import Messages
from cai.exact.operator import MF, Act, F, M, Measured
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL, Rule
from cai.policies.protocol import Policy
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
    def totals(self) -> tuple[float, float, float]:
        """E_π[Σ r], reward units, entropy and KL to the prior, nats."""
        op, reward, entropy, kl = self.operator, 0.0, 0.0, 0.0
        for t, log_pi, joint in self.joints():
            reward += float(op.expect(joint, op.expected_reward(t)).sum())
            entropy -= float(op.expect(op.in_play(joint), log_pi).sum())
            kl += float(op.expect(joint, log_pi - op.log_prior(t)).sum())
        if self.model.horizon is not None:
            reward += float(op.expect_state(self.states[-1], op.terminal()).sum())
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
        return self._finite(self._account(lambda t, log_pi: self._once("luck", t, promised.luck)))

    @cached_property
    def regret(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) (v* - q*), reward units, ``[T, S]``."""
        hard = self.under(HARD)
        return self._account(lambda t, log_pi: self._once("shortfall", t, hard.shortfall))

    @cached_property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats."""
        promised = self.under(POSTERIOR)
        op = promised.operator
        return float(self._finite(op.start_luck(op.at(promised.v, 0))))

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
            return log_pi.exp(), log_best.exp(), log_pi - log_best if by == "nats" else best.shortfall(t)

        lost = self.policy_nats if by == "nats" else self.regret
        places = costliest(lost, scale, n, together=together)
        return losses(self.model, places, self.states[: len(self.times)], by, tables)

    def _best(self, rule: Rule, t: int) -> F:
        """Return log π*_t(a|s) of an exact answer, nats."""
        answer = self.under(rule)
        return self._once(rule, t, lambda t: self.operator.score(t, answer.log_policy(t)))

    def _once(self, what: object, t: int, make: Callable[[int], F]) -> F:
        """Return a function of time that is the same for every policy, ``[S, A]``; cached where it is small."""
        if len(self.times) * self.operator.entries > SHARED:
            return make(t)
        key, shared = (self.index, what, t), self.answers.shared
        if key not in shared:
            shared[key] = make(t)
        return shared[key]

    def _account(self, cost: Callable[[int, F], F]) -> Tensor:
        op = self.operator
        with torch.no_grad():
            rows = torch.stack([op.expect(joint, cost(t, log_pi)) for t, log_pi, joint in self.joints()])
        return self.shaped(op.by_place(rows))

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
