"""TextWorld: what the worlds of language have in common, whatever their states are."""

from typing import Any, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from cai.language.automaton import Automaton
from cai.language.vocabulary import Vocabulary


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
