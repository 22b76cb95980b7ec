"""The interface of every learner: a frozen state, ``init`` and ``step``; and the problem that it learns on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.simulate.simulator import EnvState, Simulator
from cai.world.spaces import Space


@dataclass(frozen=True)
class Problem:
    """What is learned on.

    Attributes:
        simulator: B copies of the world, or of the environment.
        temperature: α, reward units; None for a hard learner.
        gamma: the discount γ of the learner's targets.
        model: the compiled world, by which policies are measured, or None where there is none.
        dtype: of parameters and features.
    """

    simulator: Simulator
    temperature: float | None
    gamma: float
    model: Tables | LinearGaussian | None
    dtype: torch.dtype

    @property
    def actions(self) -> Space:
        """The numbered actions.

        Raises:
            WorldError: the actions are not finite.
        """
        space = self.simulator.variables.action_space
        if space is None:
            names = [variable.name for variable in self.simulator.variables.actions]
            raise fault(
                "learner, actions", f"{names}, continuous", "finitely many: sac and reinforce take continuous ones"
            )
        return space


@dataclass(frozen=True)
class State:
    """A learner at a moment. A step gives a new state and leaves the old one as it was.

    The memory of a replay ring is shared between states, and its past is never written to until the ring is full.

    Attributes:
        steps: environment steps taken.
        updates: updates made.
        random: the state of the random generator.
        env_state: where the copies are, for a learner that goes on in the middle of episodes.
        values: parameters, moments, counts, replay: whatever the learner knows, by name.
    """

    steps: int
    updates: int
    random: Tensor
    env_state: Any = None
    values: Mapping[str, Tensor] = field(default_factory=dict)


Metrics = dict[str, float]


def require_finite(rewards: Tensor) -> None:
    """Raise where a reward is not finite: a mean over samples knows no -inf, and NaN parameters act like any others.

    Raises:
        WorldError: a reward is -inf, inf or NaN.
    """
    if not bool(rewards.isfinite().all()):
        seen = f"{float(rewards[~rewards.isfinite()][0]):g}"
        raise fault("learner, reward", seen, "finite rewards: forbid by the action prior, or by a large loss")


def require_certain(name: str, problem: Problem) -> None:
    """Raise where a learner of whole trajectories cannot reach their posterior, as far as the world is compiled.

    Raises:
        WorldError: there is no temperature, the world discounts, or its dynamics are not certain.
    """
    if problem.temperature is None:
        raise fault(f"{name}, temperature", "None", "α > 0, reward units")
    if problem.gamma < 1:
        raise fault(f"{name}, discount", f"{problem.gamma:g}", "1: it weighs whole trajectories")
    model = problem.model
    chance = isinstance(model, Tables) and bool(((model.log_prob > -torch.inf).sum(-1) > 1).any())
    if chance or (isinstance(model, LinearGaussian) and model.noise > 0):
        expected = "a deterministic world, whose posterior over trajectories some policy has"
        raise fault(f"{name}, world", "dynamics that are not certain", expected)


@runtime_checkable
class Algorithm(Protocol):
    """A learner: settings, and two functions that draw from the ambient generator; hard where there is no temperature.

    Attributes:
        name: its name.
        batch: how many copies of the world it wants.
        dtype: of its parameters.
        budget: environment steps, unless a caller says otherwise.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> torch.dtype: ...  # noqa: D102
    @property
    def budget(self) -> int: ...  # noqa: D102

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return where the copies begin, and the first values."""

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Sample, update once, and return the next state with its metrics."""

    def policy(self, problem: Problem, state: State) -> Any:
        """Return the policy that a state stands for."""
