"""Trajectory balance: the loss of generative flow networks, which knows log Z when it is 0.

    L(θ) = (log Z_θ(s_0) + Σ_t log π_θ(a_t|s_t)/p(a_t|s_t) - R/α)²

(Malkin et al. 2022, with the prior in the place of a backward policy: a trajectory is the only way to its
end.) It is 0 on all trajectories where π is the exact posterior and log Z_θ the evidence of the start.
"""

from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.learn.algorithms.preferences import trajectory_log_ratio
from cai.learn.experience import whole_episodes
from cai.learn.functions import begun, descend
from cai.learn.policy_search import PolicyOptions, PolicySearch, search_policy
from cai.learn.problem import Metrics, Problem, State, require_certain
from cai.learn.result import Learned
from cai.learn.settings import check, whole
from cai.simulate.simulator import EnvState

FASTER = 10.0  # the step size of log Z against that of the policy; Malkin et al. 2022 take a larger one, too


@dataclass(frozen=True)
class TrajectoryBalance:
    """Trajectory balance on the policy's own trajectories; see ``trajectory_balance``."""

    batch: int = 100
    name: str = "trajectory_balance"

    def __post_init__(self) -> None:
        check(self, batch=whole())

    def init(self, search: PolicySearch, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return the parameters of log Z, and the moments of their steps."""
        require_certain(self.name, problem)
        evidence = search.critic(problem, stationary=True)
        return None, begun(search.adam(evidence), log_z=evidence.init())

    def step(self, search: PolicySearch, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw trajectories from the policy, and move θ and log Z once."""
        actor, evidence, values = search.actor(problem), search.critic(problem, stationary=True), dict(state.values)
        seen = whole_episodes(actor, values["theta"])
        assert problem.temperature is not None
        merit = seen.rewards.sum(0) / problem.temperature
        theta, zeta = (values[name].detach().requires_grad_() for name in ("theta", "log_z"))
        log_z = evidence(zeta, evidence.inputs(seen.start, 0)).squeeze(-1)
        loss = ((log_z + trajectory_log_ratio(actor, theta, seen) - merit) ** 2).mean()
        down, up = torch.autograd.grad(loss, (theta, zeta))
        adam, share = search.adam(actor.function), search.share(state)
        values |= descend(values, "theta", down, adam, share)
        values |= descend(values, "log_z", up, replace(adam, lr=FASTER * adam.lr), share)
        after = replace(state, steps=state.steps + seen.steps, values=values)
        return after, {"loss": loss.item(), "log_z": log_z.mean().item(), "return": seen.rewards.sum(0).mean().item()}


def trajectory_balance(
    world: Any,
    *,
    temperature: float,
    batch: int = 100,
    **options: Unpack[PolicyOptions],
) -> Learned:
    """Learn by trajectory balance: minimise ``(log Z_θ(s_0) + Σ_t log π_θ(a_t|s_t)/p(a_t|s_t) - R/α)²`` (Malkin et al.
    2022), on the policy's own trajectories.

    It is 0 at the exact posterior p(τ|O = 1), which a policy has in a deterministic world only. Worlds that are known
    not to be are refused; of an environment that is not compiled, it is not known. ``log_z`` in the metrics of the
    history is the learned log Z, nats, the mean over the starts of the last batch; the true one is the result's
    ``elbo_star``, since ELBO* is E log Z(s_0) here. For a given policy the best log Z_θ is its ELBO, so on the way the
    learned one lies below. Its step size is ten times that of the policy.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units.
        batch: trajectories in each update.
        options: of the policy and the training; see ``PolicyOptions``.

    Raises:
        WorldError: the world is not deterministic or discounts, or an argument is not valid.
    """
    return search_policy(TrajectoryBalance(batch), world, options, temperature=temperature)
