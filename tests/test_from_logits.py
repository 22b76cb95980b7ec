"""Policies from functions of prefixes, and the distances of policies to the exact conditional, against all texts."""

from typing import Any

import pytest
import torch

import cai
from cai import language
from tests.test_conditional import all_texts, automaton, hidden

VOCABULARY = language.characters("ab ")
TRIGRAM = language.fit_ngram("abba baab bab aab  ab", 3, vocabulary=VOCABULARY)


def function(prefixes: torch.Tensor) -> torch.Tensor:
    """Return logits that depend on the order of all tokens."""
    places = torch.arange(1, prefixes.shape[-1] + 1)
    phase = (prefixes * places**2).sum(-1, keepdim=True) + torch.tensor([0.0, 0.7, 2.0])
    return torch.sin(phase)


def remembering(k: int, end: str | None = None) -> language.LanguageWorld:
    return language.language_world(language.Remembering(TRIGRAM, k), automaton(VOCABULARY), horizon=4, end=end)


def by_hand(world: Any, texts: torch.Tensor, k: int) -> torch.Tensor:
    """Return log π of texts, token by token."""
    end = None if world.end is None else world.vocabulary.number[world.end]
    found = []
    for text in texts.tolist():
        total = 0.0
        for t, x in enumerate(text):
            total += float(function(torch.tensor([text[max(0, t - k) : t]])).double().log_softmax(-1)[0, x])
            if x == end:
                break
        found.append(total)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(("k", "end"), [(3, None), (1, None), (3, " ")])
def test_a_function_of_prefixes_has_every_exact_account(k: int, end: str | None) -> None:
    world, alpha = remembering(k, end), 0.5
    policy, exact = cai.from_logits(function, world), language.conditional(remembering(k, end), temperature=alpha)
    texts = all_texts(world)
    log_pi = by_hand(world, texts, k)
    allowed = language.paid(world, texts) > -torch.inf  # after a token that must not be said nothing is remembered
    assert torch.allclose(language.log_prob(world, policy, texts)[allowed], log_pi[allowed], atol=1e-12)
    log_best = language.log_prob(world, exact, texts)
    assert float(log_pi[allowed].exp().sum()) < 1  # it says what is forbidden, and is infinitely far
    found = language.distance(exact, policy)
    assert found.reverse.value == torch.inf
    forward = float((log_best.exp() * torch.where(allowed, log_best - log_pi, 0.0)).sum())
    assert found.forward.value == pytest.approx(forward, abs=1e-9)


@pytest.mark.parametrize("listed", [True, False])
def test_distances_are_those_of_all_texts(listed: bool) -> None:
    paid = language.counting("ab", VOCABULARY, 2, 0.3)
    reference = language.Remembering(TRIGRAM, 3)
    free = language.PrefixWorld(reference, paid, 4)
    world = language.language_world(reference, paid, horizon=4) if listed else free
    policy, exact = cai.from_logits(function, world), language.conditional(world, temperature=0.2)
    texts = all_texts(world)
    log_pi, log_best = by_hand(world, texts, 3), language.log_prob(world, exact, texts)
    if listed:  # what has a policy is one, too
        solved = cai.solve(world, cai.VARIATIONAL, temperature=0.2)
        assert torch.allclose(language.log_prob(world, solved, texts), log_best, atol=1e-11)
    reverse, forward = (log_pi.exp() * (log_pi - log_best)).sum(), (log_best.exp() * (log_best - log_pi)).sum()
    found = language.distance(exact, policy, samples=4000)
    error = 1e-9 if listed else 5 * found.reverse.standard_error, 1e-9 if listed else 5 * found.forward.standard_error
    assert (found.reverse.standard_error == 0) == listed
    assert found.reverse.value == pytest.approx(float(reverse), abs=error[0])
    assert found.forward.value == pytest.approx(float(forward), abs=error[1])
    assert found.elbo.value == pytest.approx(exact.log_evidence - float(reverse), abs=error[0])
    if listed:
        table = cai.evaluate(world, policy, temperature=0.2)
        assert float(table.elbo) == pytest.approx(found.elbo.value, abs=1e-12)


def test_the_conditional_and_the_reference_of_a_hidden_markov_model_have_their_distances() -> None:
    world = hidden(" ")
    exact = language.conditional(world, temperature=0.5)
    own = language.distance(exact, exact, samples=200)
    assert own.reverse.value == pytest.approx(0, abs=1e-9)
    assert own.forward.value == pytest.approx(0, abs=1e-9)
    texts = all_texts(world)
    best, reference = (language.log_prob(world, policy, texts) for policy in (exact, None))
    forward = float((best.exp() * torch.where(best > -torch.inf, best - reference, 0.0)).sum())
    found = language.distance(exact, None, samples=4000)
    assert found.forward.value == pytest.approx(forward, abs=5 * found.forward.standard_error)
    assert found.reverse.value == torch.inf  # it may say aaa


def test_bad_input_is_one_clear_line() -> None:
    plain = language.language_world(TRIGRAM, automaton(VOCABULARY), horizon=4)
    with pytest.raises(cai.WorldError, match=r"reference: a NGram; expected cai.language.Remembering"):
        cai.from_logits(function, plain)
    with pytest.raises(cai.IntractableError, match=r"memories of up to 40 of 3 tokens.*cai.language.PrefixWorld"):
        remembering(40)
    world = remembering(2)
    with pytest.raises(cai.WorldError, match="context: 3; expected a whole number"):
        cai.from_logits(function, world, context=3)
    with pytest.raises(cai.WorldError, match=r"prefixes of 0 tokens: shape \[1, 2\]; expected logits of shape"):
        language.log_prob(world, cai.from_logits(lambda x: torch.zeros(len(x), 2), world), torch.zeros(4).long())
    nan = cai.from_logits(lambda x: torch.full((len(x), 3), torch.nan), world)
    with pytest.raises(cai.WorldError, match="prefixes of 0 tokens: logits that are NaN"):
        language.log_prob(world, nan, torch.zeros(4).long())


class Recurrent(torch.nn.Module):
    """A GRU that reads the remembered tokens of a world's features, the oldest first."""

    def __init__(self, k: int, V: int, hidden: int = 16) -> None:
        super().__init__()
        self.k, self.V = k, V
        self.reads, self.writes = torch.nn.GRU(V + 1, hidden, batch_first=True), torch.nn.Linear(hidden, V)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x[..., : self.k * (self.V + 1)].reshape(-1, self.k, self.V + 1)
        return self.writes(self.reads(tokens)[0][:, -1]).reshape(*x.shape[:-1], self.V)


@pytest.mark.slow
@pytest.mark.parametrize("listed", [True, False])
def test_a_recurrent_network_learns_to_write_and_is_measured(listed: bool) -> None:
    reference, paid = language.Remembering(TRIGRAM, 3), language.containing("bb", VOCABULARY)
    free = language.PrefixWorld(reference, paid, 4)
    world = language.language_world(reference, paid, horizon=4) if listed else free
    exact = language.conditional(world, temperature=0.3)
    torch.manual_seed(0)
    found = cai.learn.rloo(world, temperature=0.3, network=Recurrent(3, 3), lr=0.01, steps=160_000, progress=False)
    gap, before = (language.distance(exact, policy, samples=2000).reverse.value for policy in (found, None))
    print(f"{gap:.4f} nats, the reference {before:.4f}")
    assert gap < before / 4
