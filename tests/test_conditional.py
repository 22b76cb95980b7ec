"""The exact conditional of texts against the enumeration of all of them, with hidden Markov models and n-grams."""

import itertools
import math
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical

import cai
from cai import language
from tests.test_hidden_markov import small

ALPHAS = (1.0, 0.1, 0.01)


def automaton(vocabulary: language.Vocabulary) -> language.Automaton:
    paid = language.counting("ab", vocabulary, 2, 0.3)
    return language.containing("bb", vocabulary) & paid & language.forbidding("aaa", vocabulary)


def hidden(end: str | None = None, forbidden: bool = False, horizon: int = 4) -> language.PrefixWorld:
    model = small(forbidden=forbidden)
    return language.language_world(model, automaton(model.vocabulary), horizon=horizon, end=end)


def all_texts(world: Any) -> torch.Tensor:
    """Return all texts, padded with 0 after their end token."""
    end = None if world.end is None else world.vocabulary.number[world.end]
    found = set()
    for tokens in itertools.product(range(len(world.vocabulary)), repeat=world.horizon):
        length = tokens.index(end) + 1 if end in tokens else world.horizon
        found.add(tokens[:length] + (0,) * (world.horizon - length))
    return torch.tensor(sorted(found))


def joint(world: Any, alpha: float) -> torch.Tensor:
    """Return log p(text) + reward/α of all texts, by the sums over all hidden paths and the automaton's own rules."""
    model, automaton, found = world.reference, world.automaton, []
    end = None if world.end is None else world.vocabulary.number[world.end]
    for tokens in all_texts(world).tolist():
        said = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        forward, q, reward = model.log_start, automaton.start, 0.0
        for i, x in enumerate(said):
            forward = forward + model.log_emission[:, x]
            reward += float(automaton.reward[q, x])
            if x == end:
                break
            q = int(automaton.successor[q, x])
            if i + 1 < len(said):
                forward = (forward.unsqueeze(-1) + model.log_transition).logsumexp(0)
        found.append(forward.logsumexp(0) + (reward + float(automaton.final[q])) / alpha)
    return torch.stack(found)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("end", "forbidden"), [(None, False), (" ", False), (None, True), (" ", True)])
