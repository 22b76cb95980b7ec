"""Samplers of texts beside the exact conditional, against the enumeration of all texts."""

import itertools
import math
from typing import Any

import pytest
import torch

import cai
from cai import language
from tests.test_conditional import all_texts, automaton, hidden

VOCABULARY = language.characters("ab ")
TEXT = "abba baab bab aab  ab"
TRIGRAM, BIGRAM = (language.fit_ngram(TEXT, n, vocabulary=VOCABULARY) for n in (3, 2))
PAID = language.containing("bb", VOCABULARY) & language.counting("ab", VOCABULARY, 2, 0.3)


def listed(end: str | None = None, horizon: int = 4, paid: Any = None) -> language.LanguageWorld:
    return language.language_world(TRIGRAM, PAID if paid is None else paid, horizon=horizon, end=end)


@pytest.mark.parametrize("end", [None, " "])
@pytest.mark.parametrize("kind", ["listed", "hidden"])
def test_masking_keeps_what_an_accepted_text_can_begin_with(kind: str, end: str | None) -> None:
    world = listed(end, paid=automaton(VOCABULARY)) if kind == "listed" else hidden(end)
    policy, texts = language.masked(world), all_texts(world)
    accepted = language.paid(world, texts) >= 1  # contains bb, and not aaa
    masked, free = language.log_prob(world, policy, texts), language.log_prob(world, None, texts)
    assert bool(((masked > -torch.inf) == accepted).all())
    assert float(masked.exp().sum()) == pytest.approx(1, abs=1e-12)
    after, own = language.next_tokens(world, policy, texts), language.next_tokens(world, None, texts)
    stop = None if end is None else world.vocabulary.number[end]
    for text, log_pi, log_p in zip(texts[accepted], after[accepted], own[accepted], strict=True):
        for t in range(world.horizon):
            if stop is not None and stop in text[:t].tolist():
                break
            begins = (texts[:, :t] == text[:t]).all(-1) & accepted
            left = torch.tensor([bool((begins & (texts[:, t] == x)).any()) for x in range(3)])
            kept = torch.where(left, log_p[t].exp(), 0.0)
            assert torch.allclose(log_pi[t].exp(), kept / kept.sum(), atol=1e-12)
    assert bool(free.isfinite().all())
    if kind == "listed":
        exact = language.conditional(world, temperature=0.05)
        assert language.distance(exact, policy).reverse.value > 0.01  # blind to what comes later


@pytest.mark.parametrize("world", [listed(), listed(" "), hidden(), hidden(" ")])
def test_the_exact_messages_are_the_perfect_twist(world: Any) -> None:
    exact = language.conditional(world, temperature=0.1)
    found = language.sequential_monte_carlo(world, temperature=0.1, twist=exact, particles=7, runs=3)
    assert torch.allclose(found.log_estimates, torch.full((3,), exact.log_evidence, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(found.log_weights.exp(), torch.tensor(1 / 7, dtype=torch.float64))
    assert bool((language.log_prob(world, exact, found.tokens) > -torch.inf).all())


@pytest.mark.parametrize("world", [listed(" "), hidden()])
@pytest.mark.parametrize("resample_below", [0.0, 0.7])
def test_the_estimate_of_z_has_no_bias_and_that_of_log_z_is_too_low(world: Any, resample_below: float) -> None:
    exact = language.conditional(world, temperature=0.4)
    found = language.sequential_monte_carlo(
        world, temperature=0.4, particles=4, runs=100, resample_below=resample_below, seed=1
    )
    ratio = (found.log_estimates - exact.log_evidence).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / 10)
    assert found.log_evidence.value == pytest.approx(exact.log_evidence, abs=5 * found.log_evidence.standard_error)
    reachable = found.log_estimates.isfinite()
    if bool(reachable.all()):
        bias = found.bias(exact.log_evidence)
        assert bias.value < 4 * bias.standard_error
    again = language.sequential_monte_carlo(
        world, temperature=0.4, particles=4, runs=2, resample_below=resample_below, seed=1
    )
    assert torch.equal(again.tokens, found.tokens[:2])


def test_a_bigram_is_a_good_twist_of_a_trigram() -> None:
    world, shorter = listed(), language.language_world(BIGRAM, PAID, horizon=4)
    exact, twist = (language.conditional(each, temperature=0.1) for each in (world, shorter))
    settings = {"temperature": 0.1, "particles": 10, "runs": 40}
    with_twist, without = (language.sequential_monte_carlo(world, twist=x, **settings) for x in (twist, None))
    errors = [each.log_evidence.standard_error for each in (with_twist, without)]
    assert errors[0] < errors[1] / 5
    assert with_twist.log_evidence.value == pytest.approx(exact.log_evidence, abs=5 * errors[0])


def test_a_twist_of_another_world_leaves_the_estimate_without_bias() -> None:
    """Of a bigram that never says much of what the world's reference says, and with other rewards."""
    sparse = language.fit_ngram(TEXT, 2, vocabulary=VOCABULARY, smoothing="add", delta=0.0)
    world = listed(paid=automaton(VOCABULARY))
    free = language.language_world(sparse, language.containing("bb", VOCABULARY), horizon=4)
    exact, twist = language.conditional(world, temperature=0.4), language.conditional(free, temperature=0.4)
    found = language.sequential_monte_carlo(world, temperature=0.4, twist=twist, particles=4, runs=100, seed=2)
    ratio = (found.log_estimates - exact.log_evidence).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / 10)


