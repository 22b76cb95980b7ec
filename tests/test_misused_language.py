"""Language worlds, misused: one clear line each, never a traceback, NaN or a number that means nothing."""

import dataclasses
import pickle
from collections.abc import Callable

import pytest
import torch

import cai
from cai import language
from tests.worlds import RandomWorld

AB = language.characters("ab")
BIGRAM, CONTAINS = language.fit_ngram("abbabaab", 2), language.containing("ab", AB)
HIDDEN = language.fit_hidden_markov("abbabaab" * 5, 2, iterations=1, progress=False)
WORLDS = {
    "listed": language.language_world(BIGRAM, CONTAINS, horizon=4),
    "hidden": language.language_world(HIDDEN, CONTAINS, horizon=4),
}
NO_TEXTS = {
    "a token too high": torch.tensor([0, 2, 0, 1]),
    "a token too low": torch.tensor([0, -1, 0, 1]),
    "too many tokens": torch.tensor([0, 1, 0, 1, 0]),
    "a list": [0, 1, 0, 1],
    "a text": "abab",
    "numbers with a point": torch.tensor([0.0, 1.0, 0.0, 1.0]),
    "one number": torch.tensor(1),
}
TAKES_TEXTS: dict[str, Callable] = {
    "log_prob": lambda world, exact, texts: language.log_prob(world, exact, texts),
    "perplexity": lambda world, exact, texts: language.perplexity(world, exact, texts),
    "next_tokens": lambda world, exact, texts: language.next_tokens(world, exact, texts),
    "paid": lambda world, exact, texts: language.paid(world, texts),
    "log_constraint": lambda world, exact, texts: exact.log_constraint(texts),
}
TAKES_WORLD: dict[str, Callable] = {
    "conditional": language.conditional,
    "masked": language.masked,
    "reward_law": language.reward_law,
    "relative_variance": language.relative_variance,
    "best_of_n": lambda world: language.best_of_n(world, 2),
    "sequential_monte_carlo": language.sequential_monte_carlo,
    "from_logits": lambda world: cai.from_logits(lambda prefixes: prefixes, world),
    "sample": lambda world: language.sample(world, None, 1, torch.Generator()),
    "paid": lambda world: language.paid(world, torch.tensor([0, 1])),
}
MISUSED: dict[str, Callable] = {
    "no reference": lambda: language.language_world(3, CONTAINS, horizon=3),
    "no automaton": lambda: language.PrefixWorld(BIGRAM, BIGRAM, 3),
    "remembering nothing": lambda: language.Remembering(None, 2),
    "an automaton and a number": lambda: CONTAINS & 3,
    "no vocabulary": lambda: language.containing("a", "ab"),
    "a pattern without a vocabulary": lambda: language.matching("a", None),
    "a pattern that is a number": lambda: language.matching(3, AB),
    "pays nothing": lambda: language.containing("a", AB, None),
    "each pays nothing": lambda: language.counting("a", AB, 2, None),
    "no text": lambda: language.fit_ngram(3),
    "words of no text": lambda: language.words(None),
    "tokens in a text": lambda: language.Vocabulary("ab"),
    "a twist that is a world": lambda: language.sequential_monte_carlo(WORLDS["listed"], twist=WORLDS["listed"]),
    "no policy": lambda: language.log_prob(WORLDS["listed"], 3, torch.tensor([0, 1])),
    "a distance to a world": lambda: language.distance(WORLDS["listed"], None),
    "a forward KL of a world": lambda: language.forward_kl(WORLDS["listed"], None),
    "no temperature": lambda: language.relative_variance(WORLDS["listed"], temperature=None),
    "perplexity of no token": lambda: language.perplexity(WORLDS["listed"], None, torch.zeros(0, dtype=torch.long)),
    "half a text is paid": lambda: language.paid(WORLDS["listed"], torch.tensor([0, 1])),
    "minus one text": lambda: language.sample(WORLDS["hidden"], None, -1, torch.Generator()),
    "no text of the best": lambda: language.best_of_n(WORLDS["listed"], 2).sample(0, torch.Generator()),
    "a vocabulary of text": lambda: language.fit_ngram("abab", vocabulary="ab"),
    "a hidden Markov model of another": lambda: language.fit_hidden_markov("abab", 2, vocabulary=HIDDEN),
    "an order of none": lambda: language.NGram(AB, None, BIGRAM.log_probs),
    "a table that is a list": lambda: language.NGram(AB, 1, [[0.5, 0.5]]),
    "a start that is a number": lambda: dataclasses.replace(HIDDEN, log_start=1),
    "successors with a point": lambda: dataclasses.replace(CONTAINS, successor=CONTAINS.reward),
    "an automaton of no vocabulary": lambda: dataclasses.replace(CONTAINS, vocabulary=None),
    "labels of none": lambda: dataclasses.replace(CONTAINS, labels=None),
    "a start of text": lambda: dataclasses.replace(CONTAINS, start="a"),
    "visiting a number": lambda: CONTAINS.visiting(1),
    "an end of a list": lambda: language.language_world(BIGRAM, CONTAINS, horizon=3, end=["a"]),
    "a temperature of a model": lambda: language.conditional(WORLDS["listed"], temperature=BIGRAM),
    "logits of none": lambda: cai.from_logits(None, language.PrefixWorld(language.Remembering(BIGRAM, 1), CONTAINS, 3)),
    "a forward KL to a model": lambda: language.forward_kl(cai.solve(WORLDS["listed"]), BIGRAM),
    "a KL to a number": lambda: language.best_of_n(WORLDS["listed"], 2).kl(3),
    "a KL to another world": lambda: language.best_of_n(WORLDS["listed"], 2).kl(
        language.best_of_n(WORLDS["hidden"], 2)
    ),
    "a reward of text": lambda: language.reward_law(WORLDS["listed"]).number("1"),
    "tokens of another vocabulary": lambda: AB.decode([0, 2]),
    "a token below 0": lambda: AB.shown(torch.tensor([0, -1])),
    "nothing to decode": lambda: AB.decode(None),
    "nothing to split": lambda: AB.split(None),
    "kept letters of none": lambda: language.plain("ab", None),
    "an unknown of a list": lambda: language.Vocabulary(("a", "b"), unknown=["a"]),
    "a separator of none": lambda: language.Vocabulary(("a", "b"), None),
    "a bias of none": lambda: language.sequential_monte_carlo(WORLDS["listed"], particles=2, runs=2).bias(None),
    "no generator": lambda: language.sample(WORLDS["listed"], None, 2, 3),
    "a horizon of text": lambda: setattr(WORLDS["listed"], "horizon", "2"),
}


