"""Automata against plain functions of strings, and against Python's ``re``, on all short texts."""

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cai
from cai import language
from cai.language.automaton import Automaton

ABC = language.characters("abc")
TEXTS = [torch.tensor([*itertools.product(range(3), repeat=n)]) for n in range(7)]
WRITTEN = [["".join(text) for text in itertools.product("abc", repeat=n)] for n in range(7)]


def paid(automaton: Automaton, texts: torch.Tensor) -> torch.Tensor:
    """Return what texts of one length are paid, by reading them token by token."""
    q = torch.full((len(texts),), automaton.start)
    total = torch.zeros(len(texts), dtype=torch.float64)
    for x in texts.unbind(-1) if texts.numel() else ():
        total, q = total + automaton.reward[q, x], automaton.successor[q, x]
    return total + automaton.final[q]


def agrees(automaton: Automaton, expected: Callable[[str], float], longest: int = 6) -> None:
    """Compare with a plain function on all texts up to a length."""
    for n in range(longest + 1):
        seen, right = paid(automaton, TEXTS[n]).tolist(), [float(expected(text)) for text in WRITTEN[n]]
        wrong = [(text, a, b) for text, a, b in zip(WRITTEN[n], seen, right, strict=True) if a != b]
        assert not wrong, wrong[:3]


def count(text: str, part: str) -> int:
    return sum(text.startswith(part, i) for i in range(len(text)))


@pytest.mark.parametrize("part", ["a", "ab", "aba", "aab", "aaa", "abcab"])
def test_searches_are_those_of_strings(part: str) -> None:
    agrees(language.containing(part, ABC, 2.0, -1.0), lambda text: 2.0 if part in text else -1.0)
    agrees(language.ending_with(part, ABC, 0.3), lambda text: 0.3 if text.endswith(part) else 0.0)
    agrees(language.forbidding(part, ABC), lambda text: -torch.inf if part in text else 0.0)
    agrees(language.counting(part, ABC, 2, 0.25), lambda text: 0.25 * min(2, count(text, part)))


def test_a_product_adds_what_its_parts_pay() -> None:
    a, b, c = language.containing("ab", ABC), language.counting("b", ABC, 3, 0.5), language.forbidding("cc", ABC)
    product = a & b & c

    def expected(text: str) -> float:
        return ("ab" in text) + 0.5 * min(3, text.count("b")) + (-torch.inf if "cc" in text else 0.0)

    agrees(product, expected)
    agrees(product.minimal(), expected)
    assert len(product.minimal()) <= len(product) <= len(a) * len(b) * len(c)
    assert product.name == "containing 'ab' & counting 'b' & forbidding 'cc'"


def test_visits_are_paid_beside_transitions() -> None:
    found = language.containing("ab", ABC, accepted=0.0).visiting(torch.tensor([0.0, 0.0, 1.0]))
    agrees(found, lambda text: len(text) - text.index("ab") - 1 if "ab" in text else 0)
    with pytest.raises(cai.WorldError, match=r"containing 'ab', visiting: shape \(2,\); expected \[3\]"):
        found.visiting(torch.zeros(2))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_a_minimal_automaton_pays_the_same_and_cannot_be_smaller(seed: int, Q: int) -> None:
    """The oracle of its size: as many classes of reached states as tell all continuations of Q tokens apart."""
    generator = torch.Generator().manual_seed(seed)
    ab = language.characters("ab")
    successor = torch.randint(Q, (Q, 2), generator=generator)
    reward = torch.randint(2, (Q, 2), generator=generator).double()
    final = torch.randint(2, (Q,), generator=generator).double()
    given_ = Automaton(ab, successor, reward, final, tuple(map(str, range(Q))))
    least = given_.minimal()
    reached, queue = {0}, [0]
    for q in queue:
        new = {*successor[q].tolist()} - reached
        reached |= new
        queue += new
    kinds = {q: (float(final[q]),) for q in reached}
    for _ in range(Q):
        kinds = {q: (kinds[q], *reward[q].tolist(), *(kinds[p] for p in successor[q].tolist())) for q in reached}
        names = {kind: i for i, kind in enumerate(dict.fromkeys(kinds.values()))}
        kinds = {q: names[kind] for q, kind in kinds.items()}
    assert len(least) == len({*kinds.values()})
    texts = torch.tensor([*itertools.product(range(2), repeat=6)])
    assert paid(least, texts).equal(paid(given_, texts))


