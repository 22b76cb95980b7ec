"""Gymnasium environments as a simulator that can return to any earlier state.

An environment is a function of its seed and the actions since; so an ``EnvState`` remembers both for every copy, and
going on from one that is not the present replays at most the running episodes. That is what makes a resumed run equal
the uninterrupted one bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from cai.errors import fault, user_code
from cai.simulate.flattening import flattened
from cai.simulate.registered import made
from cai.simulate.simulator import EnvState
from cai.simulate.worlds import features_of
from cai.world.spaces import Values, Variables


@dataclass(frozen=True)
class EnvironmentMaker:
    """A Gymnasium id with its options, as the function that makes the environment."""

    id: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """Make one."""
        return made(self.id, self.options)

    def __str__(self) -> str:
        return self.id + _options_text(self.options)


def with_options(env: Any, options: Mapping[str, Any] | None) -> Any:
    """Return an id with its options as a function that makes the environment; whatever else as it is.

    Raises:
        WorldError: options beside what is no id, or under names that are none.
    """
    if options is None:
        return env
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise fault("env_options", f"{options!r}", "a dict of the environment's options by name")
    if not isinstance(env, str):
        seen = f"options {sorted(options)} beside a {type(env).__name__}"
        raise fault("env_options", seen, "a Gymnasium id, to which options belong")
    return EnvironmentMaker(env, dict(options))


@dataclass(frozen=True)
class Tape:
    """The running episode of one environment: the seed it was reset with, and its first ``length`` actions.

    The actions are flat ones: a number, several, or a vector.
    """

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

    Finite spaces are numbered from 0, a variable for each of their numbers; all other observations are one vector.

    Args:
        env: an id, a function that makes an environment, or a ``gymnasium.vector.SyncVectorEnv``, whose environments
            are made anew, since another simulator may run them too; B is then theirs.
        batch: B.
        seeds: of the first episode of each environment, B of them; drawn unless given.

    Raises:
        WorldError: the id, an option or a seed is not valid, or its spaces cannot be flattened (see ``flattened``).
    """

    endless = timed = False
    horizon: int | None = None  # a time limit is the environment's own, and truncates
    absorbing: Callable[[Any], Tensor] | None = None
    terminal: Callable[[Any], Tensor] | None = None

    def __init__(self, env: Any, batch: int, seeds: Sequence[int] | None = None) -> None:
        self.envs = _environments(env, batch)
        self.seeds = None if seeds is None else require_seeds(seeds, len(self.envs))
        self.batch, self.dtype = len(self.envs), torch.get_default_dtype()
        self.name = _name(self.envs[0])
        self.seen = flattened("state", self.envs[0].observation_space)
        self.taken = flattened("action", self.envs[0].action_space, bounded=True)
        self.variables = Variables(self.seen.variables, self.taken.variables, self.seen.numbered, self.taken.numbered)
        if not self.taken.finite:
            box = self.taken.box
            self.low, self.high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (box.low, box.high))
        self.now: list[Tape | None] = [None] * self.batch

    @property
    def example(self) -> Values:
        """Zeros, which disturb no running episode."""
        return self.seen.pack(torch.zeros((self.batch, *self.seen.shape), dtype=self.seen.variables[0].dtype))

    def begin(self) -> EnvState:
        """Reset every environment with a seed of its own."""
        never = torch.zeros(self.batch, dtype=torch.bool)
        every = EnvState(self.example, torch.zeros(self.batch, dtype=torch.long), ~never, never, (None,) * self.batch)
        return self._reset(every, self.seeds or self._drawn())

    def step(self, env_state: EnvState, action: Values) -> tuple[EnvState, Tensor]:
        """Take an action in every environment that has not ended."""
        state, tapes, n = self.seen.unpack(env_state.state).clone(), list(env_state.memory), len(env_state.t)
        going = (~env_state.ended).nonzero().flatten()
        copies = range(n) if env_state.copies is None else env_state.copies.tolist()
        actions = self._listed(self.taken.unpack(action).detach().reshape(n, *self.taken.shape))
        found = [self._step(copies[i], tapes, i, actions[i]) for i in going.tolist()]
        if not found:
            return env_state, torch.zeros(n)
        seen, paid, over, cut = zip(*found, strict=True)
        state[going] = self.seen.batch(seen)
        flags = torch.tensor([over, cut])
        terminated, truncated = env_state.terminated.clone(), env_state.truncated.clone()
        terminated[going], truncated[going] = flags[0], flags[1] & ~flags[0]
        reward, t = torch.zeros(n), env_state.t.clone()
        reward[going], t[going] = torch.tensor(paid), env_state.t[going] + 1
        return EnvState(self.seen.pack(state), t, terminated, truncated, tuple(tapes), env_state.copies), reward

    def _step(self, copy: int, tapes: list[Any], i: int, action: Any) -> tuple[Any, float, bool, bool]:
        """Take an action in an environment, and add it to the tape of place i."""
        if self.now[copy] is not tapes[i]:
            self._replay(copy, tapes[i])
        self.now[copy] = None  # if the step raises an error, the state of the environment is unknown
        seen, paid, over, cut, _ = self.envs[copy].step(self.taken.value(action))
        tapes[i] = self.now[copy] = tapes[i].then(action)
        return seen, float(paid), bool(over), bool(cut)

    def restart(self, env_state: EnvState) -> EnvState:
        """Reset the environments that have ended, each with a new seed."""
        if not bool(env_state.ended.any()):
            return env_state
        return self._reset(env_state, self._drawn())

    def _drawn(self) -> list[int]:
        return torch.randint(2**31 - 1, (self.batch,)).tolist()

    def _reset(self, env_state: EnvState, seeds: list[int]) -> EnvState:
        """Reset the environments that have ended, each with its seed."""
        state, tapes = self.seen.unpack(env_state.state).clone(), list(env_state.memory)
        for i in env_state.ended.nonzero().flatten().tolist():
            self.now[i] = None
            seen, _ = self.envs[i].reset(seed=seeds[i])
            state[i] = self.seen.flat(seen)
            tapes[i] = self.now[i] = Tape(seeds[i], [], 0)
        never = torch.zeros_like(env_state.ended)
        return EnvState(self.seen.pack(state), torch.where(env_state.ended, 0, env_state.t), never, never, tuple(tapes))

    def features(self, state: Any) -> Tensor:
        """Return the observation as one vector, one-hot where it is a number."""
        return features_of(self.variables, state).to(self.dtype)

    def act(self, state: Any, t: Any) -> Any:
        """Sample uniformly from the actions, at their sites."""
        shape, space = self.variables.batch_of(state), self.taken.numbered
        if space is not None:
            draws = {
                name: pyro.sample(name, dist.Categorical(torch.ones(*shape, n)))
                for name, n in zip(space.names, space.sizes, strict=True)
            }
            return space.pack(draws)
        low, high = (bound.expand(*shape, *bound.shape) for bound in (self.low, self.high))
        return pyro.sample("action", dist.Uniform(low, high).to_event(self.low.dim()))

    def log_prior(self, state: Any, t: Any = 0) -> Tensor:
        """Return the uniform log p(a|s), nats."""
        space = self.taken.numbered
        assert space is not None
        return torch.full((*self.variables.batch_of(state), space.size), -float(np.log(space.size)), dtype=self.dtype)

    def pack(self, env_state: EnvState) -> dict[str, Any]:
        """Return a state as tensors: its tapes too."""
        tapes = [(tape.seed, torch.as_tensor(np.array(tape.actions[: tape.length]))) for tape in env_state.memory]
        fields = {"t": env_state.t, "terminated": env_state.terminated, "truncated": env_state.truncated}
        return {
            "state": env_state.state,
            **fields,
            "seeds": [seed for seed, _ in tapes],
            "actions": [actions for _, actions in tapes],
        }

    def unpack(self, packed: dict[str, Any]) -> EnvState:
        """Return the state that was packed."""
        listed = [self._listed(actions) for actions in packed["actions"]]
        tapes = tuple(Tape(seed, actions, len(actions)) for seed, actions in zip(packed["seeds"], listed, strict=True))
        return EnvState(packed["state"], packed["t"], packed["terminated"], packed["truncated"], tapes)

    def _replay(self, i: int, tape: Tape) -> None:
        """Bring an environment to where a tape ends."""
        self.now[i] = None
        self.envs[i].reset(seed=tape.seed)
        for action in tape.actions[: tape.length]:
            self.envs[i].step(self.taken.value(action))

    def _listed(self, actions: Tensor) -> list[Any]:
        return actions.tolist() if self.taken.finite else list(actions.float().numpy())


