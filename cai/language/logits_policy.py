"""from_logits: any function from token prefixes to logits is a policy of a world that remembers tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import fault, user_code
from cai.language.language_world import LanguageWorld
from cai.language.remembering import NONE
from cai.language.text_world import TextWorld, require_text_world
from cai.language.token_policy import written
from cai.learn.loop import require_whole
from cai.policies.protocol import scored

Logits = Callable[[Int[Tensor, "N t"]], Float[Tensor, "N V"]]
"""Tokens of N prefixes of one length -> logits of the next one."""


@dataclass(frozen=True)
class LogitsPolicy:
    """π(x | prefix) = softmax f(the last k tokens of the prefix), the oldest first.

    The function is called anew each time, so that a network may be trained in between. Where the reference's world
    lists its states, the policy has a table and every exact account; else it is sampled.

    Attributes:
        function: f.
        world: a world of a ``Remembering`` reference.
        context: k, at most what the world remembers.
    """

    function: Logits
    world: TextWorld
    context: int

    act = written
    log_prob = scored

    def log_next(self, t: int, state: Any) -> Float[Tensor, "*N V"]:
        """Return log π(x | state), nats; after the end all tokens are equally likely."""
        recent = self.world.recent(state)[..., -self.context :]
        flat, V = recent.reshape(-1, recent.shape[-1]), len(self.world.vocabulary)
        found = torch.full((len(flat), V), 1 / V, dtype=torch.float64).log()
        length = torch.where(self.world.terminated(state).reshape(-1), NONE, (flat != NONE).sum(-1))
        for n in length[length != NONE].unique().tolist():
            found[length == n] = self._log_probs(flat[length == n][:, flat.shape[-1] - n :])
        return found.reshape((*recent.shape[:-1], V))

    def log_probs(self, t: int = 0) -> Float[Tensor, "S V"]:
        """Return log π(x | state) in all states, nats.

        Raises:
            WorldError: the world does not list its states.
        """
        if not isinstance(self.world, LanguageWorld):
            seen = f"a {type(self.world).__name__}, which does not list its states"
            raise fault("from_logits, log_probs", seen, "a world of cai.language_world(Remembering(…), …)")
        return self.log_next(t, torch.arange(self.world.size))

    def probs(self, t: int = 0) -> Float[Tensor, "S V"]:
        """Return π(x | state) in all states."""
        return self.log_probs(t).exp()

    def _log_probs(self, prefixes: Int[Tensor, "N t"]) -> Float[Tensor, "N V"]:
        N, V = len(prefixes), len(self.world.vocabulary)
        where = f"from_logits, prefixes of {prefixes.shape[-1]} tokens"
        with user_code(where, "a function from tokens [N, t] to logits [N, V]"):
            logits = self.function(prefixes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (N, V):
            seen = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise fault(where, seen, f"logits of shape [N, V] = [{N}, {V}]")
        found = logits.double().log_softmax(-1)
        if bool(found.isnan().any()):
            raise fault(where, "logits that are NaN, +inf, or -inf for all tokens", "numbers, or -inf for some tokens")
        return found


def from_logits(function: Logits, world: TextWorld, *, context: int | None = None) -> LogitsPolicy:
    """Return the policy of any function from token prefixes ``[N, t]`` to logits ``[N, V]``: a neural net, say.

    The function is called with all prefixes of one length, t from 0 to k; a net that needs a token to begin with puts
    its own before them. A net that reads whole prefixes is measured exactly in a world that remembers k ≥ T-1 tokens;
    with a smaller k the policy is the net on the last k tokens. In float32 a net's logits depend a little on how many
    prefixes are asked at once: a net in float64 gives the same number by every road.

    Args:
        function: of the numbers of tokens; the vocabulary's order is the order of the logits.
        world: ``cai.language_world(cai.language.Remembering(reference, k), …)``, which lists the memories that texts
            reach, so that ``cai.evaluate`` is exact; or a ``cai.language.PrefixWorld`` where they are too many.
        context: k, how many tokens the function reads; what the world remembers unless given.

    Raises:
        WorldError: the world remembers no tokens, or fewer than the context.
    """
    require_text_world("from_logits", world)
    if not callable(function):
        seen = f"a {type(function).__name__}"
        raise fault("from_logits, function", seen, "a function from tokens [N, t] to logits [N, V]")
    most = int(world.recent(world.begin()).shape[-1])
    return LogitsPolicy(function, world, most if context is None else require_whole("context", context, 1, most))
