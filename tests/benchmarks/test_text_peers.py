"""Samplers of texts beside the exact conditional: a trigram of 27 letters that is to say " the " in 12 letters."""

from typing import Any

import pytest

from cai import language

T, PARTICLES, RUNS = 12, 100, 100


@pytest.fixture(scope="module")
def worlds() -> tuple[language.LanguageWorld, language.LanguageWorld]:
    """Return the world of the trigram, and that of the bigram, whose messages are a twist."""
    text, vocabulary = language.plain(language.alice()), language.characters()
    paid = language.containing(" the ", vocabulary)
    trigram, bigram = (language.fit_ngram(text, n, vocabulary=vocabulary) for n in (3, 2))
    return tuple(language.language_world(reference, paid, horizon=T) for reference in (trigram, bigram))  # type: ignore[return-value]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.5, 1.0])
def test_samplers(worlds: Any, alpha: float) -> None:
    world = worlds[0]
    exact, twist = (language.conditional(each, temperature=alpha) for each in worlds)
    variance = language.relative_variance(world, temperature=alpha)
    print(f"\nα = {alpha:g}: log Z = {exact.log_evidence:.4f}; Var w / Z² of importance sampling {variance:.3g}")
    twists = {"β, the perfect twist": exact, "β of the bigram": twist, "no twist": None}
    for name, psi in twists.items():
        settings = {"particles": PARTICLES, "runs": RUNS, "progress": False}
        found = language.sequential_monte_carlo(world, temperature=alpha, twist=psi, **settings)  # type: ignore[arg-type]
        bias = found.bias(exact.log_evidence)
        print(f"  {name}: log Ẑ = {found.log_evidence}, E log Ẑ - log Z = {bias.value:.2g} ± {bias.standard_error:.2g}")
        assert abs(found.log_evidence.value - exact.log_evidence) <= 5 * found.log_evidence.standard_error + 1e-9
    for name, policy in {"the reference": None, "constrained decoding": language.masked(world)}.items():
        gap = language.distance(exact, policy)
        print(f"  {name}: KL to the conditional {gap.reverse.value:.4f}, from it {gap.forward.value:.4f}")
    best = language.tilted(world, temperature=alpha)
    for n in (4, 16, 64, 256):
        samplers = (language.best_of_n(world, n), language.rejection_sampling(world, n, temperature=alpha))
        print("  " + "; ".join(f"{each.name}: KL {each.kl(best):.4f}" for each in samplers))