def require_seeds(seeds: Any, batch: int) -> list[int]:
    """Return the seeds of B environments.

    Raises:
        WorldError: they are not so many whole numbers.
    """
    given = list(seeds) if isinstance(seeds, Sequence) else []
    if len(given) != batch or not all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in given):
        raise fault("rollout, seeds", f"{seeds!r}", f"{batch} whole numbers, at least 0, one for each copy")
    return given


def _name(env: Any) -> str:
    """Name an environment with its options, so that a run of another one is not taken up."""
    if not env.spec:
        return type(env.unwrapped).__name__
    return f"{env.spec.id}{_options_text(env.spec.kwargs)} of {env.spec.max_episode_steps} steps"


def _options_text(options: Mapping[str, Any]) -> str:
    return "".join(f" {name}={value!r}" for name, value in options.items())


def _environments(env: Any, batch: int) -> list[Any]:
    import gymnasium  # slow to import, and only black boxes need it

    if isinstance(env, gymnasium.vector.SyncVectorEnv):
        return [make() for make in env.env_fns]
    make: Callable[[], Any] = EnvironmentMaker(env) if isinstance(env, str) else env
    if not callable(make):
        seen = f"a {type(env).__name__}"
        raise fault("simulator, env", seen, "an id, a function that makes an environment, or a SyncVectorEnv")
    with user_code(f"environment '{make}'", "an installed id and its options"):
        environments = [make() for _ in range(batch)]
    if not isinstance(environments[0], gymnasium.Env):
        raise fault(
            "simulator, env",
            f"a function that makes a {type(environments[0]).__name__}",
            "one that makes an environment",
        )
    return environments
