"""Policy search: Adam moves the parameters θ of a policy, and what is learned is the policy of their running mean.

REINFORCE, RLOO, GRPO, PPO, DPO, IPO and trajectory balance differ in what they draw and in which gradient they follow.
That is a ``Method``; all else is here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.learn.actor import Actor, actor_for, critic_for
from cai.learn.functions import Adam, Function, begun, usual_lr
from cai.learn.problem import Metrics, Problem, State
from cai.learn.result import Learned
from cai.learn.settings import FLOATING, POSITIVE, SWITCH, check, number
from cai.learn.training import Options, parted, train
from cai.simulate.simulator import EnvState


class PolicyOptions(Options, total=False):
    """The options of the learners that search for the parameters of a policy, besides those of every learner.

    Keys:
        network: hidden widths, or a torch module on the features. What is learned beside the policy, such as V, has a
            network of its own, with the same widths, or with one layer of 64 beside a module. Unless given: a table
            where states are finite, an affine-Gaussian policy on a linear-Gaussian world, else widths (64,).
        stationary: leave the time out of a table, or of an affine policy. False unless given.
        lr: the step size of Adam. Unless given, 0.05 for a table or an affine policy and 0.001 for a network.
        settle: let the step size decay to 0 over the steps. True unless given.
        average: the returned policy is a moving average of the learned parameters with this rate; 1, which returns the
            last ones, unless given.
        dtype: of the parameters. Unless given, torch.float64 without a network and torch.float32 with one.
    """

    network: Sequence[int] | Any
    stationary: bool | None
    lr: float | None
    settle: bool
    average: float
    dtype: torch.dtype | None


@runtime_checkable
class Method(Protocol):
    """What a policy search draws, and which gradient it follows.

    Attributes:
        name: what the learner is called.
        batch: copies of the world.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102

    def init(self, search: "PolicySearch", problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return where the copies begin, and the first values of what is learned beside θ."""

    def step(self, search: "PolicySearch", problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw, and move θ once or several times."""


@dataclass(frozen=True)
class PolicySearch:
    """A method with the options that all of them share; see ``PolicyOptions``.

    Attributes:
        norm: the largest norm of a gradient; None for any.
        budget: the steps over which the step size decays.
    """

    method: Method
    network: Any = None
    stationary: bool | None = None
    lr: float | None = None
    settle: bool = True
    average: float = 1.0
    dtype: torch.dtype = torch.float64
    norm: float | None = None
    budget: int = 1_000_000

    def __post_init__(self) -> None:
        kinds = {"lr": number(), "average": number(0, 1), "norm": POSITIVE, "dtype": FLOATING}
        check(self, ("lr", "norm", "stationary"), settle=SWITCH, stationary=SWITCH, **kinds)

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def batch(self) -> int:
        """The method's."""
        return self.method.batch

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ, its running mean, the moments of its steps, and what is learned beside it."""
        actor = self.actor(problem)
        theta = actor.function.init()
        env_state, beside = self.method.init(self, problem)
        return env_state, {**begun(self.adam(actor.function), theta=theta), "average": theta, **beside}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Let the method move θ, and the running mean follow."""
        after, metrics = self.method.step(self, problem, state)
        mean = torch.lerp(after.values["average"], after.values["theta"], self.average)
        return replace(after, updates=state.updates + 1, values={**after.values, "average": mean}), metrics

    def policy(self, problem: Problem, state: State) -> Any:
        """Return π of the running mean of θ."""
        return self.actor(problem).policy(state.values["average"])

    def actor(self, problem: Problem) -> Actor:
        """Return π_θ."""
        return actor_for(problem, self.network, self.stationary)

    def critic(self, problem: Problem, *, stationary: bool | None = None) -> Function:
        """Return V; with the time where the policy has it, unless it is said otherwise."""
        return critic_for(problem, self.network, self.stationary if stationary is None else stationary)

    def adam(self, function: Function) -> Adam:
        """Return the steps of a function's parameters."""
        return Adam(usual_lr(function, self.lr), self.norm)

    def share(self, state: State) -> float:
        """Return how much of the step size is left."""
        return max(1 - state.steps / self.budget, 0.0) if self.settle else 1.0


def search_policy(
    method: Method,
    world: Any,
    options: PolicyOptions,
    *,
    temperature: float | None,
    gamma: float | None = None,
    norm: float | None = None,
) -> Learned:
    """Search for a policy on a world or an environment by a method; hard where there is no temperature."""
    own, training = parted(options, PolicyOptions.__annotations__.keys() - Options.__annotations__.keys())
    own["dtype"] = own.get("dtype") or (torch.float64 if own.get("network") is None else torch.float32)
    budget = options.get("steps", PolicySearch.budget)
    search = PolicySearch(method, norm=norm, budget=budget, **own)
    return train(search, world, temperature=temperature, gamma=gamma, **training)
