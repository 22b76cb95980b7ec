"""A hidden Markov model of 128 states and an automaton of 12: p(token | prefix, O) for a whole text of 50 tokens."""

from typing import Any

import pytest
import torch

from cai import language

STATES, TOKENS, PLACES, T = 128, 200, 12, 50


@pytest.fixture(scope="module")
def world() -> language.PrefixWorld:
    g = torch.Generator().manual_seed(0)
    shapes = ((STATES,), (STATES, STATES), (STATES, TOKENS))
    tables = [(2 * torch.randn(*s, generator=g, dtype=torch.float64)).log_softmax(-1) for s in shapes]
    vocabulary = language.Vocabulary(tuple(f"w{i}" for i in range(TOKENS)), " ")
    automaton = language.containing(" ".join(vocabulary.tokens[: PLACES - 1]), vocabulary)
    return language.language_world(language.HiddenMarkov(vocabulary, *tables), automaton, horizon=T)


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_messages(benchmark: Any, world: language.PrefixWorld, alpha: float) -> None:
    benchmark.pedantic(language.conditional, (world,), {"temperature": alpha}, rounds=5, warmup_rounds=1)
    print(f"\nα = {alpha:g}: messages in {benchmark.stats.stats.median * 1000:.0f} ms")


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_every_next_token_of_a_text(benchmark: Any, world: language.PrefixWorld, alpha: float) -> None:
    exact = language.conditional(world, temperature=alpha)
    text = language.sample(world, exact, 1, torch.Generator().manual_seed(0))[0]
    found = benchmark.pedantic(language.next_tokens, (world, exact, text), rounds=20, warmup_rounds=1)
    assert found.shape == (T, TOKENS)
    assert bool((found <= 0).all())
    assert benchmark.stats.stats.median < 0.1
    print(f"\nα = {alpha:g}: {T} prefixes in {benchmark.stats.stats.median * 1000:.0f} ms")


@pytest.mark.parametrize("states", [64, 128, 256])
def test_expectation_maximisation(benchmark: Any, states: int) -> None:
    text = language.plain(language.alice())
    settings = {"iterations": 1, "progress": False}
    benchmark.pedantic(language.fit_hidden_markov, (text, states), settings, rounds=2)
    print(f"\nH = {states}, {len(text):,} letters: {benchmark.stats.stats.median:.1f} s an iteration")