def one_line(error: pytest.ExceptionInfo) -> bool:
    return "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize("name", TAKES_TEXTS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_is_no_text_is_refused(world: language.TextWorld, name: str) -> None:
    exact = language.conditional(world)
    for kind, texts in NO_TEXTS.items():
        with pytest.raises(cai.WorldError, match=name) as error:
            TAKES_TEXTS[name](world, exact, texts)
        assert one_line(error), kind


@pytest.mark.parametrize("name", TAKES_WORLD)
def test_what_is_no_world_of_language_is_refused(name: str) -> None:
    for world in (RandomWorld(seed=3, S=3, A=2, K=2, horizon=2, holes=False), None, language.LanguageWorld):
        with pytest.raises(cai.WorldError, match="world: ") as error:
            TAKES_WORLD[name](world)
        assert one_line(error)


@pytest.mark.parametrize("name", MISUSED)
def test_other_misuse_is_refused(name: str) -> None:
    with pytest.raises(cai.WorldError) as error:
        MISUSED[name]()
    assert one_line(error)


ABC = language.characters("abc")
OTHERS: dict[str, Callable[[], language.TextWorld]] = {
    "another vocabulary": lambda: language.language_world(
        language.fit_ngram("abcbabaabc", 2), language.containing("ab", ABC), horizon=4
    ),
    "another order": lambda: language.language_world(language.fit_ngram("abbabaab", 3), CONTAINS, horizon=4),
    "as many states": lambda: language.language_world(BIGRAM, language.containing("ba", AB), horizon=4),
    "another horizon": lambda: language.language_world(BIGRAM, CONTAINS, horizon=6),
    "an end": lambda: language.language_world(BIGRAM, language.containing("aa", AB), horizon=4, end="b"),
    "another hidden Markov model": lambda: language.language_world(
        language.fit_hidden_markov("aabb" * 5, 2, iterations=1, progress=False), CONTAINS, horizon=4
    ),
    "another automaton": lambda: language.language_world(HIDDEN, language.containing("aba", AB), horizon=4),
    "states that are not listed": lambda: language.PrefixWorld(BIGRAM, CONTAINS, 4),
}


