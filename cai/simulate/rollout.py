"""rollout: thousands of trajectories at once, as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai.errors import fault
from cai.policies.as_policy import unwrapped
from cai.simulate.acting import Choose, chooser_of
from cai.simulate.environments import EnvironmentSimulator, with_options
from cai.simulate.simulator import EnvState, Simulator, by_variable, drawing
from cai.simulate.walks import Step, Walk, walk_of
from cai.simulate.worlds import WorldSimulator
from cai.support.memory import TENSOR, require_room
from cai.world.definition import World
from cai.world.spaces import Variables
from cai.world.spec import read

LONGEST = 100_000  # the most steps of an episode without a limit


@dataclass(frozen=True)
class Rollout:
    """B trajectories of at most T steps; T = 0 where all begin ended. After an end the state stays, and rewards are 0.

    Attributes:
        states: s_0 … s_T, ``[T+1, B, …]`` by variable.
        actions: a_0 … a_{T-1}, ``[T, B, …]`` by variable; anything at all where ``alive`` is False.
        rewards: r_0 … r_{T-1}, the terminal reward within the last, reward units, ``[T, B]``.
        alive: whether the episode had not ended before step t, ``[T, B]``.
        terminated: whether the world itself ended the episode, ``[B]``.
        truncated: whether a time limit cut it off, ``[B]``.
    """

    states: Any
    actions: Any
    rewards: Float[Tensor, "T B"]
    alive: Bool[Tensor, "T B"]
    terminated: Bool[Tensor, " B"]
    truncated: Bool[Tensor, " B"]

    @property
    def returns(self) -> Float[Tensor, " B"]:
        """Σ_t r_t of each trajectory, reward units."""
        return self.rewards.sum(0)

    @property
    def lengths(self) -> Tensor:
        """How many steps each trajectory took, ``[B]``."""
        return self.alive.sum(0)

    @property
    def steps(self) -> int:
        """How many environment steps were taken in all."""
        return int(self.alive.sum())


def rollout(
    world: Any,
    policy: Any = None,
    *,
    batch: int | None = None,
    generator: torch.Generator | None = None,
    max_steps: int | None = None,
    env_options: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
) -> Rollout:
    """Draw B trajectories of a policy: p̂(τ) = p(s_0) Π_t π_t(a_t|s_t) p(s_{t+1}|s_t, a_t).

    Args:
        world: a world, a Gymnasium id, a function that makes an environment, a ``SyncVectorEnv``, or a ``Simulator``.
        policy: an object with ``act(state, t)`` or ``sample(state, t)``, or with such a ``.policy`` (messages, a fit, a
            learner's result); None is the action prior.
        batch: B; as many as there are seeds, else 1000, unless given.
        generator: the random generator; torch's global one unless given.
        max_steps: stop every trajectory after so many steps; required where neither the world nor the environment ends.
        env_options: the options of an environment that is given by its id, ``{"is_slippery": False}``.
        seeds: with which each copy of an environment is reset, B of them; drawn unless given.

    Raises:
        WorldError: the world, the policy or an argument is not valid.
    """
    if batch is None:
        batch = len(seeds) if isinstance(seeds, Sequence) else 1000
    simulator = simulator_of(with_options(world, env_options), batch, seeds)
    actor = unwrapped("rollout, policy", policy)
    if actor is not None and not hasattr(actor, "act") and not hasattr(actor, "sample"):
        raise fault("rollout, policy", f"a {type(policy).__name__}", "a policy with sample(state, t), or None")
    if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
        raise fault("rollout, max_steps", f"{max_steps!r}", "a whole number, at least 1")

    source = generator or torch.default_generator
    seed = int(torch.randint(2**63 - 1, (), generator=source, dtype=torch.long))
    with torch.no_grad(), drawing(torch.Generator().manual_seed(seed).get_state()):
        return episodes(simulator, chooser_of(simulator, actor), max_steps)


def roll(simulator: Simulator, choose: Choose, max_steps: int | None = None, start: EnvState | None = None) -> Rollout:
    """Return ``episodes`` of at least one step, as learners need them.

    Raises:
        WorldError: every copy begins ended, or some episode does not end.
        IntractableError: the horizon is too large to store, and no episode ends before it.
    """
    found = episodes(simulator, choose, max_steps, start)
    if not len(found.alive):
        raise fault("roll-out", "a start state in which the episode has ended", "a start state that is not ended")
    return found


def episodes(
    simulator: Simulator, choose: Choose, max_steps: int | None = None, start: EnvState | None = None
) -> Rollout:
    """Run one episode in every copy, actions chosen by ``choose(env_state, t)``, until all have ended.

    It begins at ``start``, or where the simulator begins. Only copies that go on are chosen for and stepped:
    ``env_state.copies`` says which they are. Where policy and world are tables, they are stepped by number.

    Raises:
        WorldError: some episode does not end.
        IntractableError: the horizon is too large to store, and no episode ends before it.
    """
    begun = simulator.begin() if start is None else start
    limit = min((n for n in (simulator.horizon, max_steps) if n is not None), default=None)
    if simulator.endless:
        _require_end(limit)
    walk, moves = walk_of(simulator, choose, begun), list[Step]()
    while len(walk) and (limit is None or len(moves) < limit):
        if limit is None and len(moves) == LONGEST:
            expected = "an end: max_steps, a horizon, or a function that makes the environment with max_episode_steps"
            raise fault("roll-out", f"an episode of {LONGEST:,} steps that has not ended", expected)
        moves.append(walk.step(len(moves)))
    if not moves:
        return _without_steps(begun, choose(begun, 0), simulator.dtype)
    return _together(moves, walk)


def _without_steps(begun: EnvState, action: Any, dtype: torch.dtype) -> Rollout:
    """Return the roll-out of copies that all begin ended, T = 0; of an action there is only the shape."""
    never = torch.zeros(0, len(begun.t), dtype=torch.bool)
    states = by_variable(lambda x: x.unsqueeze(0), begun.state)
    actions = by_variable(lambda x: x.unsqueeze(0)[:0], action)
    return Rollout(states, actions, never.to(dtype), never, begun.terminated, ~begun.terminated)


def _together(moves: list[Step], walk: Walk) -> Rollout:
    """Return the steps of all times, and how each copy ended, as one roll-out."""
    copies, states, actions, rewards = zip(*moves, strict=True)
    last, terminated = walk.ends()
    lengths = torch.cat(copies).bincount(minlength=len(terminated))
    alive = torch.arange(len(moves)).unsqueeze(-1) < lengths
    whole = spread(torch.cat((alive, torch.ones_like(alive[:1]))), (*states, last), last)
    states, actions = walk.named(whole, spread(alive, actions))
    # What is not terminated is at the limit of the environment, of the world, or of the caller.
    return Rollout(states, actions, spread(alive, rewards), alive, terminated, ~terminated)


def spread(alive: Tensor, parts: Sequence[Any], rest: Any = None) -> Any:
    """Return what there is of the copies that go on at each time, as tensors ``[T, B, …]`` by variable.

    Args:
        alive: which copies go on, ``[T, B]``.
        parts: theirs, in their order, T of ``[≤ B, …]`` by variable.
        rest: what the others have at all times, ``[B, …]`` by variable; 0 unless given.
    """
    if bool(alive.all()):
        return stacked(list(parts))
    place = torch.from_numpy(np.flatnonzero(alive.numpy()))

    def whole(others: Tensor, *those: Tensor) -> Tensor:
        shape = (*alive.shape, *those[0].shape[1:])
        return others.expand(shape).clone().flatten(0, 1).index_copy_(0, place, torch.cat(those)).reshape(shape)

    return by_variable(whole, by_variable(lambda x: x.new_zeros(()), parts[0]) if rest is None else rest, *parts)


def _require_end(limit: int | None) -> None:
    if limit is None:
        raise fault("roll-out, max_steps", "none, on a world that never ends", "a whole number, at least 1")
    size = f"episodes of T = {limit:,} steps, four tensors each"
    require_room("roll-out", size, 4 * TENSOR * limit, "max_steps, or a shorter horizon")


def simulator_of(world: Any, batch: int, seeds: Sequence[int] | None = None) -> Simulator:
    """Return B copies of whatever can be simulated; ``seeds`` are those of an environment's first resets.

    Raises:
        WorldError: it is no world, environment or simulator, or there are seeds for what is no environment.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise fault("batch", f"{batch!r}", "a whole number, at least 1")
    own = isinstance(world, Simulator) or (isinstance(world, World) and not isinstance(world, type))
    if own and seeds is not None:
        raise fault("rollout, seeds", f"seeds for a {type(world).__name__}", "an environment; a world has generator=")
    if isinstance(world, Simulator):
        return world
    if isinstance(world, World) and not isinstance(world, type):
        return WorldSimulator(world, batch)
    return EnvironmentSimulator(world, batch, seeds)


def variables_simulated(world: Any) -> Variables:
    """Return the variables of whatever can be simulated; of an environment, as one copy shows them.

    Raises:
        WorldError: it is no world, environment or simulator.
    """
    if isinstance(world, World) and not isinstance(world, type):
        return read(world).variables
    return simulator_of(world, 1).variables


def stacked(values: list[Any]) -> Any:
    """Return states or actions of one time after the other as tensors, ``[T, …]`` by variable."""
    return by_variable(lambda *parts: torch.stack(parts), *values)
