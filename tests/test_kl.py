"""Where the KL goes: gradients and fixed points against the exact surrogate over all trajectories."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

import cai
from cai import language
from cai.experiments.kl_gaps import kl_gaps, the_bigram
from tests.helpers import slow_after
from tests.oracles import kl_surrogate as oracle
from tests.worlds import RandomWorld, random_worlds

PLAIN = ("k1_in_reward", "k1", "k2", "k3", "ratio_k3", "full")
REWARD = tuple(cai.KLObjective(kl, "reward") for kl in ("k2", "k3", "ratio_k3", "full"))


@cache
def written(letters: str, horizon: int, end: str | None = None) -> language.LanguageWorld:
    vocabulary = language.characters(letters)
    reference = language.fit_ngram("abbacabbabcabaacb" if "c" in letters else "abba baab", 2, vocabulary=vocabulary)
    return language.language_world(reference, language.containing("bb", vocabulary), horizon=horizon, end=end)


@cache
def read(end: str | None) -> tuple[cai.Tables, oracle.Episodes]:
    world = written("ab ", 3, end)
    return cai.tabulate(world), oracle.texts(world)


def table(policy: cai.policies.FixedPolicy, T: int) -> Tensor:
    return torch.stack([policy.log_probs(t) for t in range(T)])


def random_logits(episodes: oracle.Episodes, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(episodes.log_ref.shape, generator=g, dtype=torch.float64)
    return (noise + episodes.log_ref).log_softmax(-1)


@settings(max_examples=6, deadline=None)
@given(random_worlds(), st.sampled_from([*(cai.KL_OBJECTIVES[name] for name in PLAIN), *REWARD]))
def test_the_gradient_is_that_of_the_surrogate(world: RandomWorld, objective: cai.KLObjective) -> None:
    world.reward = world.reward.clamp(min=-3.0)
    episodes = oracle.trajectories(world)
    log_pi = random_logits(episodes, world.seed)
    found = cai.kl_gradient(world, log_pi.exp(), objective, temperature=0.7)
    assert torch.allclose(found, oracle.gradient(episodes, log_pi, objective, 0.7), atol=1e-11)


@settings(max_examples=6, deadline=None)
@given(random_worlds(), st.sampled_from(PLAIN), st.sampled_from([0.1, 1.0, 20.0]))
def test_fixed_points_of_random_worlds_are_stationary(world: RandomWorld, name: str, alpha: float) -> None:
    try:
        fixed = cai.kl_fixed_point(world, name, temperature=alpha)
    except cai.ImpossibleError:
        assume(False)
    episodes = oracle.trajectories(world)
    log_pi = table(fixed, world.horizon or 0)
    assert oracle.gradient(episodes, log_pi, cai.KL_OBJECTIVES[name], alpha).abs().max() < 1e-9


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(random_worlds(), st.sampled_from(["k1", "k2", "k3"]), st.sampled_from(["loss", "reward"]))
def test_a_spread_of_returns_of_random_worlds(world: RandomWorld, kl: str, where: str) -> None:
    world.start = torch.eye(world.S, dtype=torch.float64)[0]
    world.reward = world.reward.clamp(min=-3.0)
    objective = cai.KLObjective(kl, where, "none", "group_std")  # type: ignore[arg-type]
    episodes = oracle.trajectories(world)
    log_pi = random_logits(episodes, world.seed)
    found = cai.kl_gradient(world, log_pi.exp(), objective, temperature=5.0)
    expected = oracle.gradient(episodes, log_pi, objective, 5.0)
    assume(bool(expected.isfinite().all()))
    assert torch.allclose(found, expected, atol=1e-9)
    try:
        fixed = cai.kl_fixed_point(world, objective, temperature=5.0)
    except (cai.NotConvergedError, cai.WorldError):
        return
    log_pi = table(fixed, world.horizon or 0)
    left = oracle.gradient(episodes, log_pi, objective, 5.0)
    assert left.isnan().any() or left.abs().max() < 1e-9


@pytest.mark.parametrize("end", [None, " "])
@pytest.mark.parametrize("name", PLAIN)
def test_fixed_points_of_texts_are_stationary(name: str, end: str | None) -> None:
    world = written("ab ", 4, end)
    fixed = cai.kl_fixed_point(world, name, temperature=0.1)
    found = oracle.gradient(oracle.texts(world), table(fixed, 4), cai.KL_OBJECTIVES[name], 0.1)
    assert found.abs().max() < 1e-9
    assert cai.kl_gradient(world, fixed, name, temperature=0.1).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, " "])
@pytest.mark.parametrize("name", PLAIN)
def test_fixed_points_of_longer_texts_are_stationary(name: str, end: str | None) -> None:
    world = written("abc d" if end else "abcde", 6, end)
    fixed = cai.kl_fixed_point(world, name, temperature=0.1)
    found = oracle.gradient(oracle.texts(world), table(fixed, 6), cai.KL_OBJECTIVES[name], 0.1)
    assert found.abs().max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["k3", "k1_in_reward", "k2", "ratio_k3", "full"])
@pytest.mark.parametrize("seed", [0, 1])
def test_adam_from_elsewhere_lands_on_the_fixed_point(name: str, seed: int) -> None:
    world = written("ab ", 4)
    episodes, objective = oracle.texts(world), cai.KL_OBJECTIVES[name]
    landed = oracle.climbed(episodes, random_logits(episodes, seed), objective, 0.2, 1500)
    fixed = cai.kl_fixed_point(world, name, temperature=0.2)
    seen = cai.evaluate(world, fixed, temperature=0.2).occupancy > 1e-6
    assert (landed.exp() - table(fixed, 4).exp())[seen].abs().max() < 1e-5


NORMALISED = (
    cai.KL_OBJECTIVES["grpo"],
    replace(cai.KL_OBJECTIVES["grpo"], group=3),
    cai.KLObjective("k3", "loss", "group_mean", group=2),
    cai.KLObjective("k2", "loss", "leave_one_out", "group_std"),
    cai.KLObjective("k3", "loss", "group_mean", "group_std", group=2),
    cai.KLObjective("k3", "loss", "value", "batch_std", "batch"),
    cai.KLObjective("k1", "reward", "group_mean", group=2),
    cai.KLObjective("k1", "reward", "leave_one_out", group=2),
    cai.KLObjective("k2", "loss", "none", "group_std", group=3),
    cai.KLObjective("k2", "loss", "group_mean", "batch_std"),
    cai.KLObjective("k3", "loss", "group_mean", "batch_std", group=3),
    cai.KLObjective("k3", "loss", "leave_one_out", "batch_std", "sequence", group=2),
    cai.KLObjective("k2", "loss", "none", "none", "sequence"),
    cai.KLObjective("k1", "loss", "none", "none", "sequence"),
    cai.KLObjective("ratio_k3", "loss", "group_mean", "none", "sequence", 2),
    cai.KLObjective("k3", "loss", "none", "none", "batch"),
    cai.KLObjective("full", "loss", "group_mean", "none", "sequence"),
)


@pytest.mark.parametrize("end", [" ", pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", slow_after(10, NORMALISED), ids=str)
def test_normalised_objectives_are_stationary_for_all_groups(objective: cai.KLObjective, end: str | None) -> None:
    world, episodes = read(end)
    log_pi = random_logits(episodes, 3)
    found = cai.kl_gradient(world, log_pi.exp(), objective, temperature=2.0)
    assert torch.allclose(found, oracle.gradient(episodes, log_pi, objective, 2.0), atol=1e-11)
    fixed = cai.kl_fixed_point(world, objective, temperature=2.0)
    assert oracle.gradient(episodes, table(fixed, 3), objective, 2.0).abs().max() < 1e-9


def test_at_the_optimum_all_texts_have_one_return_so_that_there_is_no_spread_to_divide_by() -> None:
    world, episodes = read(" ")
    scaled = cai.KLObjective("k1", "reward", "group_mean", "group_std")
    log_pi = random_logits(episodes, 3)
    found = cai.kl_gradient(world, log_pi.exp(), scaled, temperature=2.0)
    assert torch.allclose(found, oracle.gradient(episodes, log_pi, scaled, 2.0), atol=1e-11)
    fixed = cai.kl_fixed_point(world, scaled, temperature=2.0)
    log_pi = table(fixed, 3)
    ratio = episodes.of_tokens(log_pi).sum(-1) - episodes.of_tokens(episodes.log_ref).sum(-1)
    log_z = cai.solve(world, temperature=2.0).log_evidence
    assert torch.allclose(episodes.returns - 2.0 * ratio, 2.0 * log_z.expand(len(ratio)), atol=1e-12)


def test_a_scale_that_runs_away_is_told() -> None:
    world, _ = read(None)
    scaled = cai.KLObjective("k2", "loss", "group_mean", "group_std")
    with pytest.raises(cai.NotConvergedError, match="no fixed point"):
        cai.kl_fixed_point(world, scaled, temperature=0.5)
    other = replace(scaled, kl="k3")
    fixed = cai.kl_fixed_point(world, other, temperature=0.5)
    assert cai.kl_gradient(world, fixed, other, temperature=0.5).abs().max() < 1e-12


def test_a_fixed_point_is_a_policy_like_any_other() -> None:
    world = written("ab ", 4)
    subjects = {name: cai.kl_fixed_point(world, name, temperature=0.1) for name in ("k1_in_reward", "k3", "k2")}
    rows = cai.compare(world, subjects, temperature=0.1).rows
    gaps = {row.name: row.optimality_gap for row in rows}
    assert gaps["k1_in_reward"] < 1e-12
    assert all(gaps[name] > 0.01 for name in ("k2", "k3"))
    again = pickle.loads(pickle.dumps(subjects["k3"]))
    assert torch.equal(again.log_probs(2), subjects["k3"].log_probs(2))


@pytest.mark.parametrize("alpha", [1e-9, 1e-3, 1e9])
def test_fixed_points_at_extreme_temperatures(alpha: float) -> None:
    world = written("ab ", 4)
    reference = cai.evaluate(world, None).expected_return
    best = cai.solve(world, cai.HARD).value
    for name in ("k2", "k3"):
        earned = cai.evaluate(world, cai.kl_fixed_point(world, name, temperature=alpha)).expected_return
        assert earned == pytest.approx(float(best) if alpha < 1 else reference, abs=2e-2 if alpha == 1e-3 else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [NORMALISED[0], NORMALISED[3]], ids=str)
def test_adam_from_the_reference_lands_on_a_normalised_fixed_point(objective: cai.KLObjective) -> None:
    world, episodes = read(" ")
    landed = oracle.climbed(episodes, episodes.log_ref, objective, 2.0, 1500)
    fixed = cai.kl_fixed_point(world, objective, temperature=2.0)
    seen = cai.evaluate(world, fixed, temperature=2.0).occupancy > 1e-6
    assert (landed.exp() - table(fixed, 3).exp())[seen].abs().max() < 1e-5


def test_one_token_makes_k1_in_the_reward_k2_and_ratio_k3_one() -> None:
    world = written("ab ", 1)
    world = language.language_world(world.reference, language.containing("b", world.vocabulary), horizon=1)
    one, two, three = (cai.kl_fixed_point(world, name).log_probs(0) for name in ("k1_in_reward", "k2", "ratio_k3"))
    assert torch.allclose(one, two, atol=1e-14)
    assert torch.allclose(one, three, atol=1e-14)


def test_k2_of_a_whole_text_is_k1_in_the_reward_and_k2_of_each_token_is_not() -> None:
    world, episodes = read(" ")
    logits = random_logits(episodes, 5).requires_grad_()
    log_r = (episodes.of_tokens(logits.log_softmax(-1)) - episodes.of_tokens(episodes.log_ref)).sum(-1)
    log_p = episodes.of_tokens(logits.log_softmax(-1)).sum(-1)
    whole = (log_p.exp().detach() * (episodes.returns * log_p - 0.3 * log_r**2 / 2)).sum()
    (expected,) = torch.autograd.grad(whole, logits)
    pi = logits.detach().exp()
    assert torch.allclose(cai.kl_gradient(world, pi, "k1_in_reward", temperature=0.3), expected, atol=1e-12)
    assert not torch.allclose(cai.kl_gradient(world, pi, "k2", temperature=0.3), expected, atol=1e-3)


def test_faults_are_told_in_a_line() -> None:
    world = written("ab ", 2)
    with pytest.raises(cai.WorldError, match="did you mean k3"):
        cai.kl_fixed_point(world, "k33")
    with pytest.raises(cai.WorldError, match="more than one fixed point"):
        cai.kl_fixed_point(world, cai.KLObjective("k2", "reward"))
    with pytest.raises(cai.WorldError, match="at least 2"):
        cai.kl_fixed_point(world, "dr_grpo", group=1)
    with pytest.raises(cai.WorldError, match="baseline"):
        cai.KLObjective(baseline="mean")  # type: ignore[arg-type]
    forced = language.containing("bb", world.vocabulary, rejected=-torch.inf)
    forbidden = language.language_world(world.reference, forced, horizon=2)
    forbidden.horizon = 1  # a text of one token cannot have two
    with pytest.raises(cai.ImpossibleError):
        cai.kl_fixed_point(forbidden, "k2")


def tilted(ref: np.ndarray, value: np.ndarray, alpha: float, kl: str) -> np.ndarray:
    top = value.max()
    if kl != "k3":
        pi = ref * np.exp((value - top) / alpha)
        return pi / pi.sum()
    pi = ref * alpha / (brentq(lambda c: (ref * alpha / (c - value)).sum() - 1, top + 1e-12, top + 2 * alpha) - value)
    return pi / pi.sum()


def backward(world: language.LanguageWorld, alpha: float, kl: str) -> float:
    """Return ELBO(π), nats, of an objective's fixed point, by plain loops over the reference and the automaton."""
    V, reference, automaton = len(world.vocabulary), world.reference, world.automaton
    log_ref = reference.log_next(torch.arange(reference.size)).numpy()
    following = reference.following(torch.arange(reference.size)).numpy()
    Q = len(automaton.final)
    paid = np.tile(automaton.final.numpy(), (reference.size, 1))
    spent = np.zeros_like(paid)
    for _ in range(world.horizon):
        new, cost = np.zeros_like(paid), np.zeros_like(paid)
        for m in range(reference.size):
            for q in range(Q):
                after = following[m], automaton.successor[q].numpy()
                value = paid[after] - (alpha * spent[after] if kl == "k1_in_reward" else 0)
                pi = tilted(np.exp(log_ref[m]), value, alpha, kl)
                new[m, q] = pi @ paid[after]
                cost[m, q] = pi @ (np.log(pi) - log_ref[m] + spent[after])
        paid, spent = new, cost
    assert V == 27
    return float(paid[reference.start, automaton.start] / alpha - spent[reference.start, automaton.start])


@pytest.mark.parametrize(
    "alpha", [0.1, pytest.param(0.05, marks=pytest.mark.slow), pytest.param(1.0, marks=pytest.mark.slow)]
)
def test_the_gaps_of_a_bigram_are_those_of_plain_loops(alpha: float) -> None:
    world = the_bigram(5)
    gaps = kl_gaps(world, (alpha,), ("k1_in_reward", "k2", "k3"))
    best = backward(world, alpha, "k1_in_reward")
    assert gaps.log_evidence[0] == pytest.approx(best, abs=1e-9)
    for name, gap in gaps.gap.items():
        assert gap[0] == pytest.approx(best - backward(world, alpha, name), abs=1e-9)
    assert gaps.table[0] == ("α", "log Z", "k1_in_reward", "k2", "k3")


def test_ties_are_kept_whatever_the_price() -> None:
    world = written("ab ", 4)
    tables = [table(cai.kl_fixed_point(world, "k1", temperature=alpha), 4) for alpha in (0.1, 1.0)]
    assert torch.equal(tables[0], tables[1])
