"""TextWorld: what the worlds of language have in common, whatever their states are."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.errors import fault
from cai.language.automaton import Automaton
from cai.language.vocabulary import Vocabulary
from cai.learn.loop import require_whole


@runtime_checkable
class TextWorld(Protocol):
    """A cai ``World`` in which an action appends a token; its state is a function of the prefix.

    ``LanguageWorld`` and ``PrefixWorld`` are two. A batch of states is ``[*N]``, one tensor or a dict of them.
    """

    horizon: int
    vocabulary: Vocabulary
    end: str | None
    automaton: Automaton

    def under(self, automaton: Automaton) -> "TextWorld":
        """Return the world of the same reference with another automaton."""

    def begin(self, *shape: int) -> Any:
        """Return the state of no token."""

    def log_tokens(self, state: Any) -> Float[Tensor, "*N V"]:
        """Return log p(token | state) of the reference, nats."""

    def pays(self, state: Any, token: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Return the reward of a token, reward units."""

    def append(self, state: Any, token: Int[Tensor, "*N"]) -> Any:
        """Return the state after a token."""

    def terminal(self, state: Any) -> Float[Tensor, "*N"]:
        """Return what the automaton pays for the whole text at T, reward units."""

    def terminated(self, state: Any) -> Bool[Tensor, "*N"]:
        """Say whether the text has ended."""

    def recent(self, state: Any) -> Int[Tensor, "*N k"]:
        """Return the tokens that a ``Remembering`` reference remembers, the oldest first; -1 where there are fewer."""


def require_text_world(where: str, world: Any) -> None:
    """Raise a ``WorldError`` where a world is none of language, or its horizon is not valid."""
    if not hasattr(type(world), "log_tokens"):
        seen = f"the class {world.__name__}" if isinstance(world, type) else f"a {type(world).__name__}"
        raise fault(f"{where}, world", seen, "a world of cai.language_world, or a PrefixWorld")
    require_whole(f"{where}, horizon of the world", world.horizon, 1)


def require_texts(where: str, world: TextWorld, tokens: Any, least: int = 0, most: int | None = None) -> None:
    """Raise a ``WorldError`` where ``tokens`` are no texts of a world, or have too few tokens or too many."""
    require_text_world(where, world)
    V = len(world.vocabulary)
    expected = f"whole numbers from 0 to {V - 1}, [*N, T], such as world.vocabulary.encode(text)"
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or not tokens.dim():
        seen = f"{tokens.dtype}, shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else f"{tokens!r:.40}"
        raise fault(f"{where}, tokens", seen, expected)
    T = tokens.shape[-1]
    if least > T or (most is not None and most < T):
        bounds = f"exactly {least}" if least == most else f"at least {least}" if least > T else f"at most {most}"
        raise fault(f"{where}, tokens", f"texts of {T}", bounds)
    wrong = tokens[(tokens < 0) | (tokens >= V)]
    if len(wrong):
        raise fault(f"{where}, tokens", f"{int(wrong[0])}", expected)


def require_generator(where: str, generator: Any) -> None:
    """Raise a ``WorldError`` where a generator of random numbers is none."""
    if not isinstance(generator, torch.Generator):
        expected = "a torch.Generator, such as torch.Generator().manual_seed(0)"
        raise fault(f"{where}, generator", f"{generator!r:.40}", expected)
