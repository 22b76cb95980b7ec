"""n-grams against plain counting in Python, and vocabularies against plain splitting."""

import math
import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cai
from cai import language

TEXTS = st.text("abc", min_size=4, max_size=40)


def every_context(order: int, vocabulary: language.Vocabulary) -> list[str]:
    """Return all contexts of up to n-1 tokens, the shorter first, each length in the order of the vocabulary."""
    found, longest = [""], [""]
    for _ in range(order - 1):
        longest = [context + token for context in longest for token in vocabulary.tokens]
        found += longest
    return found


def counted(text: str, context: str) -> Counter[str]:
    """Count what follows a context, by looking at each place."""
    k = len(context)
    return Counter(text[i + k] for i in range(len(text) - k) if text[i : i + k] == context)


def added(text: str, context: str, x: str, V: int, delta: float) -> float:
    """p(x|c) with δ added; of a context that never occurs, where δ = 0, that of the shorter one."""
    after = counted(text, context)
    if after.total() + delta * V == 0:
        return added(text, context[1:], x, V, delta)
    return (after[x] + delta) / (after.total() + delta * V)


def witten_bell(text: str, context: str, x: str, V: int) -> float:
    """p(x|c) = (N(c,x) + U(c) p(x|c')) / (N(c) + U(c)), and 1/V below the empty context."""
    after = counted(text, context)
    shorter = witten_bell(text, context[1:], x, V) if context else 1 / V
    return (after[x] + len(after) * shorter) / (after.total() + len(after)) if after else shorter


@given(TEXTS, st.integers(1, 4), st.sampled_from(["witten_bell", 0.0, 0.1, 1.0]))
def test_a_model_is_its_formula_over_plain_counts(text: str, order: int, smoothing: str | float) -> None:
    vocabulary = language.characters("abc")
    options = {"smoothing": "witten_bell"} if isinstance(smoothing, str) else {"smoothing": "add", "delta": smoothing}
    model = language.fit_ngram(text, order, vocabulary=vocabulary, **options)
    contexts = every_context(order, vocabulary)
    assert model.size == len(contexts)
    expected = [
        [
            witten_bell(text, c, x, 3) if isinstance(smoothing, str) else added(text, c, x, 3, smoothing)
            for x in vocabulary.tokens
        ]
        for c in contexts
    ]
    seen = model.log_next(torch.arange(model.size)).exp()
    assert torch.allclose(seen, torch.tensor(expected, dtype=torch.float64), atol=1e-14)


@given(st.integers(1, 4), st.text("abc", max_size=7))
def test_a_memory_is_the_last_tokens(order: int, text: str) -> None:
    vocabulary = language.characters("abc")
    model = language.fit_ngram("abcab", order, vocabulary=vocabulary)
    memory = torch.tensor([model.start])
    for x in vocabulary.encode(text).tolist():
        memory = model.following(memory)[:, x]
    kept = text[max(len(text) - order + 1, 0) :]
    assert int(memory) == every_context(order, vocabulary).index(kept)
    assert model.label(int(memory)) == (kept or "·")


def test_words_are_the_most_frequent_ones_and_one_for_all_others() -> None:
    text = "the cat and the dog and the bird"
    few = language.words(text, 3)
    assert few.tokens == ("and", "the", "…")
    assert few.decode(few.encode(text)) == "the … and the … and the …"
    assert language.words(text).tokens == ("and", "bird", "cat", "dog", "the")
    bigram = language.fit_ngram(text, 2, vocabulary=few, smoothing="add", delta=0.0)
    assert torch.allclose(bigram.log_next(torch.tensor([2])).exp(), torch.tensor([[0.0, 0.0, 1.0]]).double())


def test_the_text_that_the_package_carries() -> None:
    text = language.alice()
    assert "CHAPTER I" in text
    assert len(text) > 140_000
    letters = language.plain(text)
    assert set(letters) == set(" abcdefghijklmnopqrstuvwxyz")
    assert "  " not in letters
    assert language.plain("So -- 'it is'. ", keep=".") == "so it is ."
    bigram = language.fit_ngram(letters, 2, smoothing="add", delta=0.0)
    after_q = Counter(re.findall("q(?=(.))", letters))
    assert math.exp(bigram.log_probs[1 + bigram.vocabulary.number["q"], bigram.vocabulary.number["u"]]) == (
        pytest.approx(after_q["u"] / after_q.total(), rel=1e-14)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": ""}, "ngram, text: 0 tokens; expected at least 2, the order"),
        ({"text": "a"}, "ngram, text: 1 tokens; expected at least 2, the order"),
        ({"text": "ab", "order": 0}, "ngram, order: 0; expected a whole number, at least 1"),
        ({"text": "ab", "smoothing": "kn"}, "ngram, smoothing: 'kn'; expected 'witten_bell' or 'add'"),
        ({"text": "ab", "smoothing": "add", "delta": -1}, "ngram, delta: -1; expected a number, at least 0"),
        (
            {"text": "abx", "vocabulary": language.characters("ab")},
            "ngram, text, token 2: 'x'; expected a token .*: ab",
        ),
    ],
)
def test_a_text_or_a_setting_that_is_not_valid_is_told(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        language.fit_ngram(**arguments)  # type: ignore[arg-type]


def test_a_vocabulary_that_is_not_valid_is_told() -> None:
    with pytest.raises(cai.WorldError, match="characters, text: no character; expected at least one"):
        language.characters("")
    with pytest.raises(cai.WorldError, match="words, text: no word; expected at least one"):
        language.words(" ")
    with pytest.raises(cai.WorldError, match="vocabulary: 'a' twice; expected different tokens"):
        language.Vocabulary(("a", "a"))
    with pytest.raises(cai.WorldError, match="vocabulary, unknown: 'c'; expected one of the tokens, or None"):
        language.Vocabulary(("a", "b"), unknown="c")
    with pytest.raises(cai.IntractableError, match=r"ngram: .* contexts of up to 29 of 27 tokens"):
        language.fit_ngram(language.plain(language.alice()), 30)


def test_a_table_whose_rows_do_not_sum_to_one_is_refused() -> None:
    ab = language.characters("ab")
    table = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.4]]).double().log()
    with pytest.raises(cai.WorldError, match=r"after 'b': probabilities that sum to 0\.9; expected a sum"):
        language.NGram(ab, 2, table)
    with pytest.raises(cai.WorldError, match=r"ngram, log_probs: shape \(2, 2\); expected \[3, 2\]"):
        language.NGram(ab, 2, table[:2])
