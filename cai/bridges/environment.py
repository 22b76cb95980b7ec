"""Gymnasium out: any world as an environment, or as a batch of them, one slice a step."""

from typing import Any, overload

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from cai.bridges.dynamics import advance, dynamics_of
from cai.bridges.encoding import encode
from cai.errors import fault
from cai.world.definition import World
from cai.world.spaces import Values


class WorldEnvironment(gymnasium.Env[Any, Any]):
    """A world as a Gymnasium environment; ``to_gymnasium`` makes it and says what it promises.

    Attributes:
        world: the world.
        encoding: how its states and actions are shown to a learner.
        t: the time.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 — Gymnasium's own convention

    def __init__(self, world: World, render_mode: str | None = None) -> None:
        self.encoding = encode(world, "to_gymnasium")
        if render_mode not in (None, "ansi"):
            raise fault("to_gymnasium, render_mode", f"{render_mode!r}", "None or 'ansi'")
        self.world, self.render_mode = world, render_mode
        self.dynamics = dynamics_of(self.encoding)
        self.observation_space, self.action_space = self.encoding.observation_space, self.encoding.action_space
        self.here: Any = None
        self.t, self.over = 0, True

    @property
    def state(self) -> Values | None:
        """s_t as the world's program sees it; None before the first reset."""
        return None if self.here is None else self.dynamics.values(self.here)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sample s_0; return the observation and ``{"t": 0}``."""
        super().reset(seed=seed)
        self.t, self.over = 0, False
        self.here = self.dynamics.start((), self.np_random)
        return self._observation(), {"t": self.t}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Sample the slice of time t; return observation, reward, terminated, truncated and ``{"t": t + 1}``.

        Raises:
            ResetNeeded: the episode is over, or none has begun.
            WorldError: the action lies outside the action space, or the reward is not finite.
        """
        if self.over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset before the next step")
        if not _contains(self.action_space, action):
            raise fault(f"step, t = {self.t}", f"action {action!r}", f"one of {self.action_space}")
        self.here, paid, ended, cut = advance(self.dynamics, self.here, action, self.t, self.np_random)
        self.t += 1
        terminated, truncated = bool(ended), bool(cut)
        self.over = terminated or truncated
        return self._observation(), float(paid), terminated, truncated, {"t": self.t}

    def action_masks(self) -> Any:
        """Return which actions the prior allows now, as MaskablePPO of sb3-contrib asks: bool, ``[A]``.

        Of several variables one mask after the other, ``[A_1 + A_2 + …]``: each has the values of which an allowed
        joint action can be made.

        Raises:
            ResetNeeded: no episode has begun.
            WorldError: the actions are not finite.
        """
        _require_masks(self)
        return self.dynamics.masks(self.here, self.t)

    def render(self) -> Any:
        """Return time and state as a line of text, where the render mode is "ansi"."""
        state = self.state
        if self.render_mode is None or state is None:
            return None
        names = [variable.name for variable in self.encoding.spec.variables.states]
        values = state if isinstance(state, dict) else {names[0]: state}
        return f"t = {self.t}: " + ", ".join(f"{name} = {values[name].tolist()}" for name in names)

    def _observation(self) -> Any:
        seen = self.dynamics.observe(self.here)
        return np.int64(seen) if seen.ndim == 0 else seen.copy()


