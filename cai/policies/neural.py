"""A network as a policy: it samples the world's action sites, each with a distribution from the network."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from cai.compile.table_model import Tables
from cai.errors import fault
from cai.policies.action_programs import enumerated, example, finite_spaces, variables_of
from cai.policies.fixed import FixedPolicy, prior_at
from cai.policies.heads import head, width
from cai.policies.protocol import Act, probabilities, sampled, scored
from cai.policies.readable import in_state
from cai.policies.tabular import STATIONARY
from cai.support.memory import require_room
from cai.world.distributions import exact
from cai.world.spaces import Variable
from cai.world.spec import Spec, read

Features = Callable[[Any, Any], Tensor]
"""A function ``(state, t) -> [*, F]``."""


class NeuralPolicy(nn.Module):
    """A policy with a network for each action variable, fed with state, time and the earlier action variables.

    A finite variable has ``π(a_i|s, a_<i) ∝ p(a_i|s, a_<i) exp(f_i(s, t, a_<i))``, a real one a Gaussian, one on an
    interval a tanh-Gaussian. The policy starts close to the prior, because the last layers start at zero.

    Args:
        world: a world, or its tables. States may be finite or continuous, one variable or many.
        hidden: the widths of the hidden layers.
        stationary: the policy does not depend on the time.
        features: a function ``(state, t) -> [*, F]`` whose result is the input in place of state and time.
        dtype: of the parameters.

    Raises:
        WorldError: an action variable's support is neither finite, nor real, nor an interval.
    """

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state

    def __init__(
        self,
        world: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        stationary: bool = False,
        features: Features | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not hidden or not all(isinstance(n, int) and n > 0 for n in hidden):
            raise fault("neural policy, hidden", f"{hidden}", "at least one width, each a whole number above 0")
        source = world if isinstance(world, Tables) else read(world)
        own = variables_of(source)
        self.spaces, self.states, self.actions, self.dtype = own.spaces, own.states, own.actions, dtype
        self.horizon = None if stationary else source.horizon
        self.prior, self.prior_is_timed = _prior(source)
        self.features = features
        width_of_features = 0 if features is None else int(features(example(source), 0).shape[-1])
        self.nets = nn.ModuleDict()
        for n, variable in enumerate(self.actions):
            seen = (*(self.states if features is None else ()), *self.actions[:n])
            first = First(seen, hidden[0], self.horizon if features is None else None, width_of_features)
            self.nets[variable.name] = nn.Sequential(first, *_layers(hidden, width(variable)))
        self.to(dtype)

    def act(self, state: Any, t: Any) -> Any:
        """Sample the action variables, each from its network's distribution."""
        with _Tilt(self, state, t):
            return self.prior(state, 0 if isinstance(t, Tensor) else t)  # all times at once: the prior is the same

    def log_table(self) -> Float[Tensor, "*T S A"]:
        """Return log π of all times at once, nats; without a T axis where the policy is stationary."""
        states, actions = finite_spaces(self.spaces)
        T = self.horizon
        if T is None and not self.prior_is_timed:
            return enumerated(self.act, states, actions, 0, self.dtype)
        if T is not None and not self.prior_is_timed and self.features is None:
            return enumerated(self.act, states, actions, torch.arange(T).unsqueeze(-1), self.dtype)
        return torch.stack([self.log_probs(t) for t in range(T or 1)])

    def log_probs(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats.

        Raises:
            IntractableError: states or actions are not finite, or too many for a table.
        """
        return enumerated(self.act, *finite_spaces(self.spaces), t, self.dtype)


class _Tilt(Messenger):
    """Replaces the distribution of every action site by its head on the network's numbers."""

    def __init__(self, policy: NeuralPolicy, state: Any, t: Any) -> None:
        super().__init__()
        self.policy, self.t, self.now = policy, t, ""
        self.heads = {variable.name: variable for variable in policy.actions}
        single = policy.states[0].name
        self.values: dict[str, Any] = dict(state) if isinstance(state, Mapping) else {single: state}
        if policy.features is not None:
            self.values["features"] = policy.features(state, t)

    def _pyro_sample(self, msg: Any) -> None:
        self.now = msg["name"]  # by the time it is sampled the trajectory has stamped its time on it
        if msg["name"] in self.heads:
            x = self.policy.nets[msg["name"]]({**self.values, "t": self.t})
            msg["fn"] = head(self.heads[msg["name"]], exact(msg["fn"]), x)

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.now in self.heads:
            self.values[self.now] = msg["value"]


class First(nn.Module):
    """The first layer: a row of a table for each finite value and each time, a linear map of all else; their sum."""

    def __init__(self, seen: Sequence[Variable], out: int, horizon: int | None, features: int) -> None:
        super().__init__()
        self.sizes = {variable.name: variable.size for variable in seen}
        self.finite = nn.ModuleDict(
            {f"of {variable.name}": nn.Embedding(variable.size, out) for variable in seen if variable.size}
        )
        real = {variable.name: max(1, variable.shape.numel()) for variable in seen if variable.size is None}
        self.real = nn.ModuleDict({f"of {name}": nn.Linear(n, out, bias=False) for name, n in real.items()})
        self.events = {variable.name: len(variable.shape) for variable in seen}
        self.features = nn.Linear(features, out, bias=False) if features else None
        rows = f"{out:,} parameters for each of T = {horizon or 0:,} times"
        require_room("neural policy", rows, (horizon or 0) * out * 8, STATIONARY)
        self.time = None if horizon is None else nn.Embedding(horizon, out)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, values: Mapping[str, Any]) -> Tensor:
        """Return the sum, ``[*, out]``."""
        total: Tensor = self.bias
        for name, size in self.sizes.items():
            if size is not None:
                total = total + self.finite[f"of {name}"](values[name].long())
            else:
                flat = values[name].flatten(-self.events[name]) if self.events[name] else values[name].unsqueeze(-1)
                total = total + self.real[f"of {name}"](flat.to(total.dtype))
        if self.features is not None:
            total = total + self.features(values["features"].to(total.dtype))
        if self.time is not None:
            total = total + self.time(torch.as_tensor(values["t"]))
        return total


def _layers(hidden: Sequence[int], out: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Tanh()]
    for before, after in pairwise(hidden):
        layers += [nn.Linear(before, after), nn.Tanh()]
    last = nn.Linear(hidden[-1], out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return [*layers, last]


def _prior(source: Spec | Tables) -> tuple[Act, bool]:
    """Return the program of the action prior, and whether it may differ over time."""
    if isinstance(source, Tables):
        return FixedPolicy(partial(prior_at, source), source.states, source.actions).act, source.timed
    return source.world.act, source.prior_is_timed
