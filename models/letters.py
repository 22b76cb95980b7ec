"""Letters: a model of language writes a text, letter by letter, and is paid where a pattern occurs in it.

The action prior is an n-gram of Alice in Wonderland, so solving is exact fine-tuning with a KL penalty: the best policy
is the n-gram given that the text is rewarded. It teaches what sampled fine-tuning of language models should find.

Size: 58 states, 27 actions, 1 outcome.
Source: after Korbak, Perez & Buckley (2022), RL with KL penalties is better viewed as Bayesian inference; the text is
that of Carroll (1865), in the public domain.
"""

from functools import reduce
from operator import and_
from pathlib import Path

import cai
from cai import language


def letters(
    text: str | None = None,
    order: int = 2,
    smoothing: str = "witten_bell",
    delta: float | None = None,
    words: int | None = None,
    pattern: str | None = " the ",
    contains: str | None = None,
    ends_with: str | None = None,
    count: str | None = None,
    up_to: int | None = None,
    forbid: str | None = None,
    reward: float = 1.0,
    rejected: float = 0.0,
    horizon: int = 12,
    end: str | None = None,
) -> language.LanguageWorld:
    """Return the world: ``state`` is the last letters, and how far a pattern is found; ``token`` is the next letter.

    What pays is added up.

    Args:
        text: the file of a text that the n-gram is fitted to; Alice in Wonderland unless given.
        order: n of the n-gram: 1 for single letters, 2 for a bigram.
        smoothing: "witten_bell", or "add" for δ added to each count.
        delta: δ of "add", 1 unless given.
        words: how many of the most frequent words are tokens, not letters; one of them is "…", for all others.
        pattern: a regular expression that pays once, at the end, where it matches some part of the text.
        contains: a text that pays once, at the end, where the text contains it.
        ends_with: a text that pays at the end where the text ends with it.
        count: a text that pays each time that it is written.
        up_to: how often ``count`` pays, 3 times unless given.
        forbid: a text that must not be written.
        reward: what each of these pays.
        rejected: what is paid where ``pattern``, ``contains`` or ``ends_with`` is absent; -inf if it must be there.
        horizon: T letters or words.
        end: the letter or word that ends a text early, such as "."; None for none.
    """
    if up_to is not None and count is None:
        raise cai.fault("letters, up_to", f"{up_to!r} without count", "count=…, the text that pays so often")
    written = language.plain(_read(text), end or "")
    if not written:
        raise cai.fault("letters, text", f"no letter in '{text}'", "a text with letters from a to z")
    if words is not None:
        written = written.replace(end, f" {end} ") if end else written
        vocabulary = language.words(written, words)
    else:
        vocabulary = language.characters(written)
    reference = language.fit_ngram(written, order, vocabulary=vocabulary, smoothing=smoothing, delta=delta)
    paid = (reward, rejected)
    asked = [
        pattern is not None and language.matching(str(pattern), vocabulary, *paid),
        contains is not None and language.containing(str(contains), vocabulary, *paid),
        ends_with is not None and language.ending_with(str(ends_with), vocabulary, *paid),
        count is not None and language.counting(str(count), vocabulary, 3 if up_to is None else up_to, reward),
        forbid is not None and language.forbidding(str(forbid), vocabulary),
    ]
    automata = [automaton for automaton in asked if automaton]
    if not automata:
        expected = "at least one of pattern, contains, ends_with, count and forbid"
        raise cai.fault("letters", "nothing that pays", expected)
    every = reduce(and_, automata)  # a & b runs both, and adds what they pay
    return language.language_world(reference, every.minimal(), horizon=horizon, end=end)


def _read(text: str | None) -> str:
    if text is None:
        return language.alice()
    if not Path(text).is_file():
        raise cai.fault("letters, text", f"'{text}': no such file", "a text file, or None for Alice in Wonderland")
    try:
        return Path(text).read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise cai.fault("letters, text", f"'{text}': {error}", "a text file in UTF-8") from error
