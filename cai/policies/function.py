"""Any function of state and time as a policy."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cai.compile.ends import ended_states
from cai.compile.model import Model, is_finite
from cai.errors import fault, user_code
from cai.policies.action_programs import enumerated, finite_spaces, variables_of
from cai.policies.protocol import probabilities, sample_joint, sampled, scored
from cai.policies.readable import in_state
from cai.policies.terminated import pad_terminated, replace_terminated
from cai.support.numerics import log
from cai.support.process import precision
from cai.world.definition import World
from cai.world.spaces import Space, Values
from cai.world.spec import Spec, read

MANY = 100_000_000
REAL = "a distribution of the action; of an action that is certain, pyro.distributions.Delta(action)"
FORMS = "a function (state, t) -> probabilities [*, A], a distribution, or a dict of distributions by variable"


class FunctionPolicy(nn.Module):
    """A policy given by a function ``(state, t)``; if the function is a torch module, its parameters can be fitted.

    The function gives probabilities ``[*, A]`` of the numbered actions, a Pyro distribution of the one action
    variable, or a dict of distributions by variable, sampled in the world's order. It is called on a batch of states;
    where states are finite, ended ones are left out.

    Args:
        world: a world, or what it was compiled to.
        function: the function.
        dtype: of its tables.

    Raises:
        WorldError: the function raises an error or returns something else.
    """

    probs = probabilities
    sample = sampled
    log_prob = scored
    at = in_state

    def __init__(self, world: World | Model, function: Callable[..., Any], *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        source = read(world) if isinstance(world, World) else world
        own = variables_of(source)
        self.function = function
        self.names = tuple(variable.name for variable in own.actions)
        self.variables, self.spaces, self.actions = own, own.spaces, own.action_space
        self.space = own.state_space
        self.dtype = dtype or (torch.float64 if isinstance(source, Spec) else source.dtype)
        self.horizon = None
        self.ended = _ended(source)
        self.replacements = replace_terminated(self.ended)

    def act(self, state: Any, t: int) -> Any:
        """Sample the action variables from the function's distributions."""
        law = self._call(state, t)
        if isinstance(law, Tensor):
            return sample_joint(*self._rows(law, state, t))
        if isinstance(law, Mapping):
            missing = [name for name in self.names if name not in law]
            if missing:
                raise fault(f"policy, t = {t}", f"a dict of {sorted(law)}", f"each of {list(self.names)}")
            return {name: pyro.sample(name, law[name]) for name in self.names}
        if len(self.names) > 1 or not hasattr(law, "log_prob"):
            raise fault(f"policy, t = {t}", f"a {type(law).__name__}", FORMS)
        own = self.variables.actions[0].shape
        if law.event_shape != own:
            seen = f"a distribution of events of shape {list(law.event_shape)}"
            raise fault(f"policy, t = {t}, variable '{self.names[0]}'", seen, f"shape {list(own)}{_to_event(own)}")
        return pyro.sample(self.names[0], law)

    def log_probs(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return log π_t(a|s), nats.

        Raises:
            IntractableError: states or actions are not finite.
            WorldError: the function returns no probabilities.
        """
        states, actions = finite_spaces(self.spaces)
        with precision(self.dtype):
            law = self._call(states.pack(states.split(torch.arange(states.size))), t)
            if hasattr(law, "log_prob") or isinstance(law, Mapping):
                return enumerated(self.act, states, actions, t, self.dtype)
            law = pad_terminated(self.ended, law) if isinstance(law, Tensor) else law
            return log(checked(states, actions, law, t, self.dtype))

    def _rows(self, probs: Tensor, state: Values, t: int) -> tuple[Space, Tensor]:
        """Return the actions and log π, ``[*, A]``, for the batch of states at hand."""
        if self.actions is None:
            raise fault(f"policy, t = {t}", "a tensor, where actions are real numbers", REAL)
        A = self.actions.size
        if probs.dim() == 0 or probs.shape[-1] != A:
            raise fault(f"policy, t = {t}", f"shape {list(probs.shape)}", f"probabilities of shape [*, {A}]")
        batch = torch.broadcast_shapes(self.variables.batch_of(state), probs.shape[:-1])
        return self.actions, log(proper(f"policy, t = {t}", probs, (*batch, A)))

    def _call(self, state: Values, t: int) -> Any:
        if self.replacements is not None and self.space is not None:
            number = self.space.join(self.space.unpack(state))
            state = self.space.pack(self.space.split(self.replacements[number]))
        with user_code(f"policy, t = {t}", FORMS):
            return self.function(state, t)


def _ended(source: Spec | Model) -> Tensor | None:
    """Return in which of finitely many states an episode has ended; None where nothing ends, or they are too many."""
    if not isinstance(source, Spec):
        return source.ended if is_finite(source) else None
    states = source.variables.state_space
    return ended_states(source) if states is not None and states.size <= MANY else None


def _to_event(shape: torch.Size) -> str:
    return f": .to_event({len(shape)}) makes it one draw" if shape else ""


def proper(where: str, probs: Any, shape: tuple[int, ...], states: Space | None = None) -> Tensor:
    """Return probabilities of actions, expanded to a shape ``[*, A]``; ``states`` names the rows in errors.

    Raises:
        WorldError: they are none, or have another shape.
    """
    if not isinstance(probs, Tensor):
        raise fault(where, f"a {type(probs).__name__}", f"a tensor of probabilities of shape {list(shape)}")
    if probs.is_complex():
        raise fault(where, "complex probabilities", "real ones")
    try:
        rows = probs.expand(shape)
    except RuntimeError:
        raise fault(where, f"shape {list(probs.shape)}", f"probabilities of shape {list(shape)}") from None
    total = probs.sum(-1)
    wrong = (((total - 1).abs() > 1e-5) | (probs < 0).any(-1) | total.isnan()).expand(shape[:-1])
    if bool(wrong.any()):
        first = wrong.nonzero()[0]
        seen = f"probabilities {[round(p, 6) for p in rows[tuple(first)].tolist()]}"
        seen += "" if states is None else f" at {states.label(int(first[-1]))}"
        raise fault(where, seen, "numbers at least 0 that sum to 1; of action values cai.from_q makes a policy")
    return rows


def checked(states: Space, actions: Space, probs: Any, t: int, dtype: torch.dtype) -> Float[Tensor, "S A"]:
    """Return a table of probabilities in the dtype, normalised there; see ``proper``."""
    exact = proper(f"policy, t = {t}", probs, (states.size, actions.size), states).to(dtype)
    return exact / exact.sum(-1, keepdim=True)