def patterns() -> st.SearchStrategy[str]:
    letter = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^b]", "[b-c]", r"\w", "(?i:B)"])
    place = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
    repeat = st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{,2}"])

    def larger(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(part, min_size=2, max_size=3).map("".join),
            st.lists(part, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
            st.tuples(part, repeat).map(lambda both: f"(?:{both[0]}){both[1]}"),
        )

    return st.recursive(st.one_of(letter, letter, letter, place), larger, max_leaves=7)


@given(patterns(), st.booleans())
def test_a_pattern_matches_what_re_matches(pattern: str, whole: bool) -> None:
    found = re.compile(pattern).fullmatch if whole else re.compile(pattern).search
    automaton = language.matching(pattern, ABC, whole=whole)
    for n in range(0 if r"\B" not in pattern else 1, 7):  # Python 3.14 has changed what \B is of an empty text
        expected = [1.0 if found(text) else 0.0 for text in WRITTEN[n]]
        assert paid(automaton, TEXTS[n]).tolist() == expected, (pattern, n)


@pytest.mark.parametrize("pattern", [r"\bis\b", "^it", "is it$", "(it|is) (is )?it", "t i", "^$", "[ai]s"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_pattern_over_words_reads_them_with_spaces_between(pattern: str, whole: bool) -> None:
    words = language.words("it is as this")
    automaton = language.matching(pattern, words, whole=whole)
    found = re.compile(pattern).fullmatch if whole else re.compile(pattern).search
    for n in range(4):
        texts = torch.tensor([*itertools.product(range(4), repeat=n)])
        expected = [1.0 if found(words.decode(text)) else 0.0 for text in texts.tolist()]
        assert paid(automaton, texts).tolist() == expected


def test_boundaries_are_told_from_spaces() -> None:
    vocabulary = language.characters("a -")
    texts = torch.tensor([*itertools.product(range(3), repeat=5)])
    for pattern in (r"\baa\b", r"\Ba", r"a\b.\b", r"(\b|-)a"):
        expected = [1.0 if re.search(pattern, vocabulary.decode(text)) else 0.0 for text in texts.tolist()]
        assert paid(language.matching(pattern, vocabulary), texts).tolist() == expected


def test_a_pattern_of_one_text_has_the_states_of_its_search() -> None:
    letters = language.characters()
    found, searched = language.matching(" the ", letters), language.containing(" the ", letters)
    assert found.labels == searched.labels == ("·", "␣", "␣t", "␣th", "␣the", "␣the␣")
    assert found.successor.equal(searched.successor)
    assert found.final.equal(searched.final)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", r"matching '\(a': missing \), unterminated subpattern at position 0; expected a regular expression"),
        ("a**", "multiple repeat at position 2"),
        ("aé", "matching 'aé': 'é'; expected characters of the vocabulary: abc"),
        ("[0-9]", "a class of characters, none of which occurs; expected characters of the vocabulary: abc"),
        ("(?=a)b", "assert; expected a pattern without lookaround, back references"),
        (r"(a)\1", "groupref; expected a pattern without"),
        ("a++", "possessive repeat; expected a pattern without"),
        ("(?m)^a", "MULTILINE; expected"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused_in_words(pattern: str, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        language.matching(pattern, ABC)


def test_a_pattern_with_too_many_states_is_refused() -> None:
    with pytest.raises(cai.IntractableError, match="more than 10,000 states; expected a simpler pattern"):
        language.matching("a.{14}b", language.characters("ab"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: language.containing("", ABC), "automaton, text: no token; expected at least one"),
        (lambda: language.containing("abd", ABC), "automaton, text, token 2: 'd'; expected a token .*: abc"),
        (lambda: language.counting("a", ABC, 0), "counting, up_to: 0; expected a whole number, at least 1"),
        (lambda: language.containing("a", ABC, float("nan")), "containing 'a', final: nan; expected numbers, or -inf"),
        (lambda: language.containing("a", ABC) & language.containing("a", language.characters("ab")), "two vocab"),
    ],
)
def test_a_wrong_argument_is_refused_in_words(make: Callable[[], Automaton], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        make()


def test_tables_are_checked() -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(cai.WorldError, match="automaton, successor of 'only' at 'b': 1; expected a state from 0 to 0"):
        Automaton(ABC, torch.tensor([[0, 1, 0]]), zero, zero[:, 0], ("only",))
    with pytest.raises(cai.WorldError, match=r"automaton, reward: shape \(1, 2\); expected \(1, 3\): Q = 1 states"):
        Automaton(ABC, torch.tensor([[0, 0, 0]]), zero[:, :2], zero[:, 0], ("only",))
    with pytest.raises(cai.WorldError, match="automaton, start: 2; expected a state from 0 to 0"):
        Automaton(ABC, torch.tensor([[0, 0, 0]]), zero, zero[:, 0], ("only",), start=2)
