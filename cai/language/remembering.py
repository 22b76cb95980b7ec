"""Remembering: a reference that remembers the last k tokens, too, so that a policy can read them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from cai.errors import Finding, IntractableError, fault
from cai.language.hidden_markov import HiddenMarkov
from cai.language.ngram import contexts, firsts
from cai.language.reference import Reference
from cai.language.vocabulary import Vocabulary
from cai.learn.loop import require_whole

NONE = -1
"""The number that stands where a text has fewer than k tokens."""
NUMBERS = 1 << 48
"""The most memories that are numbered, with room for the states of an automaton beside them."""
WAY = "cai.language.PrefixWorld, which lists no states"


@dataclass(frozen=True)
class Remembering:
    """A model of language whose memory is (its own memory, the last k tokens); it writes as the model does.

    In a ``LanguageWorld`` only the memories that texts reach are states. A ``PrefixWorld`` takes it also where they are
    too many to list, and around a hidden Markov model, whose memory is a belief.

    Attributes:
        reference: the model.
        length: k.

    Raises:
        WorldError: the reference is no model of language, or k is no whole number from 1 on.
    """

    reference: Reference | HiddenMarkov
    length: int

    def __post_init__(self) -> None:
        if not hasattr(type(self.reference), "following"):
            raise fault("remembering, reference", f"a {type(self.reference).__name__}", "a model of language")
        require_whole("remembering, length", self.length, 1)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens, V."""
        return self.reference.vocabulary

    @property
    def contexts(self) -> int:
        """C, the number of texts of up to k tokens."""
        return contexts(self.length + 1, len(self.vocabulary))

    @property
    def start(self) -> int:
        """The memory before the first token.

        Raises:
            IntractableError: there are more memories than can be numbered.
        """
        if self.size > NUMBERS:
            seen = f"{self.size:.3g} memories of up to {self.length} of {len(self.vocabulary)} tokens"
            raise IntractableError([Finding("remembering, length", seen, f"at most {NUMBERS:.2g}, or a {WAY}")])
        return self._finite.start * self.contexts

    @property
    def size(self) -> int:
        """M C, how many memories there are."""
        return self._finite.size * self.contexts

    def log_next(self, memory: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Return log p(x_t | m_t) of the model, nats."""
        return self._finite.log_next(memory // self.contexts)

    def following(self, memory: Int[Tensor, " N"]) -> Int[Tensor, "N V"]:
        """Return m_{t+1} for each token."""
        V = len(self.vocabulary)
        recent = self.recent(memory).unsqueeze(-2).expand(-1, V, -1)
        later = appended(recent, torch.arange(V).expand(len(memory), V))
        return self._finite.following(memory // self.contexts) * self.contexts + self.number(later)

    def label(self, memory: int) -> str:
        """Return the name of a memory: the text that is remembered, with the model's own where that is longer."""
        text = self.vocabulary.decode(x for x in self.recent(torch.tensor(memory)).tolist() if x != NONE)
        own = self._finite.label(memory // self.contexts)
        return text if text.endswith(own) else f"{own}|{text}"

    def recent(self, memory: Int[Tensor, "*N"]) -> Int[Tensor, "*N k"]:
        """Return the last k tokens, the oldest first; -1 where there are fewer."""
        V, k = len(self.vocabulary), self.length
        first, number = firsts(k + 1, V), memory % self.contexts
        length = torch.bucketize(number.contiguous(), first, right=True) - 1
        back = torch.arange(k - 1, -1, -1)  # how many tokens follow each place
        digits = (number - first[length]).unsqueeze(-1) // V**back % V
        return torch.where(back < length.unsqueeze(-1), digits, NONE)

    def number(self, recent: Int[Tensor, "*N k"]) -> Int[Tensor, "*N"]:
        """Return the number of a context; the inverse of ``recent``."""
        V, k = len(self.vocabulary), self.length
        powers = V ** torch.arange(k - 1, -1, -1)
        return firsts(k + 1, V)[(recent != NONE).sum(-1)] + (recent.clamp(min=0) * powers).sum(-1)

    @property
    def _finite(self) -> Reference:
        if isinstance(self.reference, HiddenMarkov):
            seen = "a hidden Markov model, whose memory is a belief"
            raise fault("remembering", seen, f"a finite memory, or a {WAY}")
        return self.reference


def require_remembering(reference: Reference | HiddenMarkov) -> Remembering:
    """Return a reference that remembers tokens.

    Raises:
        WorldError: it is another.
    """
    if not isinstance(reference, Remembering):
        seen = f"a {type(reference).__name__}"
        raise fault("language_world, reference", seen, "cai.language.Remembering(reference, k)")
    return reference


def appended(recent: Int[Tensor, "*N k"], token: Int[Tensor, "*N"]) -> Int[Tensor, "*N k"]:
    """Return the last k tokens after one more."""
    return torch.cat((recent[..., 1:], token.unsqueeze(-1)), -1)


def one_hot_tokens(recent: Int[Tensor, "*N k"], V: int) -> Float[Tensor, "*N F"]:
    """Return tokens as one-hot vectors of V + 1 numbers, the last for none, side by side."""
    return one_hot(torch.where(recent == NONE, V, recent), V + 1).flatten(-2).double()
