"""What a learner sees of a world: Gymnasium's spaces, and the one code between them and the world's own variables."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pyro
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from cai.errors import fault, user_code
from cai.support.process import alone, precision
from cai.world.definition import World
from cai.world.spaces import Space, Values, Variable
from cai.world.spec import Spec, read


@dataclass(frozen=True)
class Encoding:
    """A world's states and actions, and the spaces in which a learner meets them.

    Attributes:
        spec: the world.
        observation_space, action_space: Gymnasium's.
        named: whether the world's action is a dict of variables.
        low, high: the interval of each continuous action number, float64, ``[D]``; empty where actions are finite.
    """

    spec: Spec
    observation_space: Any
    action_space: Any
    named: bool
    low: Float[Tensor, " D"]
    high: Float[Tensor, " D"]

    def observe(self, state: Values) -> Tensor:
        """Return what a learner sees of a batch of states: ``[*]`` in a Discrete space, ``[*, F]`` in any other."""
        space = self.observation_space
        seen = _numbers(self.spec, state)
        if isinstance(space, gymnasium.spaces.Box):
            return seen.to(torch.float32)
        return seen.long() if isinstance(space, gymnasium.spaces.MultiDiscrete) else seen[..., 0].long()

    def decode(self, action: Any) -> Values:
        """Return actions of the learner's space, one or a batch, as the world's program sees them."""
        array = np.asarray(action)
        batch = array.shape[: array.ndim - len(self.action_space.shape)]
        numbers = torch.as_tensor(array).reshape(*batch, -1)
        if len(self.low):  # the ends of a Box are rounded to float32, perhaps beyond the world's own
            numbers = torch.minimum(torch.maximum(numbers.to(self.low.dtype), self.low), self.high)
        return self.pack(self.split(numbers))

    def split(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return each action variable's part of the flat numbers ``[*, D]``, in its own shape and dtype."""
        parts = numbers.split([variable.shape.numel() for variable in self.spec.variables.actions], -1)
        batch = numbers.shape[:-1]
        pairs = zip(self.spec.variables.actions, parts, strict=True)
        return {variable.name: part.reshape((*batch, *variable.shape)).to(variable.dtype) for variable, part in pairs}

    def pack(self, values: dict[str, Tensor]) -> Values:
        """Return an action in the form the program speaks of: a dict, or one bare tensor."""
        return values if self.named else values[self.spec.variables.actions[0].name]


def encode(world: Any, where: str) -> Encoding:
    """Read off a world how a learner meets it.

    Finite variables are Discrete (one) or MultiDiscrete (several). States that are not, or that have ``features``, are
    a Box of float32; continuous actions a Box with the ends of the prior's interval.

    Args:
        world: the world.
        where: who asks, for the errors.

    Raises:
        WorldError: it is no world, ``features`` are no vector, or the actions fit none of Gymnasium's spaces.
    """
    if not isinstance(world, World):
        raise fault(
            f"{where}, world", f"a {type(world).__name__}", "a world: an object with initial, act, step, horizon"
        )
    with precision(torch.float64):
        spec = read(world)
        variables, state = spec.variables, spec.example
        named, low, high = _actions(world, variables.actions, state)
        with user_code(f"{where}, features", "code that gives a vector [*, F] for a batch of states"):
            seen = _numbers(spec, state)
    finite = variables.state_space is not None and spec.features is None
    if seen.dim() != 1:
        raise fault(f"{where}, features", f"shape {list(seen.shape)} for one state", "a vector [F]")
    observed = (
        _numbered(variables.states) if finite else gymnasium.spaces.Box(-np.inf, np.inf, tuple(seen.shape), np.float32)
    )
    acted = _numbered(variables.actions) if variables.action_space is not None else _box(low, high)
    return Encoding(spec, observed, acted, named, low, high)


def _numbers(spec: Spec, state: Values) -> Tensor:
    """Return a batch of states as vectors ``[*, F]``: the world's features, or its variables one after the other."""
    variables, values = spec.variables.states, spec.variables.state_values(state)
    batch = spec.variables.batch_of(state)
    spread = {variable.name: values[variable.name].expand((*batch, *variable.shape)) for variable in variables}
    if spec.features is not None:
        features: Tensor = spec.features(spread if isinstance(state, dict) else spread[variables[0].name])
        return features
    return torch.cat([value.reshape((*batch, -1)).to(torch.float64) for value in spread.values()], -1)


def _numbered(variables: tuple[Variable, ...]) -> Any:
    sizes = [variable.size for variable in variables if variable.size is not None]
    return gymnasium.spaces.Discrete(sizes[0]) if len(sizes) == 1 else gymnasium.spaces.MultiDiscrete(sizes)


def _box(low: Tensor, high: Tensor) -> Any:
    return gymnasium.spaces.Box(low.numpy().astype(np.float32), high.numpy().astype(np.float32), dtype=np.float32)


def _actions(world: Any, variables: tuple[Variable, ...], state: Values) -> tuple[bool, Tensor, Tensor]:
    """Return whether the action is a dict, and the interval of each of its continuous numbers, ``[D]``."""
    finite = [variable.name for variable in variables if variable.size is not None]
    if finite and len(finite) < len(variables):
        seen = f"finite variables {finite} beside continuous ones"
        raise fault("act, t = 0", seen, "actions of one kind, which a learner's action space can hold")
    with alone(), torch.random.fork_rng(devices=[]), pyro.poutine.block():
        prior = pyro.poutine.trace(world.act).get_trace(state, 0)
    named = isinstance(prior.nodes["_RETURN"]["value"], dict)
    ends = [] if finite else [_ends(variable, prior.nodes[variable.name]["fn"].support) for variable in variables]
    low, high = (torch.cat(side) if side else torch.zeros(0) for side in ([e[0] for e in ends], [e[1] for e in ends]))
    return named, low.double(), high.double()


def _ends(variable: Variable, support: Any) -> tuple[Tensor, Tensor]:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    sides = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    if support is not constraints.real and sides == [None, None]:
        expected = "a prior on finitely many values, the reals, or an interval"
        raise fault(f"act, variable '{variable.name}'", f"a prior on {support}", expected)
    ends = [
        torch.as_tensor(far if end is None else end) for end, far in zip(sides, (-torch.inf, torch.inf), strict=True)
    ]
    low, high = (end.double().expand(variable.shape).reshape(-1) for end in ends)
    return low, high


def allowed_values(allowed: Tensor, actions: Space) -> Tensor:
    """Return from which values of each variable an allowed joint action can be made, ``[*, M]``."""
    n = len(actions.sizes)
    if n == 1:
        return allowed
    joint = allowed.reshape(*allowed.shape[:-1], *actions.sizes)
    return torch.cat([joint.movedim(i - n, -n).flatten(-n + 1).any(-1) for i in range(n)], -1)
