"""Worlds of language against the enumeration of all texts."""

import itertools

import pytest
import torch

import cai
from cai import language


def enumerated(world: language.LanguageWorld, alpha: float) -> dict[tuple[int, ...], float]:
    """Return log p(text) + reward/α of every text, up to its end token, by reading it token by token."""
    reference, automaton, found = world.reference, world.automaton, dict[tuple[int, ...], float]()
    end = None if world.end is None else world.vocabulary.number[world.end]
    for tokens in itertools.product(range(len(world.vocabulary)), repeat=world.horizon):
        memory, q, total, said = torch.tensor([reference.start]), automaton.start, 0.0, []
        for x in tokens:
            said.append(x)
            total += float(reference.log_next(memory)[0, x]) + float(automaton.reward[q, x]) / alpha
            if x == end:
                break
            memory, q = reference.following(memory)[:, x], int(automaton.successor[q, x])
        found[tuple(said)] = total + float(automaton.final[q]) / alpha
    return found


def small(end: str | None, order: int = 3) -> language.LanguageWorld:
    vocabulary = language.characters("ab ")
    reference = language.fit_ngram("abba baab bab aab  ab", order, vocabulary=vocabulary)
    paid = language.counting("ab", vocabulary, 2, 0.3)
    automaton = language.containing("bb", vocabulary) & paid & language.forbidding("aaa", vocabulary)
    return language.language_world(reference, automaton, horizon=4, end=end)


@pytest.mark.parametrize("end", [None, " "])
def test_log_evidence_and_conditional_are_those_of_all_texts(end: str | None) -> None:
    world = small(end)
    texts = enumerated(world, 0.1)
    log_z = torch.tensor(list(texts.values()), dtype=torch.float64).logsumexp(0)
    found = cai.solve(world, temperature=0.1)
    assert torch.allclose(found.log_evidence, log_z, atol=1e-12)
    assert torch.allclose(cai.solve(world, cai.VARIATIONAL, temperature=0.1).elbo, log_z, atol=1e-12)
    padded = torch.tensor([[*text, *[0] * (4 - len(text))] for text in texts])
    log_p = language.log_prob(world, found.policy, padded)
    assert torch.allclose(log_p, torch.tensor(list(texts.values()), dtype=torch.float64) - log_z, atol=1e-12)


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
