"""Reference: a model of language, the distribution of the next token given what it remembers of those before."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import fault
from cai.language.automaton import Automaton
from cai.language.vocabulary import Vocabulary


@runtime_checkable
class Reference(Protocol):
    """A model of language with a finite memory, m = 0 … M-1: p(x_t | m_t), and m_{t+1} is a function of m_t and x_t."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, V."""

    @property
    def start(self) -> int:
        """The memory before the first token."""

    @property
    def size(self) -> int:
        """M, how many memories there are."""

    def log_next(self, memory: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Return log p(x_t | m_t), nats; -inf for what is never said."""

    def following(self, memory: Int[Tensor, " N"]) -> Int[Tensor, "N V"]:
        """Return m_{t+1} for each token."""

    def label(self, memory: int) -> str:
        """Return the name of a memory."""


def require_suited(reference: Any, automaton: Automaton, horizon: int, end: str | None) -> None:
    """Raise where a reference and an automaton do not make a world.

    Raises:
        WorldError: the reference or the automaton is none, the vocabularies differ, the end is no token, or the
            horizon is not valid.
    """
    if not hasattr(type(reference), "following"):
        expected = "a Reference: an n-gram, a hidden Markov model, or Remembering one"
        raise fault("language_world, reference", f"a {type(reference).__name__}", expected)
    if not isinstance(automaton, Automaton):
        raise fault("language_world, automaton", f"a {type(automaton).__name__}", "a cai.language.Automaton")
    vocabulary: Vocabulary = reference.vocabulary
    if vocabulary != automaton.vocabulary:
        seen = f"{len(automaton.vocabulary)} tokens in the automaton, {len(vocabulary)} in the reference"
        raise fault("language_world, vocabulary", seen, "one vocabulary for both")
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise fault("language_world, horizon", f"{horizon!r}", "a number of tokens, at least 1")
    if end is not None and (not isinstance(end, str) or end not in vocabulary.number):
        raise fault("language_world, end", f"{end!r}", "a token of the vocabulary, or None")
