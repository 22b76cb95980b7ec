"""Trajectory balance: the loss of generative flow networks, which knows log Z when it is 0.

    L(θ) = (log Z_θ(s_0) + Σ_t log π_θ(a_t|s_t)/p(a_t|s_t) - R/α)²

(Malkin et al. 2022, equation 14, with the prior in the place of a backward policy: a trajectory is the only way to its
end.) It is 0 on all trajectories where π is the exact posterior and log Z_θ the evidence of the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import torch
from torch import Tensor

from cai.learn.actor import Actor, actor_for, critic_for
from cai.learn.algorithms.preferences import trajectory_log_ratio
from cai.learn.experience import whole_episodes
from cai.learn.functions import Adam, begun, descend, usual_lr
from cai.learn.problem import Metrics, Problem, State, require_certain
from cai.learn.result import Learned
from cai.learn.settings import FLOATING, SWITCH, check, number, whole
from cai.learn.training import Options, train
from cai.simulate.simulator import EnvState

FASTER = 10.0  # the step size of log Z against that of the policy; Malkin et al. 2022 take a larger one, too


@dataclass(frozen=True)
class TrajectoryBalance:
    """Trajectory balance on the policy's own trajectories; see ``trajectory_balance``."""

    batch: int = 100
    lr: float | None = None
    settle: bool = True
    average: float = 1.0
    network: Any = None
    stationary: bool | None = None
    budget: int = 1_000_000
    dtype: torch.dtype = torch.float64
    name: str = "trajectory_balance"

    def __post_init__(self) -> None:
        kinds = {"lr": number(), "average": number(0, 1), "dtype": FLOATING}
        check(self, ("lr", "stationary"), batch=whole(), settle=SWITCH, stationary=SWITCH, **kinds)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ, its running mean and that of log Z, and the moments of their steps."""
        require_certain(self.name, problem)
        actor, log_z = self._actor(problem), critic_for(problem, self.network, True)
        theta = actor.function.init()
        return None, {**begun(self._adam(actor), theta=theta, log_z=log_z.init()), "average": theta}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw trajectories from the policy, and move θ and log Z once."""
        actor, evidence, values = self._actor(problem), critic_for(problem, self.network, True), dict(state.values)
        seen = whole_episodes(actor, values["theta"])
        assert problem.temperature is not None
        merit = seen.rewards.sum(0) / problem.temperature
        theta, zeta = (values[name].detach().requires_grad_() for name in ("theta", "log_z"))
        log_z = evidence(zeta, evidence.inputs(seen.start, 0)).squeeze(-1)
        loss = ((log_z + trajectory_log_ratio(actor, theta, seen) - merit) ** 2).mean()
        down, up = torch.autograd.grad(loss, (theta, zeta))
        share, adam = max(1 - state.steps / self.budget, 0.0) if self.settle else 1.0, self._adam(actor)
        values |= descend(values, "theta", down, adam, share)
        values |= descend(values, "log_z", up, replace(adam, lr=FASTER * adam.lr), share)
        values["average"] = torch.lerp(values["average"], values["theta"], self.average)
        after = replace(state, steps=state.steps + seen.steps, updates=state.updates + 1, values=values)
        return after, {"loss": loss.item(), "log_z": log_z.mean().item(), "return": seen.rewards.sum(0).mean().item()}

    def policy(self, problem: Problem, state: State) -> Any:
        """Return π of the running mean of θ."""
        return self._actor(problem).policy(state.values["average"])

    def _adam(self, actor: Actor) -> Adam:
        return Adam(usual_lr(actor.function, self.lr))

    def _actor(self, problem: Problem) -> Actor:
        return actor_for(problem, self.network, self.stationary)


def trajectory_balance(
    world: Any,
    *,
    temperature: float,
    batch: int = 100,
    lr: float | None = None,
    settle: bool = True,
    average: float = 1.0,
    network: Sequence[int] | Any = None,
    stationary: bool | None = None,
    dtype: torch.dtype | None = None,
    **options: Unpack[Options],
) -> Learned:
    """Learn by trajectory balance: minimise ``(log Z_θ(s_0) + Σ_t log π_θ(a_t|s_t)/p(a_t|s_t) - R/α)²`` (Malkin et al.
    2022, equation 14), on the policy's own trajectories.

    It is 0 at the exact posterior p(τ|O = 1), which a policy has in a deterministic world only. Worlds that are known
    not to be are refused; of an environment that is not compiled, it is not known. ``log_z`` in the metrics of the
    history is the learned log Z, nats, the mean over the starts of the last batch; the true one is the result's
    ``elbo_star``, since ELBO* is E log Z(s_0) here. For a given policy the best log Z_θ is its ELBO, so on the way the
    learned one lies below.

    Args:
        world: a world, a Gymnasium id, or a function that makes an environment, whose episodes end.
        temperature: α > 0, reward units.
        batch: trajectories in each update.
        lr: the step size of Adam, ten times as large for log Z; 0.05 for tables and 0.001 for networks unless given.
        settle: let the step size decay to 0 over the steps.
        average: the returned policy is a moving average of the learned parameters with this rate; 1 returns the last
            ones.
        network: hidden widths, or a torch module on the features. Unless given: a table where states are finite.
        stationary: leave the time out of a table.
        dtype: of the parameters; float64 for tables, else float32.
        options: of the training; see ``Options``.

    Raises:
        WorldError: the world is not deterministic or discounts, or an argument is not valid.
    """
    shape: dict[str, Any] = {"batch": batch, "network": network, "stationary": stationary}
    steps: dict[str, Any] = {"lr": lr, "settle": settle, "average": average, "budget": options.get("steps", 1_000_000)}
    dtype = dtype or (torch.float64 if network is None else torch.float32)
    return train(TrajectoryBalance(**shape, **steps, dtype=dtype), world, temperature=temperature, **options)
