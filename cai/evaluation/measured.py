"""What the evaluation of a policy says, whatever the form of its world: gaps, accounts in words, the worst places."""

from abc import ABC, abstractmethod
from typing import Any, Generic

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import Finding, IntractableError
from cai.evaluation.accounts import account
from cai.evaluation.answers import Answers, Found, shortfall
from cai.evaluation.losses import Loss, costliest, losses, require_asked
from cai.support.numerics import nats


class Measured(ABC):
    """A policy on a world, exactly."""

    temperature: Float[Tensor, ""]

    @property
    @abstractmethod
    def expected_return(self) -> float:
        """J(π) = E_π[Σ r], the terminal reward included, reward units."""

    @property
    @abstractmethod
    def entropy(self) -> float:
        """E_π[Σ H(π(·|s_t))], nats."""

    @property
    @abstractmethod
    def kl_to_prior(self) -> float:
        """E_π[Σ KL(π(·|s_t) ‖ p(·|s_t))], nats; inf where the policy does what the prior forbids."""

    @property
    def elbo(self) -> float:
        """ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)], nats; -inf where the policy risks what is forbidden."""
        return float(nats(self.temperature.new_tensor(self.expected_return), self.temperature)) - self.kl_to_prior

    @property
    def shown(self) -> str:
        """Return and ELBO in words."""
        try:
            elbo = f"{self.elbo:.6g} nats"
        except IntractableError:
            elbo = "too large in nats"
        return f"expected_return={self.expected_return:.6g}, elbo={elbo}"

    def in_room(self, lost: Tensor) -> Tensor:
        """Return nats that the policy loses, infinite ones only where its ELBO is -inf.

        Raises:
            IntractableError: else they are finite, and too large for their dtype.
        """
        if bool(lost.isinf().any()) and self.elbo > -torch.inf:
            seen = f"a loss at temperature {float(self.temperature):.6g}, too large in nats"
            expected = f"at most {torch.finfo(lost.dtype).max:.3g}: a higher temperature; .regret is in reward units"
            raise IntractableError([Finding("evaluate", seen, expected)])
        return lost

    @property
    @abstractmethod
    def elbo_star(self) -> float:
        """ELBO* of VARIATIONAL, nats: the best any policy can do.

        Raises:
            ImpossibleError: it is -inf, so that there is nothing to measure against.
        """

    @property
    @abstractmethod
    def log_evidence(self) -> float:
        """log Z of POSTERIOR, nats.

        Raises:
            ImpossibleError: the evidence is zero.
        """

    @property
    @abstractmethod
    def best_return(self) -> float:
        """J* of HARD, reward units: the highest return of any policy within the prior's support.

        Raises:
            ImpossibleError: it is -inf, so that there is nothing to measure against.
        """

    @property
    def optimality_gap(self) -> float:
        """ELBO* - ELBO(π) >= 0, nats; equals the sum of ``policy_nats``.

        Raises:
            ImpossibleError: ELBO* is -inf, so that there is nothing to measure against.
        """
        return self.elbo_star - self.elbo

    @property
    def evidence_gap(self) -> float:
        """log Z - ELBO(π) = KL(p̂(τ) ‖ p(τ|O)) >= 0, nats; the sum of start, action and luck nats.

        Raises:
            ImpossibleError: the evidence is zero.
        """
        return self.log_evidence - self.elbo

    @property
    def regret(self) -> float:
        """J* - J(π), reward units: the sum of ``regret_per_state``; inf where the policy risks what is forbidden.

        Raises:
            ImpossibleError: J* is -inf, so that there is nothing to measure against.
        """
        return float(self.regret_per_state.sum())

    @property
    @abstractmethod
    def regret_per_state(self) -> Float[Tensor, "..."]:
        """p(s_t) Σ_a π(a|s_t) (v*_t(s_t) - q*_t(s_t, a)) against HARD, reward units, ``[T, S]``.

        The performance difference lemma (Kakade and Langford 2002): their sum is J* - J(π), exactly. Below 0 only where
        the policy does what the prior forbids, and gains by it.

        Raises:
            ImpossibleError: J* is -inf, so that there is nothing to measure against.
        """

    @property
    @abstractmethod
    def policy_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ π*(·|s_t)) against VARIATIONAL, nats, ``[T, S]``."""

    @property
    @abstractmethod
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats: the start that the posterior would have wished for."""

    @property
    @abstractmethod
    def action_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ p(·|s_t, O)) against POSTERIOR, nats, ``[T, S]``."""

    @property
    @abstractmethod
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``; survival is in the outcome."""

    def worst(self, n: int = 10, by: str = "nats", *, together: bool = False) -> tuple[Loss, ...]:
        """Return the n state-times where the policy loses most, the costliest first; ``str`` says it.

        Fewer where it loses at fewer, none for a best policy: what is rounding is left out.

        Args:
            n: how many at most.
            by: "nats", policy nats against VARIATIONAL, or "regret", reward units against HARD.
            together: tell all times of a state as one place.

        Raises:
            WorldError: ``n`` is below 1, or ``by`` is neither.
            ImpossibleError: ELBO* or J* is -inf, so that there is nothing to measure against.
        """
        require_asked(n, by)
        if by == "nats":
            return self._worst(n, by, max(1.0, abs(self.elbo_star)), together)
        sizes = [abs(one) for one in (self.best_return, self.expected_return) if abs(one) < float("inf")]
        return self._worst(n, by, max(sizes), together)

    def account(self) -> str:
        """Say in words, a line a part, where every nat between the policy and the two exact answers goes.

        The regret has a line in reward units. Where ELBO*, log Z or J* cannot be had, it says so and why.
        """
        return account(self)

    @property
    @abstractmethod
    def timed(self) -> bool:
        """Whether the slices differ over time."""

    @abstractmethod
    def _worst(self, n: int, by: str, scale: float, together: bool) -> tuple[Loss, ...]:
        """Return the n places where the policy loses most; see ``worst``."""