def test_the_conditional_of_a_hidden_markov_model_is_that_of_all_texts(
    alpha: float, end: str | None, forbidden: bool
) -> None:
    world = hidden(end, forbidden)
    found, texts, exact = language.conditional(world, temperature=alpha), all_texts(world), joint(world, alpha)
    assert found.log_evidence == pytest.approx(float(exact.logsumexp(0)), abs=1e-12 / alpha)
    log_p = language.log_prob(world, found, texts)
    assert torch.allclose(log_p, exact - exact.logsumexp(0), atol=1e-12 / alpha, rtol=0)
    assert bool((log_p <= 0).all())
    after = language.next_tokens(world, found, texts)
    assert bool((after <= 0).all())
    assert torch.allclose(after.exp().sum(-1), torch.ones(after.shape[:-1], dtype=torch.float64))
    for t in range(world.horizon):  # p(x | prefix, O), of every prefix, by the sum over all texts
        for text in texts[torch.isfinite(exact)][::7]:
            same = (texts[:, :t] == text[:t]).all(-1)
            each = torch.stack([exact[same & (texts[:, t] == x)].logsumexp(0) for x in range(3)])
            if end is not None and bool((text[:t] == world.vocabulary.number[end]).any()):
                continue
            probs = language.next_tokens(world, found, text)[t].exp()
            assert torch.allclose(probs, (each - exact[same].logsumexp(0)).exp(), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_five_letters_and_six_tokens() -> None:
    """15,625 texts, of a hidden Markov model of six states."""
    vocabulary, g = language.characters("abcde"), torch.Generator().manual_seed(1)
    tables = [torch.randn(*s, generator=g, dtype=torch.float64).log_softmax(-1) for s in ((6,), (6, 6), (6, 5))]
    world = language.language_world(language.HiddenMarkov(vocabulary, *tables), automaton(vocabulary), horizon=6)
    exact, texts = joint(world, 0.1), all_texts(world)
    found = language.conditional(world, temperature=0.1)
    assert found.log_evidence == pytest.approx(float(exact.logsumexp(0)), abs=1e-9)
    log_p = language.log_prob(world, found, texts)
    assert torch.allclose(log_p, exact - exact.logsumexp(0), atol=1e-9)
    reference = language.log_prob(world, None, texts)
    forward = (log_p.exp() * torch.where(log_p > -torch.inf, log_p - reference, 0.0)).sum()
    far = language.distance(found, None)
    assert far.forward.value == pytest.approx(float(forward), abs=5 * far.forward.standard_error)


def test_what_is_ahead_of_a_prefix_is_the_mean_over_its_texts() -> None:
    model = small()
    accepted = language.containing("bb", model.vocabulary, 0.0, -torch.inf)
    world = language.language_world(model, accepted, horizon=5)
    found = language.conditional(world)
    texts, exact = all_texts(world), joint(world, 1.0)
    free = language.language_world(model, language.containing("bb", model.vocabulary, 0.0), horizon=5)
    said = joint(free, 1.0)
    chances = found.log_constraint(texts)
    for t in range(6):
        same = (texts[:, :t].unsqueeze(1) == texts[:, :t]).all(-1)
        expected = torch.stack([exact[one].logsumexp(0) - said[one].logsumexp(0) for one in same])
        assert torch.allclose(chances[:, t].exp(), expected.exp(), atol=1e-12)
    assert bool((chances <= 0).all())


def test_a_hidden_markov_model_of_certain_states_gives_the_numbers_of_its_bigram() -> None:
    vocabulary = language.characters("ab ")
    bigram = language.fit_ngram("abba baab bab aab  ab", 2, vocabulary=vocabulary)
    certain = torch.eye(3, dtype=torch.float64).log()
    model = language.HiddenMarkov(vocabulary, bigram.log_probs[0], bigram.log_probs[1:], certain)
    for end in (None, " "):
        worlds = [
            language.language_world(reference, automaton(vocabulary), horizon=5, end=end)
            for reference in (bigram, model)
        ]
        one, two = (language.conditional(world, temperature=0.1) for world in worlds)
        assert one.log_evidence == pytest.approx(two.log_evidence, abs=1e-11)
        texts = all_texts(worlds[0])
        assert torch.allclose(one.log_constraint(texts), two.log_constraint(texts), atol=1e-11)
        pair = [language.next_tokens(each.world, each, texts).exp() for each in (one, two)]
        assert torch.allclose(*pair, atol=1e-12)
        assert torch.allclose(language.paid(worlds[0], texts), language.paid(worlds[1], texts))
        assert torch.allclose(
            language.perplexity(worlds[0], one, texts), language.perplexity(worlds[1], two, texts), rtol=1e-9
        )


class Seen:
    """A world of a hidden Markov model in which the hidden state is seen."""

    stationary = True

    def __init__(self, world: language.PrefixWorld) -> None:
        self.world, self.model, self.horizon = world, world.reference, world.horizon

    def initial(self) -> Any:
        h = pyro.sample("hidden", Categorical(logits=self.model.log_start))
        return {"hidden": h, "place": pyro.sample("place", cai.Point(torch.tensor(0), len(self.world.final)))}

    def act(self, state: Any, t: int) -> Any:
        return pyro.sample("token", Categorical(logits=self.model.log_emission[state["hidden"]]))

    def step(self, state: Any, action: Any, t: int) -> Any:
        h = pyro.sample("hidden", Categorical(logits=self.model.log_transition[state["hidden"]]))
        q = self.world.successor[state["place"], action]
        place = pyro.sample("place", cai.Point(q, len(self.world.final)))
        return {"hidden": h, "place": place}, self.world.reward[state["place"], action]

    def terminal(self, state: Any) -> Any:
        return self.world.final[state["place"]]


def test_beta_is_the_posterior_message_of_the_world_whose_hidden_state_is_seen() -> None:
    world = hidden()
    seen = cai.solve(Seen(world), temperature=0.1)
    found = language.conditional(world, temperature=0.1)
    assert float(seen.log_evidence) == pytest.approx(found.log_evidence, abs=1e-10)
    assert torch.allclose(seen.v / 0.1, found.messages.log_beta.flatten(1), atol=1e-10)  # type: ignore[attr-defined]


def test_samples_are_texts_of_the_conditional() -> None:
    world = hidden(horizon=3)
    found = language.conditional(world, temperature=0.2)
    n = 20_000
    drawn = language.sample(world, found, n, torch.Generator().manual_seed(0))
    texts = all_texts(world)
    probs = language.log_prob(world, found, texts).exp()
    seen = (drawn.unsqueeze(1) == texts).all(-1).double().mean(0)
    error = (probs * (1 - probs) / n).sqrt()
    assert bool(((seen - probs).abs() <= 5 * error + 1e-12).all())


def test_a_cold_temperature_and_rare_hidden_states_lose_nothing() -> None:
    """The only way to the word lies through a hidden state of probability e^-600, and pays a thousand nats."""
    vocabulary = language.Vocabulary(("a", "b"))
    rare = torch.tensor([0.0, -600.0], dtype=torch.float64)
    emission = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]], dtype=torch.float64)
    model = language.HiddenMarkov(vocabulary, rare, torch.stack((rare, rare.flip(0))), emission)
    world = language.language_world(model, language.containing("bb", vocabulary), horizon=3)
    found = language.conditional(world, temperature=0.001)
    assert found.log_evidence == pytest.approx(400.0 + math.log(2), abs=1e-9)
    world = language.language_world(model, language.containing("b", vocabulary, rejected=-torch.inf), horizon=3)
    found = language.conditional(world, temperature=0.001)
    assert found.log_evidence == pytest.approx(400.0 + math.log(3), abs=1e-9)


