"""Experience: what an actor went through in all copies: whole episodes, or the next few steps of each."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.errors import fault
from cai.learn.actor import Actor
from cai.learn.problem import require_finite
from cai.simulate.rollout import roll, spread, stacked
from cai.simulate.simulator import EnvState, Simulator, but_last, clock


@dataclass(frozen=True)
class Experience:
    """T steps of N copies, as actor and critic read them.

    Attributes:
        x, prior, code: what the actor's function and head read, and the actions, ``[T, N, …]``.
        states, next_states: s_t and s_{t+1}, ``[T, N, …]`` by variable.
        times: t, steps since the start of the episode, ``[T, N]``.
        rewards: reward units, ``[T, N]``.
        alive: whether the episode had not ended before the step, ``[T, N]``; the rest is nothing.
        acting: whether somebody acts: alive, and not absorbed on the way to a reward at T, ``[T, N]``.
        going: whether it goes on after the step, ``[T, N]``.
        worthless: whether nothing is paid after the step, so that V(s_{t+1}) = 0, ``[T, N]``.
        episodes: how many episodes these are; of parts of episodes, how many ended.
    """

    x: Tensor
    prior: Tensor
    code: Tensor
    states: Any
    next_states: Any
    times: Int[Tensor, "T N"]
    rewards: Float[Tensor, "T N"]
    alive: Bool[Tensor, "T N"]
    acting: Bool[Tensor, "T N"]
    going: Bool[Tensor, "T N"]
    worthless: Bool[Tensor, "T N"]
    episodes: int

    @property
    def start(self) -> Any:
        """s_0, ``[N, …]`` by variable, where episodes are whole."""
        return _taken(self.states, 0)

    @property
    def steps(self) -> int:
        """The number of environment steps."""
        return int(self.alive.sum())

    def rows(self, *others: Tensor) -> list[Tensor]:
        """Return x, prior, code and tensors ``[T, N, …]`` besides, one row for each action, ``[M, …]``."""
        return [part[self.acting] for part in (self.x, self.prior, self.code, *others)]


def whole_episodes(actor: Actor, theta: Tensor, group: int = 1) -> Experience:
    """Draw an episode in every copy, in groups from the same start; after its end nothing is paid.

    Raises:
        WorldError: a reward is not finite, or a group cannot have the same start.
    """
    simulator, seen = actor.simulator, list[tuple[Tensor, Tensor, Tensor]]()

    def choose(env_state: EnvState, t: int) -> Any:
        x, prior = actor.reads(env_state)
        code = actor.head.draw(actor.function(theta, x), prior)
        seen.append((x, prior, code))
        return actor.head.values(code)

    with torch.no_grad():
        rollout = roll(simulator, choose, start=same_starts(simulator, group))
    require_finite(rollout.rewards)
    T, N = rollout.rewards.shape
    x, prior, code = (spread(rollout.alive, part) for part in zip(*seen, strict=True))
    going = torch.cat((rollout.alive[1:], torch.zeros(1, N, dtype=torch.bool)))
    times = torch.arange(T).unsqueeze(-1).expand(T, N)
    states, alive = but_last(rollout.states), rollout.alive
    moves = (states, _but_first(rollout.states), times, rollout.rewards.to(theta.dtype))
    return Experience(x, prior, code, *moves, alive, _acting(simulator, states, alive), going, ~going, N)


def next_steps(actor: Actor, theta: Tensor, env_state: EnvState, length: int) -> tuple[EnvState, Experience]:
    """Take the next steps in every copy, a new episode after the end of one; return where that leads, too.

    After a time limit that is the environment's own, not the world's horizon, a value is to come.

    Raises:
        WorldError: a reward is not finite.
    """
    simulator, rows, states, next_states = actor.simulator, list[list[Tensor]](), list[Any](), list[Any]()
    horizon = simulator.horizon
    with torch.no_grad():
        for _ in range(length):
            x, prior = actor.reads(env_state)
            code = actor.head.draw(actor.function(theta, x), prior)
            after, reward = simulator.step(env_state, actor.head.values(code))
            require_finite(reward)
            worthless = after.terminated if horizon is None else after.terminated | (after.t >= horizon)
            times = clock(simulator, env_state)
            rows.append([x, prior, code, times, reward.to(theta.dtype), ~env_state.ended, ~after.ended, worthless])
            states.append(env_state.state)
            next_states.append(after.state)
            env_state = simulator.restart(after)
    x, prior, code, times, rewards, alive, going, worthless = (torch.stack(part) for part in zip(*rows, strict=True))
    ended = int((alive & ~going).sum())
    before = stacked(states)
    moves, acting = (before, stacked(next_states), times, rewards), _acting(simulator, before, alive)
    return env_state, Experience(x, prior, code, *moves, alive, acting, going, worthless, max(ended, 1))


def same_starts(simulator: Simulator, group: int) -> EnvState:
    """Start an episode in every copy; those of a group, one after the other, start in the same state.

    Raises:
        WorldError: an environment's starts differ; only it knows how to start.
    """
    start = simulator.begin()
    first = torch.arange(simulator.batch) // group * group
    state = _taken(start.state, first)
    if start.memory is None:
        return replace(start, state=state, terminated=start.terminated[first])
    if not _equal(state, start.state):
        raise fault("learner, group", "an environment with several start states", "a world, or one start state")
    return start


def _acting(simulator: Simulator, states: Any, alive: Tensor) -> Tensor:
    return alive if simulator.absorbing is None else alive & ~torch.as_tensor(simulator.absorbing(states))


def _but_first(states: Any) -> Any:
    return {name: value[1:] for name, value in states.items()} if isinstance(states, dict) else states[1:]


def _taken(state: Any, index: Tensor | int) -> Any:
    return {name: value[index] for name, value in state.items()} if isinstance(state, dict) else state[index]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(torch.equal(value, other[name]) for name, value in one.items())
    return torch.equal(one, other)
