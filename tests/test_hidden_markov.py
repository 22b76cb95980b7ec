"""Hidden Markov models of language: against sums over all hidden paths, and expectation maximisation."""

import itertools
import os
import signal

import pytest
import torch

import cai
from cai import language
from cai.language.hidden_markov import expected_counts

TEXT = "abba baab bab aab  ab bababa abab"


def small(H: int = 3, seed: int = 0, forbidden: bool = False) -> language.HiddenMarkov:
    """Return a random model over the letters a and b and the space; one emission is impossible on request."""
    g = torch.Generator().manual_seed(seed)
    start, move, emit = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((H,), (H, H), (H, 3)))
    if forbidden:
        emit[0, 1], move[1, 2] = -torch.inf, -torch.inf
    vocabulary = language.Vocabulary(("a", "b", " "))
    return language.HiddenMarkov(vocabulary, *(x.log_softmax(-1) for x in (start, move, emit)))


def log_prob(model: language.HiddenMarkov, tokens: tuple[int, ...]) -> torch.Tensor:
    """Return log p(tokens), by the sum over all hidden paths."""
    each = []
    for path in itertools.product(range(model.hidden), repeat=len(tokens)):
        total = model.log_start[path[0]] + sum(model.log_emission[h, x] for h, x in zip(path, tokens, strict=True))
        each.append(total + sum(model.log_transition[h, k] for h, k in itertools.pairwise(path)))
    return torch.stack(each).logsumexp(0)


@pytest.mark.parametrize("forbidden", [False, True])
def test_beliefs_give_the_probability_of_each_next_token(forbidden: bool) -> None:
    model = small(forbidden=forbidden)
    for tokens in [(0, 2, 1, 0), (1, 1, 1, 2)]:
        belief, total = model.start, torch.zeros(())
        for x in tokens:
            total = total + model.next_probs(belief)[x].log()
            belief = model.following(belief, torch.tensor(x))
        assert torch.allclose(total.double(), log_prob(model, tokens), atol=1e-12)


def test_expected_counts_are_those_of_all_hidden_paths() -> None:
    model, tokens = small(2), (0, 2, 1, 0, 0)
    counts, log_p = expected_counts(model, torch.tensor(tokens))
    exact = torch.zeros(2, 2, dtype=torch.float64)
    for path in itertools.product(range(2), repeat=len(tokens)):
        total = model.log_start[path[0]] + sum(model.log_emission[h, x] for h, x in zip(path, tokens, strict=True))
        total = total + sum(model.log_transition[h, k] for h, k in itertools.pairwise(path))
        for h, k in itertools.pairwise(path):
            exact[h, k] += (total - log_prob(model, tokens)).exp()
    assert torch.allclose(counts[1], exact, atol=1e-12)
    assert log_p == pytest.approx(float(log_prob(model, tokens)), abs=1e-12)


def test_the_log_likelihood_never_falls_and_each_seed_repeats() -> None:
    text = language.plain(language.alice())[:650]
    model = language.fit_hidden_markov(text, 8, iterations=10, seed=3)
    history = torch.tensor(model.history, dtype=torch.float64)
    assert bool((history.diff() > 0).all())
    assert history[-1] > history[0] + 50
    again = language.fit_hidden_markov(text, 8, iterations=10, seed=3)
    assert torch.equal(model.log_transition, again.log_transition)


def test_ctrl_c_gives_the_model_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(model: language.HiddenMarkov, tokens: torch.Tensor) -> tuple[list[torch.Tensor], float]:
        os.kill(os.getpid(), signal.SIGINT)
        return expected_counts(model, tokens)

    monkeypatch.setattr("cai.language.hidden_markov.expected_counts", pressed)
    assert len(language.fit_hidden_markov(TEXT, 3, iterations=50).history) == 1


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(cai.WorldError, match="hidden Markov, text: no token"):
        language.fit_hidden_markov("", 3)
    with pytest.raises(cai.WorldError, match="hidden Markov, text, token 0: 'z'"):
        language.fit_hidden_markov("z", 3, vocabulary=language.characters("ab"))
    with pytest.raises(cai.WorldError, match="hidden Markov, states: 0"):
        language.fit_hidden_markov(TEXT, 0)
    with pytest.raises(cai.IntractableError, match="10,000,000 hidden states"):
        language.fit_hidden_markov(TEXT, 10_000_000)
    good = small()
    emission = good.log_emission.clone()
    emission[1] = -torch.inf
    with pytest.raises(cai.WorldError, match="log_emission of hidden state 1: probabilities that sum to 0"):
        language.HiddenMarkov(good.vocabulary, good.log_start, good.log_transition, emission)
    with pytest.raises(cai.WorldError, match=r"log_transition: shape \(2, 3\)"):
        language.HiddenMarkov(good.vocabulary, good.log_start, good.log_transition[:2], good.log_emission)
