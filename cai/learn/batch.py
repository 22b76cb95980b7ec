"""A fixed batch of transitions (s, a, r, s'): taken out of roll-outs, given by hand, or drawn from the prior."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cai.errors import fault, user_code
from cai.learn.functions import part
from cai.simulate.acting import prior_action
from cai.simulate.rollout import Rollout
from cai.simulate.simulator import NEVER, Simulator
from cai.world.spaces import Variable


@dataclass(frozen=True, repr=False)
class Transitions:
    """N transitions, in any order and from any policy; tensors or NumPy arrays.

    Attributes:
        states: s, ``[N, …]``, or a dict of them for a world of several variables.
        actions: a, ``[N, …]``, likewise.
        rewards: r, reward units, ``[N]``; the last reward of an episode includes the terminal reward.
        next_states: s', like ``states``.
        terminated: whether the episode ended after this step, so that V(s') = 0, ``[N]``. A time limit does not count.
        times: t, steps since the start of the episode, ``[N]``; all 0 is enough if slices do not differ over time.
    """

    states: Any
    actions: Any
    rewards: Any
    next_states: Any
    terminated: Any
    times: Any

    def __len__(self) -> int:
        return len(self.rewards)

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for tensor in _tensors(self).values():
            digest.update(np.asarray(tensor).tobytes())
        return f"Transitions({len(self):,}, {digest.hexdigest()[:16]})"

    def where(self, mask: Tensor) -> "Transitions":
        """Return the transitions of a mask, ``[N]``."""
        return self if bool(mask.all()) else Transitions(*(_map(lambda x: x[mask], value) for value in _values(self)))


def transitions(*rollouts: Rollout) -> Transitions:
    """Collect the transitions of roll-outs, of one policy or of several, up to the end of each episode.

    Args:
        rollouts: of one world; see ``cai.rollout``.

    Raises:
        WorldError: there is none.
    """
    if not rollouts or not all(isinstance(rollout, Rollout) for rollout in rollouts):
        seen = ", ".join(type(rollout).__name__ for rollout in rollouts) or "none"
        raise fault("transitions, rollouts", seen, "one roll-out or more, as cai.rollout draws them")
    return together([_taken(rollout) for rollout in rollouts])


def together(parts: list[Transitions]) -> Transitions:
    """Return all the transitions of several batches."""
    return Transitions(*(_cat(list(values)) for values in zip(*map(_values, parts), strict=True)))


def drawn(simulator: Simulator, steps: int) -> Transitions:
    """Draw N = ``steps`` transitions from the action prior, an episode after the other in every copy."""
    env_state, parts, left = simulator.begin(), list[Transitions](), steps
    while left > 0:
        going = ~env_state.ended
        if not bool(going.any()):
            raise fault(
                "transitions", "a start state in which the episode has ended", "a start state that is not ended"
            )
        t = int(env_state.t[going][0]) if simulator.timed else 0  # running episodes are all at the same time
        action = prior_action(simulator, env_state.state, t)
        after, reward = simulator.step(env_state, action)
        batch = Transitions(env_state.state, action, reward, after.state, after.terminated, env_state.t).where(going)
        parts.append(batch.where(torch.arange(len(batch)) < left))
        left -= len(batch)
        env_state = simulator.restart(after)
    return together(parts)


def checked(simulator: Simulator, data: Transitions) -> Transitions:
    """Return a user's transitions as tensors in the world's own dtypes.

    Raises:
        WorldError: a field has not its shape or its values.
    """
    with user_code("data, rewards", "numbers, [N]"):
        rewards = torch.as_tensor(data.rewards).to(torch.get_default_dtype())
    if rewards.dim() != 1 or not len(rewards):
        raise fault("data, rewards", f"shape {[*rewards.shape]}", "[N], N at least 1")
    if bool((rewards.isnan() | (rewards == torch.inf)).any()):
        raise fault("data, rewards", "NaN or inf", "numbers, or -inf for a forbidden reward")
    n, states, actions = len(rewards), simulator.variables.states, simulator.variables.actions
    horizon = 2**31 if simulator.horizon is None else simulator.horizon
    return Transitions(
        _checked("states", states, data.states, n),
        _checked("actions", actions, data.actions, n),
        rewards,
        _checked("next_states", states, data.next_states, n),
        _whole("data, terminated", data.terminated, torch.Size([n]), 2).bool(),
        _whole("data, times", data.times, torch.Size([n]), horizon),
    )


def to_values(data: Transitions) -> dict[str, Tensor]:
    """Return transitions as tensors by name, as a learner's state holds them."""
    return {f"data.{name}": tensor for name, tensor in _tensors(data).items()}


def of_values(values: Mapping[str, Tensor]) -> Transitions:
    """Return the transitions that a learner's state holds."""
    data = part(values, "data")
    return Transitions(*(data.get(field.name, part(data, field.name)) for field in fields(Transitions)))


def _taken(rollout: Rollout) -> Transitions:
    alive, n = rollout.alive, len(rollout.rewards)
    goes_on = torch.cat([alive[1:], torch.zeros_like(alive[:1])])
    times = torch.arange(n).unsqueeze(1).expand_as(alive)
    every = (
        _map(lambda s: s[:-1], rollout.states),
        rollout.actions,
        rollout.rewards,
        _map(lambda s: s[1:], rollout.states),
        ~goes_on & rollout.terminated,
        times,
    )
    return Transitions(*(_map(lambda x: x[alive], value) for value in every))


def _checked(name: str, variables: tuple[Variable, ...], data: Any, n: int) -> Any:
    wanted = [variable.name for variable in variables]
    if isinstance(data, dict) and sorted(data) != sorted(wanted):
        raise fault(f"data, {name}", f"variables {sorted(data)}", f"{wanted}")
    if not isinstance(data, dict) and len(variables) > 1:
        raise fault(f"data, {name}", f"a {type(data).__name__}", f"a dict of the variables {wanted}")
    values = {}
    for variable in variables:
        where, shape = f"data, {name}, variable '{variable.name}'", torch.Size([n, *variable.shape])
        value = data[variable.name] if isinstance(data, dict) else data
        if variable.size is not None:
            values[variable.name] = _whole(where, value, shape, variable.size).to(variable.dtype)
        else:
            with user_code(where, f"numbers, {[*shape]}"):
                values[variable.name] = _shaped(where, torch.as_tensor(value), shape).to(variable.dtype)
    return values if isinstance(data, dict) else values[wanted[0]]


def _whole(where: str, data: Any, shape: torch.Size, size: int) -> Tensor:
    with user_code(where, f"whole numbers, {[*shape]}"):
        value = _shaped(where, torch.as_tensor(data), shape)
    wrong = (value < 0) | (value >= min(size, NEVER)) | (value != value.long())
    if bool(wrong.any()):
        raise fault(where, f"{value[wrong][0].item()}", f"a whole number from 0 to {size - 1}")
    return value.long()


def _shaped(where: str, value: Tensor, shape: torch.Size) -> Tensor:
    if value.shape != shape:
        raise fault(where, f"shape {[*value.shape]}", f"{[*shape]}")
    return value


def _values(data: Transitions) -> list[Any]:
    return [getattr(data, field.name) for field in fields(data)]


def _tensors(data: Transitions) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for field in fields(data):
        value = getattr(data, field.name)
        inside = value.items() if isinstance(value, dict) else [(None, value)]
        tensors |= {field.name if name is None else f"{field.name}.{name}": x for name, x in inside}
    return tensors


def _map(function: Any, value: Any) -> Any:
    return {name: function(x) for name, x in value.items()} if isinstance(value, dict) else function(value)


def _cat(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: torch.cat([piece[name] for piece in parts]) for name in parts[0]}
    return torch.cat(parts)
