"""Why no text can be written that an automaton accepts: it is too short, or the reference never says what is needed."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cai.errors import ImpossibleError
from cai.language.automaton import Automaton

SHOWN = 5
"""The most tokens that are named."""


def require_possible(world: Any) -> None:
    """Raise an ``ImpossibleError`` where each text of a language world has probability 0 or the reward -inf.

    Where nothing pays -inf, some text is always possible.
    """
    forbidden = world.reward == -torch.inf
    if bool((world.final > -torch.inf).all()) and not bool(forbidden.any()):
        return
    said = (world.log_next > -torch.inf) & ~forbidden
    if not bool(_possible(said, world.successor, world.final > -torch.inf, world.horizon)[0]):
        raise ImpossibleError(f"language_world, {world.automaton.name}: {_reason(world)}")


def _possible(
    allowed: Bool[Tensor, "S V"], successor: Int[Tensor, "S V"], ends: Bool[Tensor, " S"], horizon: int
) -> Bool[Tensor, " S"]:
    """Return from which states a text of so many tokens can be written to its end."""
    can = ends
    for _ in range(horizon):
        before, can = can, (allowed & can[successor]).any(-1)
        if bool((before == can).all()):
            break
    return can


def _reason(world: Any) -> str:
    """Say what stands in the way: the length, or tokens that the reference never says where they are needed."""
    automaton: Automaton = world.automaton
    allowed, ends = automaton.reward > -torch.inf, automaton.final > -torch.inf
    if world.end is not None:
        allowed[:, automaton.vocabulary.number[world.end]] = False
    distance = _distance(automaton, allowed, ends)
    length = f"{world.horizon} token{'s' * (world.horizon > 1)}"
    shortest = distance[automaton.start]
    if shortest == torch.inf:
        return "it accepts no text at all"
    if shortest > world.horizon:
        return f"it accepts no text of {length}; the shortest that it accepts has {int(shortest)}"
    if world.end is None and not bool(_possible(allowed, automaton.successor, ends, world.horizon)[automaton.start]):
        return f"it accepts no text of exactly {length}; the shortest that it accepts has {int(shortest)}"
    nearest = world.place[distance[world.place].argmin()]
    needed = allowed[nearest] & (distance[automaton.successor[nearest]] < distance[nearest])
    tokens = [repr(automaton.vocabulary.tokens[x]) for x in needed.nonzero().flatten().tolist()]
    if not tokens:
        return f"each text of {length} that it accepts has probability 0 under the reference"
    some = " or ".join(tokens[:SHOWN]) + " or …" * (len(tokens) > SHOWN)
    return f"after '{automaton.labels[nearest]}' it needs {some}, which the reference never says there"


def _distance(automaton: Automaton, allowed: Bool[Tensor, "Q V"], ends: Bool[Tensor, " Q"]) -> Tensor:
    """Return how many tokens are missing, at least, to a text that is accepted."""
    distance = torch.where(ends, 0.0, torch.inf)
    for _ in range(len(automaton)):
        ahead = torch.where(allowed, distance[automaton.successor], torch.inf).amin(-1)
        distance = torch.minimum(distance, 1 + ahead)
    return distance