class WorldEnvironments(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """N copies of a world, stepped together; ``to_gymnasium`` makes them and says what they promise.

    Attributes:
        world: the world.
        encoding: how its states and actions are shown to a learner.
        t: the time of each copy, ``[N]``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 — Gymnasium's own convention
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, world: World, num_envs: int) -> None:
        self.encoding = encode(world, "to_gymnasium")
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise fault("to_gymnasium, num_envs", f"{num_envs!r}", "a whole number, at least 1")
        self.world, self.num_envs, self.dynamics = world, num_envs, dynamics_of(self.encoding)
        self.single_observation_space = self.encoding.observation_space
        self.single_action_space = self.encoding.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.here: Any = None
        self.t, self.over = np.zeros(num_envs, np.int64), np.ones(num_envs, bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sample s_0 of every copy; return the observations and their times, 0."""
        super().reset(seed=seed)
        self.t, self.over = np.zeros_like(self.t), np.zeros_like(self.over)
        self.here = self.dynamics.start((self.num_envs,), self.np_random)
        return self.dynamics.observe(self.here), self._info()

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Sample a slice in every copy; one whose episode has ended begins anew instead, with reward 0.

        Raises:
            ResetNeeded: none has begun.
            WorldError: an action lies outside the action space, or a reward is not finite.
        """
        if self.here is None:
            raise gymnasium.error.ResetNeeded("no episode has begun: call reset before the first step")
        actions = np.asarray(actions)
        if not _contains(self.action_space, actions):
            raise fault("step", f"actions {actions!r}", f"{self.action_space}")
        anew, before = self.over, self.here
        if anew.any():  # what these do in their last state is of no account: they act in their first
            before = self.dynamics.renewed(anew, self.dynamics.start((self.num_envs,), self.np_random), before)
        going, t = ~anew, np.where(anew, 0, self.t)
        after, paid, ended, cut = advance(self.dynamics, before, actions, t, self.np_random, going)
        self.here = self.dynamics.renewed(anew, before, after) if anew.any() else after
        self.t, self.over = t + going, (ended | cut) & going
        return self.dynamics.observe(self.here), np.where(going, paid, 0.0), ended & going, cut & going, self._info()

    def action_masks(self) -> Any:
        """Return which actions the prior allows now in each copy, bool, ``[N, A]``, as ``to_gymnasium`` does for one.

        Raises:
            ResetNeeded: no episode has begun.
            WorldError: the actions are not finite.
        """
        _require_masks(self)
        return self.dynamics.masks(self.here, self.t)

    def _info(self) -> dict[str, Any]:
        return {"t": self.t.copy(), "_t": np.ones(self.num_envs, bool)}


def _contains(space: Any, action: Any) -> bool:
    if isinstance(space, gymnasium.spaces.Box):
        action = np.asarray(action, space.dtype)
    return bool(space.contains(action))


def _require_masks(env: Any) -> None:
    if env.encoding.spec.variables.action_space is None:
        raise fault("action_masks", "actions that are not finite", "finitely many")
    if env.here is None:
        raise gymnasium.error.ResetNeeded("no episode has begun: call reset before the masks are read")


@overload
def to_gymnasium(world: World, *, render_mode: str | None = ...) -> gymnasium.Env[Any, Any]: ...
@overload
def to_gymnasium(world: World, *, num_envs: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]: ...
def to_gymnasium(
    world: World, *, num_envs: int | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any] | gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Turn any world into a Gymnasium environment: ``reset`` samples s_0, ``step`` the slice of time t.

    One finite variable is a ``Discrete`` space, several are a ``MultiDiscrete`` one, in the order in which the program
    samples them, with the world's own numbers. Other states are a ``Box`` of float32: ``features(state) -> [*, F]``
    where the world has this optional member, else the variables one after the other, flattened. Continuous actions are
    a ``Box`` with the bounds of the prior's interval in the first state. Stable-Baselines3 needs finite bounds: give
    such actions a ``Uniform`` prior.

    - After T steps the episode is ``truncated``: the horizon is a time limit. The observation does not contain the
      time; ``info["t"]`` does. The reward ``terminal(s_T)`` is added to step T's reward, times γ, because it is paid
      one step later.
    - An episode is ``terminated`` where the world's optional ``terminated(state)`` is True. If the world has a
      ``terminal`` reward, the episode goes on to T, where that reward is paid.
    - A discount γ does not end episodes: learners apply it themselves. It is ``env.unwrapped.world.discount``.
    - The action space is the support of the action variables. Actions that the prior forbids in a state are not
      refused; ``action_masks()`` says which ones the current state allows.
    - ``reset(seed=…)`` fixes every random number; torch's global random state does not change. A world with tables of
      at most a million outcomes is stepped by table look-up; for others its program runs, in float64.

    With ``num_envs`` = N it is N environments that are stepped together as one batch. A copy whose episode has ended is
    reset at the *next* step, whatever the action (``AutoresetMode.NEXT_STEP``, declared in ``metadata``); ``info["t"]``
    has each copy's time.

    Args:
        world: the world; not its tables.
        num_envs: N, or None for a single environment.
        render_mode: of a single one: None, or "ansi" for a line of text.

    Raises:
        WorldError: the argument is no world, or a variable has no Gymnasium space. ``step`` raises it at a reward that
            is not finite: a learner cannot average -inf.

    Source: Towers et al. 2024, Gymnasium: a standard interface for reinforcement learning environments.
    """
    if num_envs is None:
        return WorldEnvironment(world, render_mode)
    if render_mode is not None:
        raise fault("to_gymnasium, render_mode", f"{render_mode!r} beside num_envs", "None: one environment is shown")
    return WorldEnvironments(world, num_envs)
