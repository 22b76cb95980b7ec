"""Automata that look for a text: containing, ending with, counting, forbidding (Knuth, Morris & Pratt 1977)."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from cai.errors import fault
from cai.language.automaton import Automaton, paying_at_end, require_reward
from cai.language.given import require_vocabulary
from cai.language.vocabulary import Vocabulary
from cai.learn.loop import require_whole


def containing(text: str, vocabulary: Vocabulary, accepted: float = 1.0, rejected: float = 0.0) -> Automaton:
    """Return the automaton that pays ``accepted``, reward units, at the end of a text that contains another.

    Raises:
        WorldError: the text is empty, or has a token that is not in the vocabulary.
    """
    labels, successor = _search(text, vocabulary)
    successor[-1] = len(labels) - 1
    return paying_at_end(f"containing {text!r}", vocabulary, successor, _last(labels), labels, accepted, rejected)


def ending_with(text: str, vocabulary: Vocabulary, accepted: float = 1.0, rejected: float = 0.0) -> Automaton:
    """Return the automaton that pays ``accepted``, reward units, at the end of a text that ends with another.

    Raises:
        WorldError: the text is empty, or has a token that is not in the vocabulary.
    """
    labels, successor = _search(text, vocabulary)
    return paying_at_end(f"ending with {text!r}", vocabulary, successor, _last(labels), labels, accepted, rejected)


def counting(text: str, vocabulary: Vocabulary, up_to: int, each: float = 1.0) -> Automaton:
    """Return the automaton that pays ``each``, reward units, where a text is found, the first ``up_to`` times.

    What is found may overlap.

    Raises:
        WorldError: ``up_to`` is no whole number from 1 on, ``each`` no number, or the text is empty or has a token that
            is not known.
    """
    require_whole("counting, up_to", up_to, 1)
    pays = require_reward("counting, each", each)
    found, one = _search(text, vocabulary)
    Q, n = len(found), torch.arange(up_to).view(-1, 1, 1)
    done = (one == Q - 1).expand(up_to, -1, -1)
    enough = torch.full_like(one[:1], up_to * Q)  # the last state, in which nothing is counted any more
    successor = torch.where(done, one + (n + 1) * Q, one + n * Q).reshape(-1, len(vocabulary)).clamp(max=up_to * Q)
    labels = (*(f"{k} × {label}" for k in range(up_to) for label in found), f"{up_to} ×")
    counted = paying_at_end(f"counting {text!r}", vocabulary, torch.cat((successor, enough)), _last(labels), labels)
    paid = torch.cat((done.reshape(-1, len(vocabulary)), torch.zeros_like(enough, dtype=torch.bool)))
    return replace(counted, reward=counted.reward.masked_fill(paid, pays))


def forbidding(text: str, vocabulary: Vocabulary) -> Automaton:
    """Return the automaton that pays -inf where a text would be completed: it must not be said.

    Raises:
        WorldError: the text is empty, or has a token that is not in the vocabulary.
    """
    labels, successor = _search(text, vocabulary)
    said = successor[:-1] == len(labels) - 1
    kept = paying_at_end(
        f"forbidding {text!r}", vocabulary, successor[:-1].masked_fill(said, 0), ~_last(labels)[:-1], labels[:-1]
    )
    return replace(kept, reward=kept.reward.masked_fill(said, -torch.inf))


def _search(text: str, vocabulary: Vocabulary) -> tuple[tuple[str, ...], Int[Tensor, "k+1 V"]]:
    """Return how far a text is found, and the next such state, ``k`` its tokens."""
    require_vocabulary("automaton", vocabulary)
    word = vocabulary.encode(text, "automaton, text").tolist()
    if not word:
        raise fault("automaton, text", "no token", "at least one")
    V, k = len(vocabulary), len(word)
    rows, back = list[list[int]](), 0  # back: the state after the text without its first token
    for i in range(k + 1):
        row = [0] * V if i == 0 else list(rows[back])
        if i < k:
            row[word[i]] = i + 1
            back = rows[back][word[i]] if i else 0
        rows.append(row)
    return tuple(vocabulary.shown(word[:i]) for i in range(k + 1)), torch.tensor(rows)


def _last(labels: tuple[str, ...]) -> Tensor:
    return torch.arange(len(labels)) == len(labels) - 1
