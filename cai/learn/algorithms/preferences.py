"""DPO and IPO: a policy from preferences between pairs of trajectories, without a reward and without its own samples.

    h(τ) = Σ_t log π(a_t|s_t)/p(a_t|s_t),    the judge prefers τ to τ' with probability σ((R(τ) - R(τ'))/judge)

    DPO   minimise -log σ(β (h(τ_w) - h(τ_l)))           Rafailov et al. 2023
    IPO   minimise (h(τ_w) - h(τ_l) - 1/(2β))²           Azar et al. 2024

with β = α/judge, τ_w the preferred one. The pairs come from the prior, from one start each. DPO's optimum is
p(τ) exp(R/α) by normalisation, the exact posterior; IPO's is p(τ) exp(E[P(τ ≻ τ')]/β), τ' ~ p.
"""

from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cai.learn.actor import Actor
from cai.learn.experience import Experience, whole_episodes
from cai.learn.functions import Function, descend
from cai.learn.policy_search import PolicyOptions, PolicySearch, search_policy
from cai.learn.problem import Metrics, Problem, State, require_certain
from cai.learn.result import Learned
from cai.learn.settings import POSITIVE, check, whole
from cai.simulate.simulator import EnvState


@dataclass(frozen=True)
class Nothing:
    """The function that is 0 whatever θ: its policy is the prior (on an interval, nearly)."""

    function: Function

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return what the function reads."""
        return self.function.inputs(state, t)

    def init(self, *copies: int) -> Tensor:
        """Return parameters of the function."""
        return self.function.init(*copies)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return zeros in the shape of the function's value."""
        return torch.zeros_like(self.function(theta, x))


@dataclass(frozen=True)
class Preferences:
    """DPO or IPO; see ``dpo`` and ``ipo``."""

    name: str
    judge: float = 1.0
    batch: int = 100

    def __post_init__(self) -> None:
        check(self, judge=POSITIVE, batch=whole(2, 2))

    def init(self, search: PolicySearch, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return nothing: only the policy is learned."""
        require_certain(self.name, problem)
        return None, {}

    def step(self, search: PolicySearch, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw pairs from the prior, have them judged, and move θ once."""
        actor, values = search.actor(problem), dict(state.values)
        prior = replace(actor, function=Nothing(actor.function))
        seen = whole_episodes(prior, values["theta"], group=2)
        returns = seen.rewards.sum(0)
        sure = ((returns[0::2] - returns[1::2]) / self.judge).sigmoid()
        sign = torch.where(torch.rand_like(sure) < sure, 1.0, -1.0)
        theta = values["theta"].detach().requires_grad_()
        total = trajectory_log_ratio(actor, theta, seen)
        assert problem.temperature is not None
        loss = self.loss(sign * (total[0::2] - total[1::2]), problem.temperature / self.judge).mean()
        adam, share = search.adam(actor.function), search.share(state)
        values |= descend(values, "theta", torch.autograd.grad(loss, theta)[0], adam, share)
        after = replace(state, steps=state.steps + seen.steps, values=values)
        return after, {"loss": loss.item()}

    def loss(self, margin: Tensor, beta: float) -> Tensor:
        """Return the loss of the margins h(τ_w) - h(τ_l), nats."""
        return -logsigmoid(beta * margin) if self.name == "dpo" else (margin - 1 / (2 * beta)) ** 2


def trajectory_log_ratio(actor: Actor, theta: Tensor, seen: Experience) -> Tensor:
    """Return Σ_t log π_θ(a_t|s_t)/p(a_t|s_t) of each trajectory, nats, ``[N]``; differentiable."""
    each = actor.log_ratio(theta, seen.x, seen.prior, seen.code)
    return torch.where(seen.acting, each, 0.0).sum(0)


def dpo(
    world: Any,
    *,
    temperature: float,
    judge: float = 1.0,
    batch: int = 100,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by direct preference optimisation: minimise ``-log σ(β (h(τ_w) - h(τ_l)))``, β = α/judge (Rafailov et al.
    2023).

    Pairs of trajectories with the same start are drawn from the prior, and a Bradley-Terry judge prefers one by its
    return. The optimum is the exact posterior p(τ|O = 1), so that the world must be deterministic: elsewhere the judge
    also rewards luck, which no policy can have. Worlds that are known not to be are refused; of an environment that is
    not compiled, it is not known.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units.
        judge: the temperature of the judge, reward units; at a high one the preferences are noisy.
        batch: trajectories in each update, two a pair.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world is not deterministic or discounts, an argument is not valid, or an environment's start
            states differ.
    """
    return search_policy(Preferences("dpo", judge, batch), world, options, temperature=temperature)


def ipo(
    world: Any,
    *,
    temperature: float,
    judge: float = 1.0,
    batch: int = 100,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by identity preference optimisation: minimise ``(h(τ_w) - h(τ_l) - 1/(2β))²``, β = α/judge (Azar et al.
    2024).

    The optimum is p(τ) exp(E[P(τ ≻ τ')]/β), τ' from the prior: bounded preferences in the place of returns, and not the
    posterior. All else is as in ``dpo``.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units.
        judge: the temperature of the judge, reward units; at a high one the preferences are noisy.
        batch: trajectories in each update, two a pair.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world is not deterministic or discounts, an argument is not valid, or an environment's start
            states differ.
    """
    return search_policy(Preferences("ipo", judge, batch), world, options, temperature=temperature)
