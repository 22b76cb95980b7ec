"""Gymnasium environments as a simulator: black boxes that can still be brought back to any scene.

An environment is a function of its seed and the actions since; so a scene remembers both for every copy, and going on
from a scene that is not the present one replays at most the running episodes. That is what makes a resumed run equal
the uninterrupted one bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from cai.errors import blamed, fault
from cai.policies.spaces import Signature, Variable
from cai.simulate.simulator import Scene
from cai.simulate.worlds import features_of
from cai.types import Space, Values


@dataclass(frozen=True)
class Tape:
    """The running episode of one environment: the seed it was reset with, and its first ``length`` actions."""

    seed: int
    actions: list[Any]
    length: int

    def then(self, action: Any) -> "Tape":
        """Return the tape with one action more; two futures of one tape do not share a list."""
        actions = self.actions if len(self.actions) == self.length else self.actions[: self.length]
        actions.append(action)
        return Tape(self.seed, actions, self.length + 1)


class EnvironmentSimulator:
    """B copies of a Gymnasium environment; see ``Simulator``. The action prior is uniform.

    Args:
        env: an id, a function that makes an environment, or a ``gymnasium.vector.SyncVectorEnv``, whose environments
            are made anew, since another simulator may run them too; B is then theirs.
        batch: B.
        env_kwargs: passed on to ``gymnasium.make``.

    Raises:
        WorldError: the id is unknown, or its spaces are neither Discrete nor bounded Box.
    """

    endless = timed = False
    horizon: int | None = None  # a time limit is the environment's own, and truncates

    def __init__(self, env: Any, batch: int, **env_kwargs: Any) -> None:
        self.envs = _made(env, batch, env_kwargs)
        self.batch, self.dtype = len(self.envs), torch.get_default_dtype()
        spec = self.envs[0].spec
        self.name = f"{spec.id} of {spec.max_episode_steps} steps" if spec else type(self.envs[0].unwrapped).__name__
        space = self.envs[0].action_space
        self.discrete, self.offset = hasattr(space, "n"), int(getattr(space, "start", 0))
        self.first = int(getattr(self.envs[0].observation_space, "start", 0))  # our numbers begin at 0
        if not self.discrete:
            self.low, self.high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (space.low, space.high))
        state, action = _variable("state", self.envs[0].observation_space), _variable("action", space)
        self.signature = Signature((state,), (action,), _space(state), _space(action))
        self.now: list[Tape | None] = [None] * self.batch

    @property
    def example(self) -> Tensor:
        """Zeros, which disturb no running episode."""
        return torch.zeros((self.batch, *self.signature.states[0].shape), dtype=self.signature.states[0].dtype)

    def begin(self) -> Scene:
        """Reset every environment with a seed of its own."""
        never = torch.zeros(self.batch, dtype=torch.bool)
        every = Scene(self.example, torch.zeros(self.batch, dtype=torch.long), ~never, never, (None,) * self.batch)
        return self.restart(every)

    def step(self, scene: Scene, action: Values) -> tuple[Scene, Tensor]:
        """Take an action in every environment that has not ended."""
        assert isinstance(action, Tensor)
        state, tapes = scene.state.clone(), list(scene.memory)
        reward = torch.zeros(self.batch)
        ended, terminated, truncated = scene.ended.tolist(), scene.terminated.clone(), scene.truncated.clone()
        actions = (action + self.offset).tolist() if self.discrete else list(action.detach().float().numpy())
        for i, env in enumerate(self.envs):
            if ended[i]:
                continue
            self._bring(i, tapes[i])
            self.now[i] = None  # whatever breaks in there, the environment is nowhere known until it has stepped
            seen, paid, over, cut, _ = env.step(actions[i])
            state[i], reward[i] = torch.as_tensor(seen) - self.first, float(paid)
            terminated[i], truncated[i] = over, cut and not over
            tapes[i] = self.now[i] = tapes[i].then(actions[i])
        t = torch.where(scene.ended, scene.t, scene.t + 1)
        return Scene(state, t, terminated, truncated, tuple(tapes)), reward

    def restart(self, scene: Scene) -> Scene:
        """Reset the environments that have ended, each with a new seed."""
        if not bool(scene.ended.any()):
            return scene
        state, tapes = scene.state.clone(), list(scene.memory)
        seeds = torch.randint(2**31 - 1, (self.batch,)).tolist()
        for i in scene.ended.nonzero().flatten().tolist():
            self.now[i] = None
            seen, _ = self.envs[i].reset(seed=seeds[i])
            state[i] = torch.as_tensor(seen) - self.first
            tapes[i] = self.now[i] = Tape(seeds[i], [], 0)
        never = torch.zeros_like(scene.ended)
        return Scene(state, torch.where(scene.ended, 0, scene.t), never, never, tuple(tapes))

    def features(self, state: Any) -> Tensor:
        """Return the observation as one vector, one-hot where it is a number."""
        return features_of(self.signature.states, state).to(self.dtype)

    def act(self, state: Any, t: Any) -> Any:
        """Sample uniformly from the actions, at the site "action"."""
        shape = state.shape[: state.dim() - len(self.signature.states[0].shape)]
        if self.discrete:
            return pyro.sample("action", dist.Categorical(torch.ones(*shape, self.signature.actions[0].size or 0)))
        low, high = (bound.expand(*shape, *bound.shape) for bound in (self.low, self.high))
        return pyro.sample("action", dist.Uniform(low, high).to_event(self.low.dim()))

    def log_prior(self, state: Any, t: Any = 0) -> Tensor:
        """Return the uniform log p(a|s), nats."""
        n = self.signature.actions[0].size
        assert n is not None
        shape = state.shape[: state.dim() - len(self.signature.states[0].shape)]
        return torch.full((*shape, n), -float(np.log(n)), dtype=self.dtype)

    def pack(self, scene: Scene) -> dict[str, Any]:
        """Return a scene as tensors: its tapes too."""
        tapes = [(tape.seed, torch.as_tensor(np.array(tape.actions[: tape.length]))) for tape in scene.memory]
        fields = {"t": scene.t, "terminated": scene.terminated, "truncated": scene.truncated}
        return {
            "state": scene.state,
            **fields,
            "seeds": [one for one, _ in tapes],
            "actions": [one for _, one in tapes],
        }

    def unpack(self, kept: dict[str, Any]) -> Scene:
        """Return the scene that was packed."""
        listed = [one.tolist() if self.discrete else list(one.numpy()) for one in kept["actions"]]
        tapes = tuple(Tape(seed, one, len(one)) for seed, one in zip(kept["seeds"], listed, strict=True))
        return Scene(kept["state"], kept["t"], kept["terminated"], kept["truncated"], tapes)

    def _bring(self, i: int, tape: Tape) -> None:
        """Bring an environment to where a tape ends, unless it is there."""
        if self.now[i] is tape:
            return
        self.now[i] = None
        self.envs[i].reset(seed=tape.seed)
        for action in tape.actions[: tape.length]:
            self.envs[i].step(action)


def _made(env: Any, batch: int, env_kwargs: dict[str, Any]) -> list[Any]:
    import gymnasium  # slow to import, and only black boxes need it

    if isinstance(env, gymnasium.vector.SyncVectorEnv):
        return [make() for make in env.env_fns]
    make: Callable[[], Any] = env
    if isinstance(env, str):

        def make() -> Any:
            return gymnasium.make(env, **env_kwargs)

    elif not callable(env):
        seen = f"a {type(env).__name__}"
        raise fault("simulator, env", seen, "an id, a function that makes an environment, or a SyncVectorEnv")
    with blamed(f"environment '{env}'", "an installed id and its options"):
        made = [make() for _ in range(batch)]
    if not isinstance(made[0], gymnasium.Env):
        raise fault(
            "simulator, env", f"a function that makes a {type(made[0]).__name__}", "one that makes an environment"
        )
    return made


def _variable(name: str, space: Any) -> Variable:
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return Variable(name, int(space.n), torch.Size(), torch.long)
    bounded = name == "state" or (isinstance(space, gymnasium.spaces.Box) and space.is_bounded())
    if isinstance(space, gymnasium.spaces.Box) and bounded:
        return Variable(name, None, torch.Size(space.shape), torch.float32)
    raise fault(f"environment, {name} space", f"{space}", "Discrete, or Box (with bounds, for actions)")


def _space(variable: Variable) -> Space | None:
    if variable.size is None:
        return None
    return Space((variable.name,), (variable.size,), (variable.dtype,), named=False)
