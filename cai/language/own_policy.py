"""A policy of texts reads the states of its own world: in another the same number stands for another prefix."""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.errors import fault, user_code
from cai.language.language_world import LanguageWorld
from cai.language.text_world import TextWorld
from cai.policies.as_policy import unwrapped

EXACT = 1e-5
"""By so much, nats, probabilities may fail to sum to 1: a network's are in single precision."""


def own_policy(where: str, world: TextWorld, policy: Any) -> Any:
    """Return a policy of a world of language, None for the reference, out of what has such a ``.policy``.

    Raises:
        WorldError: it is a policy of another world, or for another horizon.
    """
    policy = unwrapped(f"{where}, policy", policy)
    other, spaces, horizon = (getattr(policy, name, None) for name in ("world", "spaces", "horizon"))
    if hasattr(type(other), "log_tokens"):
        differs = _difference(world, other)
    elif spaces is not None:
        differs = _other_spaces(world, *spaces)
    else:
        differs = None
    if differs is None and horizon not in (None, world.horizon):
        differs = f"T = {horizon}"
    if differs is not None:
        V, T = len(world.vocabulary), world.horizon
        expected = f"one of this world: a {type(world).__name__} of {V} tokens, T = {T}, with the same states"
        raise fault(f"{where}, policy", f"a policy of another world: {differs}", expected)
    return policy


def said_next(policy: Any, world: TextWorld, t: int, state: Any) -> Float[Tensor, "*N V"]:
    """Return log π_t(token | state) of a policy, nats, checked.

    Raises:
        WorldError: the policy fails, or says something else than a distribution of the next token.
    """
    where, shape = f"policy, t = {t}", (*world.terminated(state).shape, len(world.vocabulary))
    expected = f"log-probabilities of the next token, of shape {list(shape)}"
    with user_code(where, f"a policy of this world's states, {expected}"):
        found = _asked(policy, t, state, shape)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        raise fault(where, f"shape {list(found.shape)}" if isinstance(found, Tensor) else f"{found!r:.40}", expected)
    total = found.logsumexp(-1)
    wrong = ~(total.abs() <= EXACT)
    if bool(wrong.any()):
        raise fault(where, f"probabilities that sum to {float(total[wrong][0].exp()):.6g}", "a sum of 1")
    return found


def _asked(policy: Any, t: int, state: Any, shape: tuple[int, ...]) -> Any:
    if callable(getattr(policy, "log_next", None)):
        return policy.log_next(t, state)
    if isinstance(state, Tensor) and hasattr(policy, "log_probs"):
        return policy.log_probs(t)[state]
    if not hasattr(policy, "act") or not hasattr(policy, "log_prob"):
        expected = "None, a conditional, a policy with act and log_prob, messages, or a learner's result"
        raise fault("texts, policy", f"a {type(policy).__name__}", expected)
    tokens = torch.arange(shape[-1]).reshape((-1,) + (1,) * (len(shape) - 1))
    return policy.log_prob(state, tokens, t).double().expand(-1, *shape[:-1]).movedim(0, -1)


def _difference(world: TextWorld, other: Any) -> str | None:
    """Say how two worlds differ in what a policy reads; None where they do not."""
    if world is other:
        return None
    if type(world) is not type(other):
        return f"a {type(other).__name__}"
    if world.vocabulary != other.vocabulary:
        return f"{len(other.vocabulary)} tokens" if len(other.vocabulary) != len(world.vocabulary) else "other tokens"
    if world.horizon != other.horizon:
        return f"T = {other.horizon}"
    if world.end != other.end:
        return "no end token" if other.end is None else f"the end token {other.end!r}"
    if isinstance(world, LanguageWorld) and isinstance(other, LanguageWorld):
        # the same next states from the same start: each prefix leads to the same state
        return None if torch.equal(world.successor, other.successor) else f"{other.size} states of other prefixes"
    if not _same(getattr(world, "reference", None), getattr(other, "reference", None)):
        return "another reference"
    same = world.automaton.start == other.automaton.start
    return None if same and torch.equal(world.automaton.successor, other.automaton.successor) else "another automaton"


def _same(one: Any, other: Any) -> bool:
    """Return whether two references are the same, field by field."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if not is_dataclass(one):
        return bool(one == other)
    return all(_same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one) if each.compare)


def _other_spaces(world: TextWorld, states: Any, actions: Any) -> str | None:
    """Say how the numbered states and actions of a policy differ from a world's; None where they do not."""
    for space, name in ((states, "state"), (actions, "token")):
        if space.names != (name,):
            return f"it reads {', '.join(space.names)}"
    if not isinstance(world, LanguageWorld):
        return f"it reads numbered states, {states.size} of them"
    if actions.size != len(world.vocabulary):
        return f"{actions.size} tokens"
    if states.size != world.size:
        return f"{states.size} states"
    named = states.labels[0] if states.labels else None
    own = world.labels.get("state")
    return None if named is None or own is None or list(named) == list(own) else "states of other prefixes"
