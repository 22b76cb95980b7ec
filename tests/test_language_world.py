"""Worlds of language against the enumeration of all texts."""

import itertools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

import cai
from cai import language
from cai.evaluation.by_horizon import by_horizon


def enumerated(world: language.LanguageWorld, alpha: float) -> dict[tuple[int, ...], float]:
    """Return log p(text) + reward/α of every text, up to its end token, by reading all of them token by token."""
    reference, automaton, found = world.reference, world.automaton, dict[tuple[int, ...], float]()
    texts = torch.tensor([*itertools.product(range(len(world.vocabulary)), repeat=world.horizon)])
    memory, q = torch.full((len(texts),), reference.start), torch.full((len(texts),), automaton.start)
    total, going, length = torch.zeros(len(texts)).double(), torch.ones(len(texts)).bool(), torch.zeros(len(texts))
    for x in texts.unbind(-1):
        row = torch.arange(len(x))
        new = reference.log_next(memory)[row, x] + automaton.reward[q, x] / alpha
        ends = torch.zeros_like(going) if world.end is None else x == world.vocabulary.number[world.end]
        total = torch.where(going, total + new + torch.where(ends, automaton.final[q] / alpha, 0.0), total)
        length += going
        going = going & ~ends
        memory, q = reference.following(memory)[row, x], automaton.successor[q, x]
    total = torch.where(going, total + automaton.final[q] / alpha, total)
    for text, n, value in zip(texts.tolist(), length.tolist(), total.tolist(), strict=True):
        found[tuple(text[: int(n)])] = value
    return found


def small(end: str | None, order: int = 3) -> language.LanguageWorld:
    vocabulary = language.characters("ab ")
    reference = language.fit_ngram("abba baab bab aab  ab", order, vocabulary=vocabulary)
    paid = language.counting("ab", vocabulary, 2, 0.3)
    automaton = language.containing("bb", vocabulary) & paid & language.forbidding("aaa", vocabulary)
    return language.language_world(reference, automaton, horizon=4, end=end)


def larger(end: str | None) -> language.LanguageWorld:
    vocabulary = language.characters("abcd ")
    reference = language.fit_ngram("abcd bad cab dab abc dcba", 2, vocabulary=vocabulary, smoothing="add", delta=0.0)
    paid = language.counting("a", vocabulary, 3, 0.2) & language.ending_with("d", vocabulary, -0.4, 0.1)
    automaton = language.matching(r"\b[ab]+(c|d)", vocabulary, 1.0, -0.5) & paid
    return language.language_world(reference, automaton.minimal(), horizon=6, end=end)


WORLDS = [(small, None), (small, " "), (larger, None), (larger, " ")]


@pytest.mark.parametrize(("make", "end"), WORLDS)
def test_log_evidence_and_conditional_are_those_of_all_texts(make: Callable[..., Any], end: str | None) -> None:
    world = make(end)
    texts = enumerated(world, 0.1)
    log_z = torch.tensor(list(texts.values()), dtype=torch.float64).logsumexp(0)
    found = cai.solve(world, temperature=0.1)
    assert torch.allclose(found.log_evidence, log_z, atol=1e-12)
    assert torch.allclose(cai.solve(world, cai.VARIATIONAL, temperature=0.1).elbo, log_z, atol=1e-12)
    padded = torch.tensor([[*text, *[0] * (world.horizon - len(text))] for text in texts])
    log_p = language.log_prob(world, found.policy, padded)
    expected = torch.tensor(list(texts.values()), dtype=torch.float64) - log_z
    possible = expected > -torch.inf
    assert torch.allclose(log_p[possible], expected[possible], atol=1e-12)
    assert not bool(log_p[~possible].exp().any())


