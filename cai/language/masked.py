"""masked: constrained decoding, the reference without the tokens from which no accepted text is left."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.language.automaton import Automaton
from cai.language.conditional import Conditional, conditional
from cai.language.text_world import TextWorld, require_text_world
from cai.language.token_policy import written
from cai.policies.protocol import scored
from cai.support.numerics import logsumexp


@dataclass(frozen=True)
class Masked:
    """π(x | prefix) ∝ p(x | prefix) 1[some accepted text begins with prefix x], a policy of its world.

    It never fails, but it is not the conditional: each token is renormalised by itself, blind to how likely acceptance
    is after it.

    Attributes:
        world: the world.
        possible: the conditional of the world that pays 0 for accepted texts and -inf for others.
    """

    world: TextWorld
    possible: Conditional

    act = written
    log_prob = scored

    def log_next(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return log π(x | state), nats; the reference's own where no accepted text is left."""
        kept = torch.where(self.possible.log_next(t, state) > -torch.inf, self.world.log_tokens(state), -torch.inf)
        return kept - logsumexp(kept, -1, keepdim=True)


def masked(world: TextWorld) -> Masked:
    """Return greedy masking (constrained decoding) in a world of language.

    A text is accepted where it ends in a state of the automaton with the highest final reward, without a reward of
    -inf on its way.

    Raises:
        WorldError: the world is none of language.
        ImpossibleError: no text is accepted.
    """
    require_text_world("masked", world)
    return Masked(world, conditional(world.under(_accepting(world.automaton))))


def _accepting(automaton: Automaton) -> Automaton:
    """Return the automaton that pays 0 for what is accepted and -inf for what is not."""
    never = torch.tensor(-torch.inf, dtype=torch.float64)
    reward = torch.where(automaton.reward > -torch.inf, 0.0, never)
    return replace(automaton, reward=reward, final=torch.where(automaton.final == automaton.final.max(), 0.0, never))
