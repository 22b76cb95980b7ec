"""The interface of policies, and what follows from it: samples, log-probabilities, a table of probabilities."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from jaxtyping import Float
from pyro.ops.indexing import Vindex
from pyro.poutine.messenger import Messenger
from torch import Tensor

from cai.errors import fault
from cai.support.numerics import logsumexp
from cai.world.distributions import Numbered, exact
from cai.world.program import Actor
from cai.world.spaces import Space, Values

Act = Callable[[Any, int], Any]
"""A program ``(state, t) -> action`` that samples the world's action sites."""


@runtime_checkable
class Policy(Protocol):
    """A policy has two methods: ``act`` samples the world's action sites in a program, ``log_prob`` scores an action.

    Everything else is a function of these two.
    """

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t given s_t, at the world's own action sites."""

    def log_prob(self, state: Any, action: Any, t: int = 0) -> Tensor:
        """Return log π_t(a|s), nats, of the broadcast shape of state and action."""


@runtime_checkable
class FinitePolicy(Policy, Protocol):
    """A policy over numbered states and actions: it has tables."""

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats; -inf for an action with probability 0."""

    def probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return π_t(a|s)."""


@runtime_checkable
class Tabulated(Protocol):
    """What has tables of log-probabilities."""

    def log_probs(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return log π_t(a|s), nats."""


def probabilities(policy: Tabulated, t: int = 0) -> Float[Tensor, "*B S A"]:
    """Return π_t(a|s)."""
    return policy.log_probs(t).exp()


def sampled(policy: Actor, state: Any, t: int = 0) -> Any:
    """Draw a_t given s_t, outside of any trace."""
    with pyro.poutine.block():
        return policy.act(state, t)


def scored(policy: Actor, state: Any, action: Any, t: int = 0) -> Tensor:
    """Return log π_t(a|s) = Σ log π(a_i|s, a_<i) over the action sites, nats (a density for continuous actions).

    Raises:
        WorldError: the action lacks a variable that the program samples.
    """
    reading = _ActionScore(action, t)
    with pyro.poutine.block(), pyro.validation_enabled(False), reading:
        policy.act(state, t)
    return reading.total


class _ActionScore(Messenger):
    """Sets every site to the given action, and adds up what the sites think of it."""

    def __init__(self, action: Values, t: int) -> None:
        super().__init__()
        self.action, self.t = action, t
        self.total = torch.zeros(())

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(self.action, Mapping) and msg["name"] not in self.action:
            where, seen = f"action, t = {self.t}", f"variables {sorted(self.action)}"
            raise fault(where, seen, f"a value for each action site, '{msg['name']}' too")
        msg["value"] = self.action[msg["name"]] if isinstance(self.action, Mapping) else self.action
        msg["done"] = True
        self.total = self.total + exact(msg["fn"]).log_prob(msg["value"])


def sample_joint(actions: Space, log_pi: Tensor) -> Values:
    """Sample the action variables one after the other from a joint ``log_pi [*, A]``: the chain rule on the table."""
    joint = log_pi.reshape(*log_pi.shape[:-1], *actions.sizes)
    names = actions.names
    chosen: dict[str, Tensor] = {}
    for n, (name, dtype) in enumerate(zip(names, actions.dtypes, strict=True)):
        rest = len(names) - n - 1
        logits = logsumexp(joint, tuple(range(-rest, 0))) if rest else joint
        if chosen:
            logits = Vindex(logits)[(Ellipsis, *(value.long() for value in chosen.values()), slice(None))]
        never = (logits == -torch.inf).all(-1, keepdim=True)  # any value, after a choice of probability 0
        logits = torch.where(never, 0.0, logits)
        chosen[name] = pyro.sample(name, Numbered(logits, dtype))
    return actions.pack(chosen)