@pytest.mark.parametrize("dense", [0, 1 << 26])
@pytest.mark.parametrize(("make", "end"), WORLDS)
def test_states_are_those_of_a_plain_breadth_first_search(
    make: Callable[..., Any], end: str | None, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cai.language.reachable.DENSE", dense)
    world = make(end)
    reference, automaton = world.reference, world.automaton
    start, ended = (reference.start, automaton.start), None if end is None else world.vocabulary.number[end]
    seen, layer, moves = {start}, [start], {}
    for _ in range(world.horizon):
        new = []
        for m, q in layer:
            log_p, after = reference.log_next(torch.tensor([m]))[0], reference.following(torch.tensor([m]))[0]
            for x in range(len(world.vocabulary)):
                if float(log_p[x]) == -torch.inf or x == ended:
                    continue
                pair = (int(after[x]), int(automaton.successor[q, x]))
                moves[(m, q), x] = pair
                if pair not in seen:
                    seen.add(pair)
                    new.append(pair)
        layer = new
    pairs = [*zip(world.memory.tolist(), world.place.tolist(), strict=True)]
    assert len(pairs) == len(seen) == world.size - (end is not None)
    assert {*pairs} == seen
    assert pairs[0] == start
    for (pair, x), following in moves.items():
        assert pairs[int(world.successor[pairs.index(pair), x])] == following
    if end is not None:
        assert bool((world.successor[:, ended] == world.size - 1).all())


NEVER = -torch.inf


@pytest.mark.parametrize(
    ("automaton", "horizon", "end", "words"),
    [
        (
            lambda v: language.matching("a{5}", v, rejected=NEVER),
            3,
            None,
            r"matching 'a\{5\}': it accepts no text of 3 tok",
        ),
        (lambda v: language.matching("a{5}", v, rejected=NEVER), 3, None, "the shortest that it accepts has 5"),
        (
            lambda v: language.matching("abc", v, rejected=NEVER, whole=True),
            5,
            None,
            "no text of exactly 5 tokens; the s",
        ),
        (
            lambda v: language.containing("cc", v, rejected=NEVER),
            5,
            None,
            "containing 'cc': after 'c' it needs 'c', which",
        ),
        (lambda v: language.containing("ba", v, rejected=NEVER), 1, None, "no text of 1 token; the shortest .* has 2"),
        (
            lambda v: language.containing("ab", v, 1.0, NEVER) & language.forbidding("b", v),
            5,
            None,
            "accepts no text at all",
        ),
        (
            lambda v: language.ending_with("bb", v, rejected=NEVER),
            5,
            None,
            "after 'b' it needs 'b', which the reference never",
        ),
        (lambda v: language.matching("abc", v, rejected=NEVER, whole=True), 5, "b", "it accepts no text at all"),
    ],
)
def test_why_no_text_can_be_written_is_told(
    automaton: Callable[..., Any], horizon: int, end: str | None, words: str
) -> None:
    vocabulary = language.characters("abc")
    reference = language.fit_ngram("abcbabcabc", 2, vocabulary=vocabulary, smoothing="add", delta=0.0)
    with pytest.raises(cai.ImpossibleError, match=words):
        language.language_world(reference, automaton(vocabulary), horizon=horizon, end=end)


def test_a_horizon_may_not_be_longer_than_the_states_serve() -> None:
    world = small(None)  # five tokens reach more states than four do
    world.horizon = 2
    assert cai.tabulate(world).horizon == 2
    with pytest.raises(
        cai.WorldError, match="language_world, horizon: 5; expected from 1 to 4, whose states are there"
    ):
        world.horizon = 5
    with pytest.raises(cai.WorldError, match="solve_horizons, horizons: 5; expected at most 4, the longest for which"):
        cai.solve_horizons(cai.tabulate(world), [3, 5])
    shown = by_horizon(cai.compare(world, {"posterior": cai.POSTERIOR}))
    assert shown is not None
    assert shown.posterior.horizons == (1, 2, 3, 4)
    found = language.containing("bb", world.vocabulary)
    whole = language.language_world(world.reference, found, horizon=5)  # its last new states are reached by two tokens
    assert whole.longest is None
    whole.horizon = 9
    again = language.language_world(whole.reference, whole.automaton, horizon=9)
    assert torch.equal(cai.solve(whole).log_evidence, cai.solve(again).log_evidence)


def test_states_have_readable_names_up_to_many_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(" ", order=2)
    assert world.labels["state"][:2] == ["·|· & 0 × · & ·", "a|· & 0 × a & a"]
    assert world.labels["state"][-1] == "ended"
    assert world.labels["token"] == ["␣", "a", "b"]
    monkeypatch.setattr(import_module("cai.language.language_world"), "LABELLED", 10)
    assert list(small(None).labels) == ["token"]


def test_worlds_conform() -> None:
    assert cai.check(small(None)) == []
    assert cai.check(small(" ")) == []


def test_the_reference_itself_writes_on_after_what_must_not_be_said() -> None:
    """Its policy does not know what is forbidden: its entropy is that of all texts of the n-gram."""
    world = small(None)
    free = language.language_world(world.reference, language.containing("b", world.vocabulary), horizon=4)
    assert cai.evaluate(world, None).entropy == pytest.approx(cai.evaluate(free, None).entropy, abs=1e-12)
    texts = torch.tensor([*itertools.product(range(3), repeat=4)])
    a, b = (one.log_next[one.along(texts)[:, :-1], texts].sum(-1) for one in (world, free))
    assert torch.allclose(a, b, atol=1e-12)
