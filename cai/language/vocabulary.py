"""Vocabulary: the tokens of a language, characters or words, and texts as their numbers."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

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
        unknown: the token that stands for whatever is not in the vocabulary; None where nothing does.

    Raises:
        WorldError: there is no token, one is empty, two are the same, or ``unknown`` is none of them.
    """

    tokens: tuple[str, ...]
    separator: str = ""
    unknown: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, tuple) or not all(isinstance(token, str) for token in self.tokens):
            raise fault(
                "vocabulary, tokens", f"{self.tokens!r:.40}", "a tuple of texts, or cai.language.characters(text)"
            )
        twice = [token for token, count in Counter(self.tokens).items() if count > 1]
        if not self.tokens or "" in self.tokens or twice:
            seen = f"{twice[0]!r} twice" if twice else "an empty token" if self.tokens else "no tokens"
            raise fault("vocabulary", seen, "different tokens, at least one, none of them empty")
        if not isinstance(self.separator, str):
            raise fault("vocabulary, separator", f"{self.separator!r}", "a text, which stands between two tokens")
        if self.unknown is not None and self.unknown not in self.tokens:
            raise fault("vocabulary, unknown", f"{self.unknown!r}", "one of the tokens, or None")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each token."""
        return {token: i for i, token in enumerate(self.tokens)}

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text, which need not be in the vocabulary."""
        _require_text("split, text", text)
        return text.split() if self.separator else list(text)

    def encode(self, text: str, where: str = "text") -> Int[Tensor, " N"]:
        """Return the numbers of a text's tokens.

        Raises:
            WorldError: a token is not in the vocabulary; it names the first such token, and where it stands.
        """
        _require_text(where, text)
        split, other = self.split(text), self.number.get(self.unknown or "")
        numbers = [self.number.get(token, other) for token in split]
        if None in numbers:
            i = numbers.index(None)
            known = f"{len(self)} words" if self.separator else visible("".join(self.tokens))
            raise fault(f"{where}, token {i}", f"{split[i]!r}", f"a token of the vocabulary: {known}")
        return torch.tensor(numbers, dtype=torch.long)

    def decode(self, tokens: Int[Tensor, " N"] | Iterable[int]) -> str:
        """Return the text of tokens.

        Raises:
            WorldError: they are no numbers of tokens.
        """
        numbers: Any = tokens.tolist() if isinstance(tokens, Tensor) else tokens
        numbers = list(numbers) if isinstance(numbers, Iterable) else None
        if numbers is None or not all(isinstance(i, int) and 0 <= i < len(self) for i in numbers):
            raise fault("decode, tokens", f"{tokens!r:.60}", f"whole numbers from 0 to {len(self) - 1}, [T]")
        return self.separator.join(self.tokens[i] for i in numbers)

    def shown(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens as a label shows it: of characters, a space is ␣, and · is no token at all."""
        text = self.decode(tokens)
        return (text if self.separator else visible(text)) or "·"


def visible(text: str) -> str:
    """Return a text with ␣ for each space and ⏎ for each end of a line."""
    return text.replace(" ", "␣").replace("\n", "⏎")


def _require_text(where: str, text: Any) -> None:
    if not isinstance(text, str):
        raise fault(where, f"a {type(text).__name__}", "a text")


def characters(text: str = LETTERS) -> Vocabulary:
    """Return the characters that occur in a text, in the order of their code points.

    Raises:
        WorldError: the text is empty.
    """
    _require_text("characters, text", text)
    if not text:
        raise fault("characters, text", "no character", "at least one")
    return Vocabulary(tuple(sorted(set(text))))


def words(text: str, size: int | None = None, unknown: str = "…") -> Vocabulary:
    """Return the words of a text in alphabetical order, the most frequent ones where there are more than ``size``.

    Then ``unknown`` stands for each other word, and is one of the ``size`` tokens.

    Raises:
        WorldError: there is no word, or ``size`` is no whole number from 2 on.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 2):
        raise fault("words, size", f"{size!r}", "a whole number, at least 2: one word, and one for all others")
    _require_text("words, text", text)
    counted = Counter(text.split())
    if not counted:
        raise fault("words, text", "no word", "at least one")
    if size is None or len(counted) <= size:
        return Vocabulary(tuple(sorted(counted)), " ")
    most = [word for word, _ in counted.most_common(size - 1)]
    return Vocabulary((*sorted(most), unknown), " ", unknown)


def plain(text: str, keep: str = "") -> str:
    """Return a text in lower case, with one space for whatever is no letter from a to z and none of ``keep``."""
    _require_text("plain, text", text)
    _require_text("plain, keep", keep)
    return re.sub(f"[^a-z{re.escape(keep)}]+", " ", text.lower()).strip()


def alice() -> str:
    """Return the text of Lewis Carroll (1865), Alice's Adventures in Wonderland, 148 kB, in the public domain.

    It is the Millennium Fulcrum Edition 2.9, as in the Canterbury corpus of compression (Arnold & Bell 1997).
    """
    return files("cai.language").joinpath("alice.txt").read_text(encoding="ascii")