class Says:
    """A policy that says one thing after every text."""

    def __init__(self, said: Callable[[tuple[int, ...]], object]) -> None:
        self.said = said

    def log_next(self, t: int, state: object) -> object:
        return self.said(tuple((state if isinstance(state, torch.Tensor) else state["place"]).shape))


NO_POLICIES: dict[str, Callable[[], object]] = {
    "of a GridWorld": lambda: cai.solve(RandomWorld(seed=3, S=5, A=2, K=2, horizon=4, holes=False)),
    "a sampler of whole texts": lambda: language.best_of_n(WORLDS["listed"], 2),
    "a world": lambda: WORLDS["listed"],
    "a model of language": lambda: BIGRAM,
    "says a name": lambda: Says(lambda shape: "a"),
    "says too little": lambda: Says(lambda shape: torch.zeros(3)),
    "says what is no number": lambda: Says(lambda shape: torch.full((*shape, 2), torch.nan)),
    "says probabilities": lambda: Says(lambda shape: torch.full((*shape, 2), 0.5)),
    "fails": lambda: Says(lambda shape: {}["a"]),
}
READ_POLICY: dict[str, Callable] = {
    "log_prob": lambda world, policy: language.log_prob(world, policy, torch.tensor([0, 1, 0, 1])),
    "next_tokens": lambda world, policy: language.next_tokens(world, policy, torch.tensor([0, 1])),
    "sample": lambda world, policy: language.sample(world, policy, 2, torch.Generator()),
    "distance": lambda world, policy: language.distance(language.conditional(world), policy, samples=2),
}


@pytest.mark.parametrize("name", READ_POLICY)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_policy_of_another_world_is_refused(world: language.TextWorld, name: str) -> None:
    for kind, make in OTHERS.items():
        other = make()
        policies = [language.conditional(other), language.masked(other)]
        policies += [cai.solve(other).policy] if isinstance(other, language.LanguageWorld) else []
        for policy in policies:
            with pytest.raises(cai.WorldError, match="a policy of another world: ") as error:
                READ_POLICY[name](world, policy)
            assert one_line(error), kind


@pytest.mark.parametrize("name", ["log_prob", "next_tokens", "sample"])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_is_no_policy_of_texts_is_refused(world: language.TextWorld, name: str) -> None:
    for kind, make in NO_POLICIES.items():
        with pytest.raises(cai.WorldError, match="policy") as error:
            READ_POLICY[name](world, make())
        assert one_line(error), kind


def test_a_policy_of_the_same_world_made_anew_is_read() -> None:
    text = torch.tensor([0, 1, 0, 1])
    for world in WORLDS.values():
        again = world.under(CONTAINS)
        exact = language.conditional(again)
        assert language.log_prob(world, exact, text).equal(language.log_prob(again, exact, text))
    solved = cai.solve(language.language_world(BIGRAM, CONTAINS, horizon=4))
    assert language.log_prob(WORLDS["listed"], solved, text).isfinite()


def test_a_part_that_is_repeated_too_often_is_refused_at_once() -> None:
    for pattern in ("a{99999}", "a{1,9999}"):
        with pytest.raises(cai.IntractableError, match="repeated 9"):
            language.matching(pattern, AB)


def test_the_reference_goes_on_beyond_the_horizon() -> None:
    text = AB.encode("abbabaab")
    assert float(language.perplexity(WORLDS["listed"], None, text)) > 1


