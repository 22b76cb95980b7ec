"""Texts under a policy of a world of language: samples, log-probabilities, perplexity.

A policy is None (the reference), what ``cai.language.conditional`` returns, any cai ``Policy`` of the world, or what
has such a ``.policy``: messages, a learner's result. Tokens are whole numbers from 0 to V-1; else a ``WorldError``.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.language.own_policy import own_policy, said_next
from cai.language.text_world import TextWorld, require_generator, require_text_world, require_texts
from cai.learn.loop import require_whole


def log_next(world: TextWorld, policy: Any, t: int, state: Any) -> Float[Tensor, "*N V"]:
    """Return log π_t(token | state) of an ``own_policy``, nats."""
    with torch.no_grad():
        return world.log_tokens(state) if policy is None else said_next(policy, world, t, state)


def next_tokens(world: TextWorld, policy: Any, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N T V"]:
    """Return log π(x | prefix) of every token x after every prefix of texts, nats."""
    require_texts("next_tokens", world, tokens, 1, _longest(world, policy))
    policy = own_policy("next_tokens", world, policy)
    s, found = world.begin(*tokens.shape[:-1]), list[Tensor]()
    for t, x in enumerate(tokens.unbind(-1)):
        found.append(log_next(world, policy, t, s))
        s = world.append(s, x)
    return torch.stack(found, -2)


def log_prob(world: TextWorld, policy: Any, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N"]:
    """Return log π(text) = Σ_t log π_t(x_t | s_t), nats; what comes after the end token does not count."""
    require_texts("log_prob", world, tokens, 0, _longest(world, policy))
    policy = own_policy("log_prob", world, policy)
    s, total = world.begin(*tokens.shape[:-1]), torch.zeros(tokens.shape[:-1], dtype=torch.float64)
    for t, x in enumerate(tokens.unbind(-1)):
        each = log_next(world, policy, t, s).gather(-1, x.unsqueeze(-1)).squeeze(-1)
        total = total + torch.where(world.terminated(s), 0.0, each)
        s = world.append(s, x)
    return total


def perplexity(world: TextWorld, policy: Any, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N"]:
    """Return exp(-log π(text) / length), the end token counted, and nothing after it."""
    require_texts("perplexity", world, tokens, 1, _longest(world, policy))
    s, length = world.begin(*tokens.shape[:-1]), torch.zeros(tokens.shape[:-1], dtype=torch.float64)
    for x in tokens.unbind(-1):
        length = length + (~world.terminated(s)).double()
        s = world.append(s, x)
    return (-log_prob(world, policy, tokens) / length).exp()


def paid(world: TextWorld, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N"]:
    """Return the reward of whole texts, of T tokens each, reward units."""
    require_text_world("paid", world)
    require_texts("paid", world, tokens, world.horizon, world.horizon)
    s, total = world.begin(*tokens.shape[:-1]), torch.zeros(tokens.shape[:-1], dtype=torch.float64)
    for x in tokens.unbind(-1):
        total = total + world.pays(s, x)
        s = world.append(s, x)
    return total + world.terminal(s)


def sample(world: TextWorld, policy: Any, n: int, generator: torch.Generator) -> Int[Tensor, "n T"]:
    """Draw texts from a policy."""
    require_text_world("sample", world)
    require_whole("sample, n", n, 0)
    require_generator("sample", generator)
    policy = own_policy("sample", world, policy)
    s, tokens = world.begin(n), []
    for t in range(world.horizon):
        x = torch.multinomial(log_next(world, policy, t, s).exp(), 1, generator=generator).squeeze(-1)
        tokens.append(x)
        s = world.append(s, x)
    return torch.stack(tokens, -1)


def _longest(world: TextWorld, policy: Any) -> int | None:
    """Return the most tokens that a policy writes; the reference goes on."""
    return None if policy is None else getattr(world, "horizon", None)
