"""Actor: π_θ, a function of the state and the head that makes actions of its numbers; and the critic beside it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cai.compile.linear_model import LinearGaussian
from cai.learn.action_heads import ActionHead, actor_of
from cai.learn.functions import Affine, Function, Table, function_of
from cai.learn.problem import Problem
from cai.simulate.simulator import EnvState, Simulator, clock


@dataclass(frozen=True)
class Actor:
    """π_θ on a simulator; θ is given from outside."""

    simulator: Simulator
    head: ActionHead
    function: Function

    def reads(self, env_state: EnvState) -> tuple[Tensor, Tensor]:
        """Return what the function and the head read of a state, ``[N, …]`` both."""
        t = clock(self.simulator, env_state)
        x, prior = self.function.inputs(env_state.state, t), self.head.prior(env_state.state, t)
        return x, prior.expand(len(x), *prior.shape[1:])

    def log_ratio(self, theta: Tensor, x: Tensor, prior: Tensor, code: Tensor) -> Tensor:
        """Return log π_θ(a|s) - log p(a|s), nats."""
        return self.head.ratio(self.function(theta, x), prior, code)

    def policy(self, theta: Tensor) -> Any:
        """Return the policy."""
        horizon = self.function.horizon if isinstance(self.function, Table | Affine) else None
        return self.head.policy(self.function, theta, horizon)


def actor_for(problem: Problem, network: Any, stationary: bool | None) -> Actor:
    """Return the actor of a problem, π = p at first.

    It is a table where states are finite and affine-Gaussian on a linear-Gaussian world, for each time or stationary,
    unless there is a network.
    """
    simulator, model = problem.simulator, problem.model
    head = actor_of(simulator)
    if network is None and isinstance(model, LinearGaussian):
        centre = model.start_mean.to(torch.get_default_dtype())
        horizon = None if stationary else model.horizon
        return Actor(simulator, head, Affine(model.states, centre, head.width, horizon))
    return Actor(simulator, head, _function(problem, head.width, network, stationary, last=0.0))


def critic_for(problem: Problem, network: Any, stationary: bool | None) -> Function:
    """Return V(s), or V_t(s): a table where states are finite, unless there is a network; a module is the actor's."""
    return _function(problem, 1, (64,) if isinstance(network, nn.Module) else network, stationary)


def _function(problem: Problem, out: int, network: Any, stationary: bool | None, last: float = 1.0) -> Function:
    simulator = problem.simulator
    if network is None and simulator.variables.state_space is not None:
        return Table(simulator, out, None if stationary else simulator.horizon)
    return function_of(simulator, out, (64,) if network is None else network, last=last, activation=torch.tanh)
