"""Texts under a policy of a language world: samples, and their log-probabilities."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.language.language_world import LanguageWorld


def log_next(world: LanguageWorld, policy: Any, t: int, state: Int[Tensor, "*N"]) -> Float[Tensor, "*N V"]:
    """Return log π_t(token | state), nats."""
    with torch.no_grad():
        found: Tensor = policy.log_probs(t)[state]
    return found


def log_prob(world: LanguageWorld, policy: Any, tokens: Int[Tensor, "*N T"]) -> Float[Tensor, "*N"]:
    """Return log π(text) = Σ_t log π_t(x_t | s_t), nats; what comes after the end token does not count."""
    states = world.along(tokens)
    total = torch.zeros(tokens.shape[:-1], dtype=torch.float64)
    for t, x in enumerate(tokens.unbind(-1)):
        s = states[..., t]
        each = log_next(world, policy, t, s).gather(-1, x.unsqueeze(-1)).squeeze(-1)
        total = total + torch.where(world.terminated(s), 0.0, each)
    return total


def sample(world: LanguageWorld, policy: Any, n: int, generator: torch.Generator) -> Int[Tensor, "n T"]:
    """Draw texts from a policy."""
    s, tokens = torch.zeros(n, dtype=torch.long), []
    for t in range(world.horizon):
        x = torch.multinomial(log_next(world, policy, t, s).exp(), 1, generator=generator).squeeze(-1)
        tokens.append(x)
        s = world.successor[s, x]
    return torch.stack(tokens, -1)