class Single(Measured, Generic[Found]):
    """A policy on a world in one piece: joint states that are numbered, and messages over them."""

    answers: Answers[Any, Found]

    @property
    def variational(self) -> Found:
        """The variational optimum at this temperature: the best any policy can do."""
        return self.answers.variational

    @property
    def posterior(self) -> Found:
        """The exact posterior at this temperature."""
        return self.answers.posterior

    @property
    def hard(self) -> Found:
        """Bellman optimality: the highest return that any policy can have."""
        return self.answers.hard

    @property
    def elbo_star(self) -> float:
        """ELBO* of VARIATIONAL, nats: the best any policy can do."""
        return float(nats(self.variational.value, self.temperature))

    @property
    def log_evidence(self) -> float:
        """log Z of POSTERIOR, nats."""
        return float(nats(self.posterior.value, self.temperature))

    @property
    def best_return(self) -> float:
        """J* of HARD, reward units: the highest return of any policy within the prior's support."""
        return float(self.hard.value)

    @property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats: the start that the posterior would have wished for."""
        log_p = self._log_initial
        return float(self.in_room(expected(log_p.exp(), log_p - self.posterior.log_initial())))

    @property
    @abstractmethod
    def _log_initial(self) -> Float[Tensor, " S"]:
        """log p(s_0), nats."""

    def _worst(self, n: int, by: str, scale: float, together: bool) -> tuple[Loss, ...]:
        one: Any = self
        best = self.variational if by == "nats" else self.hard

        def tables(t: int) -> tuple[Tensor, Tensor, Tensor]:
            log_pi, log_best = one.log_policy_at(t), best.policy.log_probs(t)
            cost = log_pi - log_best if by == "nats" else shortfall(one.world, best, t)
            return log_pi.exp(), log_best.exp(), cost

        lost = self.policy_nats if by == "nats" else self.regret_per_state
        return losses(one.world, costliest(lost, scale, n, together=together), one.reach, by, tables)


def expected(weights: Tensor, x: Tensor) -> Tensor:
    """Return Σ weights x, where what never happens counts for nothing, infinite or not."""
    return torch.where(weights > 0, weights * x, 0.0).sum()


def by_state(weights: Tensor, x: Tensor) -> Tensor:
    """Return Σ_a weights x, ``[S]``, where what never happens counts for nothing, infinite or not."""
    return torch.where(weights > 0, weights * x, 0.0).sum(-1)
