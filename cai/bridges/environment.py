"""Gymnasium out: any world as an environment, one slice a step."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pyro
import torch

from cai.bridges.encoding import encode
from cai.errors import blamed, fault
from cai.process import precision
from cai.simulate.worlds import ended_of
from cai.types import Values
from cai.world import World, discount_of, horizon_of


class WorldEnvironment(gymnasium.Env[Any, Any]):
    """A world as a Gymnasium environment; ``to_gymnasium`` makes it and says what it promises.

    Attributes:
        world: the world.
        encoding: how its states and actions are shown to a learner.
        state: s_t as the world's program sees it; None before the first reset.
        t: the time.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 — Gymnasium's own convention

    def __init__(self, world: World, render_mode: str | None = None) -> None:
        self.encoding, self.horizon = encode(world, "to_gymnasium"), horizon_of(world)
        if render_mode not in (None, "ansi"):
            raise fault("to_gymnasium, render_mode", f"{render_mode!r}", "None or 'ansi'")
        self.world, self.render_mode = world, render_mode
        self.discount, self.ended = discount_of(world), ended_of(world)
        self.observation_space, self.action_space = self.encoding.observation_space, self.encoding.action_space
        self.state: Values | None = None
        self.t, self.over = 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sample s_0; return the observation and ``{"t": 0}``."""
        super().reset(seed=seed)
        self.t, self.over = 0, False
        self.state = self._run("initial", self.world.initial)
        return self._observation(), {"t": self.t}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Sample the slice of time t; return observation, reward, terminated, truncated and ``{"t": t + 1}``.

        Raises:
            ResetNeeded: the episode is over, or none has begun.
            WorldError: the action lies outside the action space, or the reward is not finite.
        """
        if self.over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset before the next step")
        where = f"step, t = {self.t}"
        if not self._contains(action):
            raise fault(where, f"action {action!r}", f"one of {self.action_space}")
        self.state, reward = self._run(where, self.world.step, self.state, self.encoding.decode(action), self.t)
        self.t += 1
        last, terminal = self.t == self.horizon, getattr(self.world, "terminal", None)
        paid = float(reward)
        if last and terminal is not None:
            paid += self.discount * float(self._run("terminal", terminal, self.state))
        if not math.isfinite(paid):
            expected = "a finite reward, which a learner can average: write what is forbidden as a large loss"
            raise fault(f"{where}, action {action!r}", f"reward {paid:g}", expected)
        terminated = self.ended is not None and bool(self._run("terminated", self.ended, self.state))
        truncated = last and not terminated
        self.over = terminated or truncated
        return self._observation(), paid, terminated, truncated, {"t": self.t}

    def render(self) -> Any:
        """Return time and state as a line of text, where the render mode is "ansi"."""
        if self.render_mode is None or self.state is None:
            return None
        names = [one.name for one in self.encoding.read.states]
        values = self.state if isinstance(self.state, dict) else {names[0]: self.state}
        return f"t = {self.t}: " + ", ".join(f"{name} = {values[name].tolist()}" for name in names)

    def _observation(self) -> Any:
        assert self.state is not None
        with precision(torch.float64):
            seen = self.encoding.observe(self.state).numpy()
        return np.int64(seen) if seen.ndim == 0 else seen.copy()

    def _contains(self, action: Any) -> bool:
        space = self.action_space
        if isinstance(space, gymnasium.spaces.Box):
            action = np.asarray(action, space.dtype)
        return bool(space.contains(action))

    def _run(self, where: str, piece: Callable[..., Any], *args: Any) -> Any:
        """Run a piece of the world, its random numbers drawn from Gymnasium's generator alone."""
        seed = int(self.np_random.integers(2**63))
        with precision(torch.float64), torch.random.fork_rng(devices=[]), torch.no_grad(), pyro.poutine.block():
            torch.default_generator.manual_seed(seed)
            with blamed(where, "code that runs"):
                return piece(*args)


def to_gymnasium(world: World, *, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Turn any world into a Gymnasium environment: ``reset`` samples s_0, ``step`` the slice of time t.

    One finite variable is a ``Discrete`` space, several are a ``MultiDiscrete`` one, in the order in which the program
    samples them, with the world's own numbers. Other states are a ``Box`` of float32: ``features(state) -> [*, F]``
    where the world has this optional member, else the variables one after the other, flattened. Continuous actions are
    a ``Box`` with the ends of the prior's interval in the first state; real ones have none, and Stable-Baselines3
    takes finite ones only: give such actions a ``Uniform`` prior.

    - After T steps the episode is ``truncated``: the horizon is a time limit, and the time is no part of what is
      observed (``info["t"]`` has it). The reward ``terminal(s_T)`` is added on step T, times γ: it belongs to the
      time after that step's own reward, which a learner weighs by γ^(T-1).
    - ``terminated(state)``, an optional member of a world, tells the absorbing states without further reward, in which
      an episode ends; where there is a ``terminal`` reward it goes on to T, where that is paid.
    - A discount γ ends no episode: learners apply it themselves; ``env.unwrapped.world`` has it.
    - The action prior is not enforced: only the support of its variables is, as the action space.
    - ``reset(seed=…)`` fixes every draw; torch's own random state is left alone. The program runs in float64.

    Args:
        world: the world; its tables will not do.
        render_mode: None, or "ansi" for a line of text.

    Raises:
        WorldError: no world, no space for its variables, or, in ``step``, a reward that is not finite (a forbidden
            outcome of -inf is nothing that a learner could average).

    Source: Towers et al. 2024, Gymnasium: a standard interface for reinforcement learning environments.
    """
    return WorldEnvironment(world, render_mode)