def test_an_impossible_constraint_and_a_wrong_temperature_are_refused() -> None:
    model = small(forbidden=True)
    never = language.containing("aaaaa", model.vocabulary, rejected=-torch.inf)
    world = language.language_world(model, never, horizon=4)
    with pytest.raises(cai.ImpossibleError, match="each text of 4 tokens that it accepts"):
        language.conditional(world)
    with pytest.raises(cai.IntractableError, match="H = 3 hidden states and Q = 23 of"):
        language.conditional(hidden(horizon=10**12))
    with pytest.raises(cai.WorldError, match="one vocabulary for both"):
        language.language_world(model, language.containing("b", language.characters("ab")), horizon=4)
    with pytest.raises(cai.WorldError, match="conditional, temperature: 0"):
        language.conditional(hidden(), temperature=0)


@pytest.mark.parametrize("end", [None, " "])
def test_a_prefix_world_can_be_simulated(end: str | None) -> None:
    world = hidden(end)
    generator = torch.Generator().manual_seed(0)
    found = cai.rollout(world, language.conditional(world, temperature=0.1), batch=200, generator=generator)
    texts = found.actions.T
    assert torch.allclose(found.rewards.double().sum(0), language.paid(world, texts), atol=1e-6)
    assert found.states["belief"].shape == (5, 200, 3)
    assert cai.rollout(world, batch=7).returns.shape == (7,)
    assert [finding.where for finding in cai.check(world)] == ["act, variable 'token'"]  # no form has mixed states


@pytest.mark.parametrize("end", [None, " "])
def test_states_that_are_listed_and_those_that_are_not_give_the_same(end: str | None) -> None:
    vocabulary = language.characters("ab ")
    trigram = language.fit_ngram("abba baab bab aab  ab", 3, vocabulary=vocabulary)
    listed = language.language_world(trigram, automaton(vocabulary), horizon=4, end=end)
    remembering = language.Remembering(trigram, 3)
    free = language.PrefixWorld(remembering, automaton(vocabulary), 4, end)
    both = language.language_world(remembering, automaton(vocabulary), horizon=4, end=end)
    texts = all_texts(listed)
    first = language.conditional(listed, temperature=0.1)
    for world in (free, both):
        other = language.conditional(world, temperature=0.1)
        assert other.log_evidence == pytest.approx(first.log_evidence, abs=1e-12)
        assert torch.allclose(other.log_constraint(texts), first.log_constraint(texts), atol=1e-11)
        assert torch.allclose(
            language.log_prob(world, other, texts), language.log_prob(listed, first, texts), atol=1e-11
        )
    for t in range(4):
        one, two = both.along(texts)[..., t], free.along(texts)[t]
        going = ~both.terminated(one)
        assert torch.equal(both.recent(one)[going], free.recent(two)[going])
        assert torch.equal(both.features(one)[going][:, :12], free.features(two)[going][:, :12])
    assert cai.check(both) == []