def test_a_hidden_markov_model_is_fitted_to_one_token() -> None:
    found = language.fit_hidden_markov("a", 2, iterations=2, progress=False)
    assert found.history == pytest.approx((0.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("sampler", [language.best_of_n, language.rejection_sampling])
def test_a_sampler_of_texts_that_cannot_be_is_impossible(sampler: Callable) -> None:
    world = language.PrefixWorld(BIGRAM, language.matching("a{5}", AB, 0.0, -torch.inf), 4)
    with pytest.raises(cai.ImpossibleError, match=r"a\{5\}"):
        sampler(world, 3)


def test_solving_a_hidden_markov_model_points_to_its_conditional() -> None:
    with pytest.raises(cai.IntractableError, match=r"cai\.language\.conditional"):
        cai.solve(WORLDS["hidden"])


def test_measuring_in_a_hidden_markov_model_points_to_its_distance() -> None:
    for measure in (lambda world: cai.evaluate(world, None), lambda world: cai.compare(world, {"prior": None})):
        with pytest.raises(cai.IntractableError, match=r"cai\.language\.distance.*cai\.rollout") as error:
            measure(WORLDS["hidden"])
        assert one_line(error)


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e6])
def test_rewards_are_the_same_whatever_their_order_and_their_scale(scale: float) -> None:
    """Texts with the same tokens in another order earn the same, and one reward is never taken for another."""
    pay = scale * torch.tensor([[1 / 3, 0.7123456789123, 2 / 7]], dtype=torch.float64)
    vocabulary = language.characters("abc")
    zero = torch.zeros(1, 3, dtype=torch.long)
    automaton = language.Automaton(vocabulary, zero, pay, torch.zeros(1, dtype=torch.float64), ("q",))
    world = language.language_world(language.fit_ngram("abcab", 1), automaton, horizon=4)
    texts = torch.cartesian_prod(*[torch.arange(3)] * 4)
    p, r = language.log_prob(world, None, texts).exp(), language.paid(world, texts)
    law, best = language.reward_law(world), language.best_of_n(world, 5)
    assert len(law.rewards) == 15  # multisets of 4 among 3
    same = (r - r.unsqueeze(-1)).abs() < 1e-9 * scale
    below = (r.unsqueeze(0) < r.unsqueeze(-1)) & ~same
    upto, under = ((same | below) * p).sum(-1), (below * p).sum(-1)
    expected = p * (upto**5 - under**5) / (same * p).sum(-1)
    assert torch.allclose(best.log_prob(texts).exp(), expected, atol=1e-12)
    alpha = 1e-3 * scale
    exact = language.conditional(world, temperature=alpha)
    tilted = language.tilted(world, temperature=alpha).log_prob(texts)
    assert torch.allclose(tilted, language.log_prob(world, exact, texts), atol=1e-9)


@pytest.mark.parametrize("paid", [0.0, -7.77, 1e6 / 3])
@pytest.mark.parametrize(
    "objective", ["grpo", "reinforce++_baseline", cai.KLObjective("k2", scale="group_std")], ids=str
)
def test_where_all_returns_are_equal_no_text_has_an_advantage(objective: str | cai.KLObjective, paid: float) -> None:
    """The rounding of equal returns is no spread to divide by: the reference is stationary, for it alone is."""
    zero = torch.zeros(1, 2, dtype=torch.float64)
    final = torch.tensor([paid], dtype=torch.float64)
    automaton = language.Automaton(AB, torch.zeros(1, 2, dtype=torch.long), zero, final, ("q",))
    world = language.language_world(BIGRAM, automaton, horizon=3)
    found = cai.kl_fixed_point(world, objective, temperature=0.3)
    assert torch.allclose(found.log_probs(0), world.log_next, atol=1e-12)
    other = torch.tensor([0.3, 0.7], dtype=torch.float64).expand(3, world.size, 2)
    gradient = cai.kl_gradient(world, other, objective, temperature=0.3)
    free = cai.kl_gradient(world.under(language.matching("", AB, 0.0)), other, objective, temperature=0.3)
    assert float(gradient.abs().max()) > 1e-3
    assert float(gradient.sum(-1).abs().max()) < 1e-12
    assert torch.allclose(gradient[0, 0], free[0, 0], atol=1e-12)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_samplers_of_texts_are_pickled(world: language.TextWorld) -> None:
    for sampler in (language.tilted(world), language.best_of_n(world, 3), language.rejection_sampling(world, 3)):
        again = pickle.loads(pickle.dumps(sampler))
        one, two = (each.sample(5, torch.Generator().manual_seed(1)) for each in (sampler, again))
        assert one.equal(two), sampler.name