def test_of_one_particle_the_bias_is_the_kl_of_the_reference() -> None:
    world = listed()
    exact = language.conditional(world, temperature=0.4)
    found = language.sequential_monte_carlo(world, temperature=0.4, particles=1, runs=200, resample_below=0.0)
    bias, kl = found.bias(exact.log_evidence), language.distance(exact, None).reverse.value
    assert bias.value == pytest.approx(-kl, abs=4 * bias.standard_error)
    found = language.sequential_monte_carlo(world, temperature=0.4, particles=20, runs=50, resample_below=0.0)
    more = found.bias(exact.log_evidence)
    assert bias.value < more.value < 4 * more.standard_error  # Jensen: log Ẑ is too low in the mean


def test_the_variance_of_importance_sampling_is_that_over_all_texts() -> None:
    world = listed(" ")
    texts = all_texts(world)
    p, w = language.log_prob(world, None, texts).exp(), (language.paid(world, texts) / 0.3).exp()
    z = float((p * w).sum())
    assert language.relative_variance(world, temperature=0.3) == pytest.approx(float((p * w**2).sum()) / z**2 - 1)


@pytest.mark.parametrize(
    "world",
    [
        listed(),
        listed(" "),
        listed(" ", paid=automaton(VOCABULARY)),
        hidden(),
        hidden(" ", forbidden=True),
        language.PrefixWorld(language.Remembering(TRIGRAM, 2), PAID, 4),
    ],
)
def test_the_law_of_the_reward_is_that_of_all_texts(world: Any) -> None:
    law, texts = language.reward_law(world), all_texts(world)
    p, r = language.log_prob(world, None, texts).exp(), language.paid(world, texts)
    assert law.rewards.tolist() == pytest.approx(sorted({round(x, 9) for x in r[p > 0].tolist()}))
    for reward, log_p in zip(law.rewards, law.log_probs, strict=True):
        same = r == reward if reward == -torch.inf else (r - reward).abs() < 1e-6
        assert float(log_p.exp()) == pytest.approx(float(p[same].sum()), abs=1e-12)
    best = language.best_of_n(world, 4).log_prob(texts)
    assert float(best.exp().sum()) == pytest.approx(1, abs=1e-12)


