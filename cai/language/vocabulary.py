"""Vocabulary: the tokens of a language, characters or words, and texts as their numbers."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import torch
from jaxtyping import Int
from torch import Tensor

from cai.errors import fault

LETTERS = " abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a language.

    Attributes:
        tokens: V different texts, numbered in this order.
        separator: what stands between two tokens of a text: nothing for characters, a space for words.

    Raises:
        WorldError: there is no token, one is empty, or two are the same.
    """

    tokens: tuple[str, ...]
    separator: str = ""

    def __post_init__(self) -> None:
        twice = [token for token, count in Counter(self.tokens).items() if count > 1]
        if not self.tokens or "" in self.tokens or twice:
            seen = f"{twice[0]!r} twice" if twice else "an empty token" if self.tokens else "no tokens"
            raise fault("vocabulary", seen, "different tokens, at least one, none of them empty")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text, which need not be in the vocabulary."""
        return text.split() if self.separator else list(text)

    def encode(self, text: str, where: str = "text") -> Int[Tensor, " N"]:
        """Return the numbers of a text's tokens.

        Raises:
            WorldError: a token is not in the vocabulary; it names the first such token, and where it stands.
        """
        split = self.split(text)
        for i, token in enumerate(split):
            if token not in self.number:
                known = "".join(self.tokens) if not self.separator else f"{len(self)} words"
                raise fault(f"{where}, token {i}", f"{token!r}", f"a token of the vocabulary: {known}")
        return torch.tensor([self.number[token] for token in split], dtype=torch.long)

    def decode(self, tokens: Int[Tensor, " N"] | Iterable[int]) -> str:
        """Return the text of tokens."""
        return self.separator.join(self.tokens[int(i)] for i in tokens)

    def shown(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens as a label shows it: of characters, a space is ␣, and · is no token at all."""
        text = self.decode(tokens)
        return (text if self.separator else text.replace(" ", "␣").replace("\n", "⏎")) or "·"


def characters(text: str = LETTERS) -> Vocabulary:
    """Return the characters that occur in a text, in the order of their code points."""
    return Vocabulary(tuple(sorted(set(text))))


def words(text: str, size: int | None = None) -> Vocabulary:
    """Return the words of a text, the most frequent ones where there are more than ``size``, in alphabetical order."""
    most = Counter(text.split()).most_common(size)
    return Vocabulary(tuple(sorted(word for word, _ in most)), " ")


def plain(text: str) -> str:
    """Return a text in lower case, with one space for whatever is no letter from a to z."""
    return re.sub("[^a-z]+", " ", text.lower()).strip()


def alice() -> str:
    """Return the text of Lewis Carroll (1865), Alice's Adventures in Wonderland, 148 kB, in the public domain.

    It is the Millennium Fulcrum Edition 2.9, as in the Canterbury corpus of compression (Arnold & Bell 1997).
    """
    return files("cai.language").joinpath("alice.txt").read_text(encoding="ascii")
