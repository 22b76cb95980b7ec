"""Evaluation: the exact numbers of a policy, and its losses against the exact answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.model import is_finite
from cai.compile.quadratic import Stacked, stacked
from cai.compile.table_model import Tables
from cai.errors import IntractableError, NoClosedFormError, fault
from cai.evaluation.accounts import account
from cai.evaluation.answers import Answers
from cai.evaluation.losses import Loss, require_ranking
from cai.evaluation.part_accounts import Part
from cai.evaluation.success import success_of
from cai.exact.forms import Compiled
from cai.exact.messages import Messages
from cai.exact.rules import HARD, POSTERIOR, VARIATIONAL
from cai.exact.tables.policy_evaluation import values
from cai.policies.as_policy import require_table
from cai.support.display import in_notebook
from cai.support.numerics import nats


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """The exact numbers of a policy on a world.

    For the infinite horizon an array has no T axis: it is summed over all times. A world may fall into independent
    parts. Then each part is measured alone, and a number by time and state is given for each part.

    Attributes:
        policy: the policy that was evaluated.
        answers: the exact answers that the policy is compared with.
        parts: the numbers of each independent part of the world; most worlds are one part.
    """

    policy: Any
    answers: Answers
    parts: tuple[Part, ...]

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        try:
            elbo = f"{self.elbo:.6g} nats"
        except NoClosedFormError:
            elbo = "not available"
        except IntractableError:
            elbo = "too large in nats"
        error = f" ± {self.standard_error:.2g}" if self.standard_error else ""
        return f"Evaluation(expected_return={self.expected_return:.6g}{error}, elbo={elbo}, on {self.model})"

    @property
    def model(self) -> Compiled:
        """The compiled world."""
        return self.answers.model

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """α, reward units."""
        return self.answers.temperature

    @property
    def expected_return(self) -> float:
        """J(π) = E_π[Σ r], the terminal reward included, reward units."""
        return sum(part.totals[0] for part in self.parts)

    @property
    def standard_error(self) -> float:
        """The standard error of the expected return, reward units; 0 where it is exact."""
        return self.standard_error_of("expected_return")

    def standard_error_of(self, field: str) -> float:
        """Return the standard error of a number of the policy, in its unit: 0 where it is exact.

        It is exact on numbered states, and on a linear-Gaussian world under a policy that is Gaussian given the state,
        with an affine mean and the same covariance everywhere. Other policies are sampled there.

        Args:
            field: "expected_return", "elbo", "policy_nats", …: a total over all times.
        """
        return sum(part.standard_error(field) for part in self.parts)

    @cached_property
    def success(self) -> float | None:
        """The probability that the episode ends with a positive reward; None without such an end, or without tables."""
        return success_of(self.parts[0]) if len(self.parts) == 1 else None

    @property
    def entropy(self) -> float:
        """E_π[Σ H(π(·|s_t))] until the episode ends, nats."""
        return sum(part.totals[1] for part in self.parts)

    @property
    def kl_to_prior(self) -> float:
        """E_π[Σ KL(π(·|s_t) ‖ p(·|s_t))], nats; inf where the policy takes an action that the prior forbids."""
        return sum(part.totals[2] for part in self.parts)

    @property
    def elbo(self) -> float:
        """ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)], nats; -inf where the policy risks what is forbidden.

        On real states it is -inf also where the policy is certain in a direction in which the prior is not.

        Raises:
            NoClosedFormError: a real variable was observed exactly.
        """
        for part in self.parts:
            part.require_probability()
        return float(nats(self.temperature.new_tensor(self.expected_return), self.temperature)) - self.kl_to_prior

    @property
    def variational(self) -> Messages:
        """The messages of VARIATIONAL at this temperature: the best ELBO of any policy."""
        return self.answers.under(VARIATIONAL)

    @property
    def posterior(self) -> Messages:
        """The exact posterior at this temperature."""
        return self.answers.under(POSTERIOR)

    @property
    def hard(self) -> Messages:
        """Bellman optimality: the highest return that any policy can have."""
        return self.answers.under(HARD)

    @property
    def elbo_star(self) -> float:
        """ELBO* of VARIATIONAL, nats: the best ELBO of any policy.

        Raises:
            ImpossibleError: it is -inf, so no difference to it exists.
        """
        return float(nats(self.variational.value, self.temperature))

    @property
    def log_evidence(self) -> float:
        """log Z of POSTERIOR, nats.

        Raises:
            ImpossibleError: the evidence is zero.
        """
        return float(nats(self.posterior.value, self.temperature))

    @property
    def best_return(self) -> float:
        """J* of HARD, reward units: the highest return of any policy within the prior's support.

        Raises:
            ImpossibleError: it is -inf, so no difference to it exists.
        """
        return float(self.hard.value)

    @property
    def optimality_gap(self) -> float:
        """ELBO* - ELBO(π) >= 0, nats; equals the sum of ``policy_nats``.

        Raises:
            ImpossibleError: ELBO* is -inf, so no difference to it exists.
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
        """J* - J(π), reward units: the sum of ``regret_per_state``; inf where the policy risks a reward of -inf.

        Raises:
            ImpossibleError: J* is -inf, so no difference to it exists.
        """
        return float(self.regret_per_state.sum())

    @property
    def regret_per_state(self) -> Float[Tensor, "..."]:
        """p(s_t) Σ_a π(a|s_t) (v*_t(s_t) - q*_t(s_t, a)) against HARD, reward units, ``[T, S]``.

        As all accounts it is ``[T]`` where states are real.

        The performance difference lemma (Kakade and Langford 2002): their sum is J* - J(π), exactly. An entry is
        negative only where the policy gains by an action that the prior forbids.

        Raises:
            ImpossibleError: J* is -inf, so no difference to it exists.
        """
        return self._by_part(lambda part: part.regret)

    @property
    def policy_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ π*(·|s_t)) against VARIATIONAL, nats, ``[T, S]``."""
        return self._by_part(lambda part: part.policy_nats)

    @property
    def start_nats(self) -> float:
        """KL(p(s_0) ‖ p(s_0|O)), nats: how far the true start distribution is from the posterior's."""
        return sum(part.start_nats for part in self.parts)

    @property
    def action_nats(self) -> Float[Tensor, "..."]:
        """p(s_t) KL(π(·|s_t) ‖ p(·|s_t, O)) against POSTERIOR, nats, ``[T, S]``."""
        return self._by_part(lambda part: part.action_nats)

    @property
    def luck_nats(self) -> Float[Tensor, "..."]:
        """Σ_a p(s_t, a) KL(p(outcome|s_t, a) ‖ p(outcome|s_t, a, O)), nats, ``[T, S]``.

        They are 0 for deterministic dynamics. With a discount, surviving the step is part of the outcome.
        """
        return self._by_part(lambda part: part.luck_nats)

    @property
    def log_policy(self) -> Any:
        """log π_t(a|s), nats, ``[T, S, A]``; a quadratic of (s, a) of each time where they are real."""
        return self._stacked(lambda part: (log_pi for _, log_pi, _ in part.joints()))

    @cached_property
    def occupancy(self) -> Any:
        """p(s_t, a_t, alive) under the policy and the true dynamics, ``[T, S, A]``; Gaussians where they are real."""
        return self._stacked(lambda part: (joint for _, _, joint in part.joints()))

    @property
    def final_states(self) -> Any:
        """p(s_T, alive), ``[S]``, or a Gaussian; for the infinite horizon p(s_t, alive) summed over all times."""
        return self._only.states[-1]

    @property
    def visits(self) -> dict[str, Any]:
        """p(x_t, alive) of every state variable, ``[T+1, n]``; for the infinite horizon its sum, ``[1, n]``.

        Of a real variable its mass, mean and covariance at each time, a ``Gaussian``.
        """
        return {name: states for part in self.parts for name, states in part.visits.items()}

    @cached_property
    def v(self) -> Float[Tensor, "..."]:
        """The policy's value less α times its KL to the prior, ``[T+1, S]``, reward units.

        Its start value gives the ELBO: ``Σ p(s_0) v_0/α = ELBO(π)``.

        Raises:
            WorldError: the world has no tables.
        """
        if not isinstance(self.model, Tables):
            raise fault("Evaluation.v", f"{self.model}", "a world with tables")
        return values(self.model, self.log_policy, self.temperature).v

    def worst(self, n: int = 10, by: str = "nats", *, together: bool = False) -> tuple[Loss, ...]:
        """Return the n state-times where the policy loses most, the costliest first; ``str`` makes each a sentence.

        There are fewer where the policy loses at fewer, and none for an optimal policy: losses within rounding are left
        out. In a world of independent parts a place is a state of one part, with its number there; where states are
        real it is a time alone.

        Args:
            n: how many at most.
            by: "nats", policy nats against VARIATIONAL, or "regret", reward units against HARD.
            together: add up all times of a state, so that each state is one place.

        Raises:
            WorldError: ``n`` is below 1, or ``by`` is something else.
            ImpossibleError: ELBO* or J* is -inf, so no difference to it exists.
        """
        require_ranking(n, by)
        if by == "nats":
            scale = max(1.0, abs(self.elbo_star))
        else:
            scale = max(abs(x) for x in (self.best_return, self.expected_return) if abs(x) < float("inf"))
        each = [loss for part in self.parts for loss in part.worst(n, by, scale, together=together)]
        return tuple(sorted(each, key=lambda loss: -loss.lost)[:n])

    def account(self) -> str:
        """Explain ELBO* - ELBO(π), log Z - ELBO(π) and the regret in words, with a line for each kind of loss.

        Where ELBO*, log Z or J* is not finite, the line says so and gives the reason.
        """
        return account(self)

    @property
    def _only(self) -> Part:
        """The one part of a world in one piece.

        Raises:
            WorldError: there are several.
        """
        if len(self.parts) > 1:
            raise fault("Evaluation", f"{len(self.parts)} independent parts", "one of them: evaluation.parts[0]")
        return self.parts[0]

    def _by_part(self, read: Callable[[Part], Tensor]) -> Tensor:
        if len(self.parts) == 1:
            return read(self.parts[0])
        return torch.stack([read(part).sum() for part in self.parts])

    def _stacked(self, rows: Callable[[Part], Any]) -> Any:
        part = self._only
        if is_finite(part.model):
            require_table("evaluation", part.model)
        each = list(rows(part))
        if not isinstance(each[0], Tensor | Stacked):
            raise fault("Evaluation.log_policy", "a policy that is sampled", "a Gaussian given the state")
        return part.shaped(stacked(each))