def best_by_hand(world: Any, texts: torch.Tensor, n: int) -> torch.Tensor:
    """Return the probability of each text under best-of-n, by all n-tuples; equals are drawn by chance."""
    p, r = language.log_prob(world, None, texts).exp().tolist(), language.paid(world, texts).round(decimals=6).tolist()
    found = torch.zeros(len(texts), dtype=torch.float64)
    for group in itertools.product(range(len(texts)), repeat=n):
        best = [i for i in group if r[i] == max(r[j] for j in group)]
        for i in best:
            found[i] += math.prod(p[j] for j in group) / len(best)
    return found


@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_n_is_that_over_all_tuples_of_texts(n: int) -> None:
    world = listed(horizon=2, paid=language.containing("bb", VOCABULARY) & language.counting("a", VOCABULARY, 1, 0.3))
    texts = all_texts(world)
    best = language.best_of_n(world, n)
    exact = best_by_hand(world, texts, n)
    assert torch.allclose(best.log_prob(texts).exp(), exact, atol=1e-12)
    log_p, tilted = language.log_prob(world, None, texts), language.tilted(world, temperature=0.5)
    log_best = language.log_prob(world, language.conditional(world, temperature=0.5), texts)
    assert torch.allclose(tilted.log_prob(texts), log_best, atol=1e-12)
    assert best.kl() == pytest.approx(float((exact * (exact.log() - log_p)).sum()), abs=1e-12)
    assert best.kl(tilted) == pytest.approx(float((exact * (exact.log() - log_best)).sum()), abs=1e-12)
    assert tilted.kl(best) == pytest.approx(float((log_best.exp() * (log_best - exact.log())).sum()), abs=1e-12)
    assert best.kl() <= math.log(n) - (n - 1) / n + 1e-12
    assert best.expected_reward == pytest.approx(float((exact * language.paid(world, texts)).sum()), abs=1e-12)


def test_rejection_sampling_nears_the_exact_conditional() -> None:
    world, alpha = listed(), 0.3
    texts, exact = all_texts(world), language.tilted(world, temperature=alpha)
    p, r = language.log_prob(world, None, texts).exp(), language.paid(world, texts)
    chance = ((r - r.max()) / alpha).exp()
    two = p * chance + (1 - float((p * chance).sum())) * p
    found = [language.rejection_sampling(world, tries, temperature=alpha) for tries in (1, 2, 20, 100_000)]
    assert torch.allclose(found[0].log_prob(texts), p.log(), atol=1e-12)
    assert torch.allclose(found[1].log_prob(texts).exp(), two, atol=1e-12)
    gaps = [each.kl(exact) for each in found]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == pytest.approx(0, abs=1e-9)


def test_samples_have_the_laws_that_are_said_of_them() -> None:
    world, n = listed(), 20_000
    texts = all_texts(world)
    samplers = (
        language.best_of_n(world, 4),
        language.rejection_sampling(world, 3, temperature=0.3),
        language.tilted(world, temperature=0.3),
    )
    for sampler in samplers:
        probs = sampler.log_prob(texts).exp()
        assert float(probs.sum()) == pytest.approx(1, abs=1e-9)
        drawn = sampler.sample(n, torch.Generator().manual_seed(0))
        number = (drawn * torch.tensor([27, 9, 3, 1])).sum(-1)
        seen = torch.bincount(number, minlength=81).double() / n
        assert bool(((seen - probs).abs() <= 5 * (probs * (1 - probs) / n).sqrt() + 1e-12).all()), sampler.name


def test_bad_input_is_one_clear_line() -> None:
    world = listed()
    other = language.conditional(listed(horizon=3))
    with pytest.raises(cai.WorldError, match="twist: 3 tokens, T = 3; expected the world's own 3 tokens, T = 4"):
        language.sequential_monte_carlo(world, twist=other)
    with pytest.raises(cai.WorldError, match="resample_below: 2"):
        language.sequential_monte_carlo(world, resample_below=2)
    with pytest.raises(cai.WorldError, match="best_of_n, n: 0"):
        language.best_of_n(world, 0)
    never = language.containing("aaaaa", VOCABULARY)
    with pytest.raises(cai.ImpossibleError, match="no text of"):
        language.masked(listed(paid=never))
