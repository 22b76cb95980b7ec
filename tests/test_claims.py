"""The claims' experiments: laws of the learners by beliefs, verdicts that can go either way, and small runs of each."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

import cai
from cai.bridges.named import load_world
from cai.cli import app
from cai.experiments import deep_sea, exploration, fine_tuning, reward_scale, robustness, ties
from cai.experiments.claims import CLAIMS, Claim
from cai.experiments.measure import final_states, solved
from cai.experiments.verdict import DEPENDS, FAILS, HOLDS, Check, Mean, above, judged, mean_of
from cai.learn import certainty_equivalence, k_learning, posterior_sampling
from cai.learn.algorithms.policy_gradient import reinforce
from cai.learn.beliefs import any_state, beliefs_of, neighbours, nothing_seen, observed
from cai.simulate.rollout import rollout
from cai.view.claim_figures import figures_of
from tests.helpers import examples, slow_after
from tests.page import page_of
from tests.worlds import RandomWorld, TimedWorld


def sure(value: float) -> Mean:
    return Mean(value, 0.0, (value,))


# The rules of judging.


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_a_claim_holds_if_all_checks_do_and_fails_if_none_does(found: list[bool]) -> None:
    word = judged([Check("", one) for one in found]).word
    assert word == (HOLDS if all(found) else FAILS if not any(found) else DEPENDS)


def test_above_needs_two_standard_errors_of_the_paired_difference() -> None:
    low = mean_of([0.0, 10.0, 20.0, 30.0])
    assert above(mean_of([1.0, 11.0, 21.0, 31.0]), low), "the seeds differ widely, but every one rose"
    assert not above(mean_of([31.0, 1.0, 11.0, 21.0]), low), "the same numbers in another order prove nothing"
    assert not above(low, low)
    assert low.error == pytest.approx(math.sqrt(500 / 3 / 4))  # sd² = Σ (x - 15)²/3


# Verdicts on made-up numbers, both ways.


@pytest.mark.parametrize(
    ("soft", "word"), [((5.0, 12.0, 0.9), HOLDS), ((5.0, 12.0, 0.4), DEPENDS), ((1.0, 4.0, 0.4), FAILS)]
)
def test_exploration_is_judged_by_entropy_coverage_and_return(soft: tuple[float, ...], word: str) -> None:
    hard = (sure(2.0), sure(5.0), sure(0.5))
    ends = {exploration.HARD: hard, "soft": (sure(soft[0]), sure(soft[1]), sure(soft[2]))}
    assert exploration.verdict_of(ends).word == word


@pytest.mark.parametrize(("soft", "word"), [(50.0, HOLDS), (150.0, DEPENDS), (500.0, FAILS)])
def test_fine_tuning_is_judged_by_steps(soft: float, word: str) -> None:
    steps = {fine_tuning.HARD: sure(200.0), fine_tuning.SOFT: sure(soft), fine_tuning.SCRATCH: sure(100.0)}
    assert fine_tuning.verdict_of(steps, steps).word == word


@pytest.mark.parametrize(
    ("entropy", "jump", "moved", "word"), [(3.0, 0.5, 1e-6, HOLDS), (9.0, 0.5, 1e-6, DEPENDS), (0.0, 0.0, 0.5, FAILS)]
)
def test_ties_are_judged_by_spread_and_smoothness(entropy: float, jump: float, moved: float, word: str) -> None:
    nats = {ties.ARG_MAX: 0.0, ties.SHARED: 2.9, "soft": entropy}
    change = {ties.ARG_MAX: (sure(jump),), ties.SHARED: (sure(jump),), "soft": (sure(moved),)}
    found = ties.Ties(20, nats, dict.fromkeys(nats, 1.0), (1e-6,), change, {"soft": 0.5}, {"soft": 0.1}, 1)
    assert ties.verdict_of(found).word == word


@pytest.mark.parametrize(("soft", "word"), [((0.6, 0.9), HOLDS), ((0.6, 0.7), DEPENDS), ((0.1, 0.1), FAILS)])
def test_robustness_is_judged_against_the_better_hard_policy(soft: tuple[float, float], word: str) -> None:
    hard = [{robustness.ARG_MAX: 0.5, robustness.SHARED: 0.4}, {robustness.ARG_MAX: 0.1, robustness.SHARED: 0.8}]
    changes = {kind: {**row, "soft": one} for kind, row, one in zip("ab", hard, soft, strict=True)}
    assert robustness.verdict_of(changes).word == word


@pytest.mark.parametrize(("power", "level", "word"), [(1.0, 0.5, HOLDS), (0.5, 0.5, DEPENDS), (0.5, 2000.0, FAILS)])
def test_the_reward_scale_is_judged_by_bound_and_rate(power: float, level: float, word: str) -> None:
    alphas = tuple(10.0**-n for n in range(8))
    gap = tuple(level * alpha**power for alpha in alphas)
    bound = alphas if power == 1 or level > 1 else tuple(10.0 for _ in alphas)
    found = reward_scale.RewardScale(alphas, *({"w": row} for row in (gap, gap, (0.5,) * 7 + (0.0,), bound)))
    assert reward_scale.verdict_of(found).word == word


@pytest.mark.parametrize(("soft", "clever", "word"), [(2.0, 1.0, HOLDS), (1.0, 1.0, DEPENDS), (1.0, 2.0, FAILS)])
def test_deep_sea_is_judged_by_growth(soft: float, clever: float, word: str) -> None:
    sizes = (4, 8, 12, 16)

    def dives(base: float) -> tuple[float, ...]:
        return tuple(base**n if base > 1 else float(n**2) for n in sizes)

    typical = {name: dives(soft) for name in deep_sea.HOPELESS} | {name: dives(clever) for name in deep_sea.PATIENT}
    assert deep_sea.verdict_of(sizes, typical).word == word


# The posterior.


def test_beliefs_are_the_conjugate_posterior(float64: None) -> None:
    world = load_world("grid", {"rows": "2", "columns": "2", "slip": "0.5", "horizon": "3"})
    tables = cai.tabulate(world)
    torch.manual_seed(0)
    found = rollout(world, batch=40)
    prior = nothing_seen(any_state(4), 5)
    got = beliefs_of(observed(prior, found, tables.states, tables.actions))
    a, s_next, r = found.actions, found.states, found.rewards
    for i in range(4):
        for j in range(5):
            at = (found.states[:-1] == i) & (a == j)
            n, total = int(at.sum()), float(r[at].sum())
            for k in range(4):
                assert float(got.counts[i, j, k]) == pytest.approx(1 / 4 + int((at & (s_next[1:] == k)).sum()))
            # Bayes' rule for N(0, 2²) seen through N(·, 0.5²), by precisions
            precision = 1 / 2**2 + n / 0.5**2
            mean, deviation = got.reward(2.0, 0.5)
            assert float(mean[i, j]) == pytest.approx(total / 0.5**2 / precision)
            assert float(deviation[i, j]) == pytest.approx(precision**-0.5)


def test_sampled_transitions_have_the_posteriors_mean_and_support(float64: None) -> None:
    following = torch.tensor([[0, 1, -1], [2, 0, 1], [1, -1, -1]])
    values = nothing_seen(following, 1)
    torch.manual_seed(0)
    drawn = torch.stack([beliefs_of(values).sampled_transitions() for _ in range(4000)])
    assert torch.allclose(drawn.sum(-1), torch.ones(()))
    assert bool((drawn.squeeze(2)[:, following < 0] == 0).all())
    p = beliefs_of(values).transitions()
    sd = (p * (1 - p) / 2).sqrt()  # a Dirichlet of total mass 1
    assert bool(((drawn.mean(0) - p).abs() <= 5 * sd / 4000**0.5 + 1e-12).all())


@examples(6)
@given(st.integers(0, 1000))
def test_neighbours_are_the_possible_successors(seed: int) -> None:
    tables = cai.tabulate(RandomWorld(seed, S=4, A=2, K=3, horizon=2))
    found = neighbours(tables)
    for s in range(4):
        possible = {int(x) for x in tables.successor[s][tables.log_prob[s] > -torch.inf]}
        assert {int(x) for x in found[s] if x >= 0} == possible


def test_a_successor_that_was_ruled_out_is_an_error() -> None:
    world = load_world("deep_sea", {"size": "3"})
    nowhere = torch.zeros(9, 1, dtype=torch.long)
    with pytest.raises(cai.WorldError, match="following: row=1, column="):
        k_learning(world, following=nowhere, steps=3, progress=False)


# The learners by beliefs.

LEARNERS: dict[str, Callable[..., Any]] = {"k": k_learning, "psrl": posterior_sampling, "mean": certainty_equivalence}


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_by_beliefs_are_refused_what_makes_no_sense(name: str) -> None:
    world = load_world("deep_sea", {"size": "3"})
    with pytest.raises(cai.WorldError, match=r"noise: 0\.0"):
        LEARNERS[name](world, noise=0.0, progress=False)
    with pytest.raises(cai.WorldError, match="no horizon"):
        LEARNERS[name](load_world("grid", {}, {"horizon": None, "discount": 0.9}), steps=10, progress=False)
    with pytest.raises(cai.WorldError, match="differ over time"):
        LEARNERS[name](TimedWorld(0, S=2, A=2, K=2, horizon=2), steps=10, progress=False)
    with pytest.raises(cai.WorldError, match="not finite"):
        LEARNERS[name](load_world("pendulum"), steps=10, progress=False)


@pytest.mark.parametrize("name", slow_after(1, ["psrl", "k"]))
def test_beliefs_about_a_stochastic_world_end_at_its_optimum(name: str) -> None:
    world = load_world("restaurant")
    evenings: list[float] = []

    def watch(updates: int, metrics: Any, policy: Callable[[], Any]) -> bool:
        evenings.append(float(policy().probs(0)[0, 1]))  # of going French, 5.3 on average to the Italian 3.2
        return updates == 599

    learn = partial(k_learning, beta=0.3) if name == "k" else posterior_sampling
    learned = learn(world, spread=5.0, noise=5.0, seed=0, watch=watch, progress=False)
    assert (learned.stopped, learned.updates) == ("watch", 599)
    assert sum(evenings[:5]) / 5 < 0.95, "nothing was known at first"
    assert sum(evenings[400:]) / 200 > 0.8


def test_a_learner_by_beliefs_goes_on_from_its_checkpoint(tmp_path: Any) -> None:
    world = load_world("deep_sea", {"size": "3"})
    whole = posterior_sampling(world, steps=60, evaluations=4, seed=3, progress=False)
    posterior_sampling(world, steps=60, evaluations=4, seed=3, progress=False, checkpoint=tmp_path / "a", target=-1.0)
    again = posterior_sampling(world, steps=60, evaluations=4, seed=3, progress=False, checkpoint=tmp_path / "a")
    assert torch.equal(whole.policy.log_probs(1), again.policy.log_probs(1))
    with pytest.raises(cai.WorldError, match="noise"):
        posterior_sampling(world, noise=0.5, steps=60, evaluations=4, seed=3, progress=False, checkpoint=tmp_path / "a")


# Deep sea.


def dives(name: str, size: int, most: int, seed: int) -> float:
    world = load_world("deep_sea", {"size": str(size)})
    learn, batch = deep_sea.learners(size, cai.tabulate(world), beta=3.0, noise=0.1)[name]
    soft = {"temperature": 0.05} if name in deep_sea.HOPELESS else {}
    return deep_sea.dives_of(learn, batch, world, most, seed=seed, **soft)


@pytest.mark.parametrize("name", slow_after(1, deep_sea.PATIENT))
def test_who_knows_what_is_unknown_solves_six_rows_within_100_dives(name: str) -> None:
    assert all(dives(name, 6, 100, seed) <= 100 for seed in range(5))


@pytest.mark.parametrize("name", deep_sea.HOPELESS)
def test_softmax_noise_does_not_solve_twelve_rows_in_as_many(name: str) -> None:
    # A dive finds the treasure with probability at most 2^-12: 256 dives do in 6 % of all runs, two runs in 0.4 %.
    assert sum(dives(name, 12, 100, seed) < math.inf for seed in range(5)) <= 1


def test_the_exact_messages_know_deep_sea_at_once() -> None:
    tables = cai.tabulate(load_world("deep_sea", {"size": "10"}))
    share = deep_sea.known_share(tables, 0.05)
    # Of 2^10 dives one is worth 0.99, those without the last step at most 0.
    assert share >= 1 / (1 + (2**10 - 1) * math.exp(-0.99 / 0.05)) - 1e-9


# The experiments, small.


def test_soft_policies_obey_the_bound_on_changed_rewards() -> None:
    found = ties.ties_broken(3, temperatures=(0.02, 1.0), seeds=2, epsilons=(1e-6, 1e-2), progress=False)
    assert found.paths == 6
    assert all(0 < share <= 1 for share in found.tightest.values())
    assert found.entropy["soft, α = 0.02"] == pytest.approx(math.log(6), rel=1e-6)
    # Sharing move by move: 1 + 1/2 + … of six paths two have 1/4, four 1/8.
    assert found.entropy[ties.SHARED] == pytest.approx(2 * math.log(4) / 4 + 4 * math.log(8) / 8)
    assert found.entropy[ties.ARG_MAX] == 0


def test_the_value_gap_of_the_reward_scale_is_what_solve_says() -> None:
    found = reward_scale.soft_against_hard({"restaurant": {}}, points=3, progress=False)
    world = load_world("restaurant")
    for alpha, gap in zip(found.temperatures, found.value_gap["restaurant"], strict=True):
        # One evening: v = α log ½ (e^{q/α} + e^{q'/α}), q = 3.2 Italian, 5.3 French.
        q, q_other = torch.tensor([3.2, 5.3], dtype=torch.float64)
        v = alpha * torch.logaddexp(q / alpha, q_other / alpha) - alpha * math.log(2)
        assert gap == pytest.approx(float(q_other - v), abs=1e-9)
    assert float(cai.solve(world, cai.HARD).value) == pytest.approx(5.3)


def test_the_final_states_are_where_roll_outs_end() -> None:
    tables = cai.tabulate(load_world("grid", {"rows": 2, "columns": 3, "slip": 0.3, "horizon": 3}))
    d = tables.log_initial.exp()
    log_pi = solved(tables, cai.VARIATIONAL, 0.1)
    for t in range(3):
        joint = (d.unsqueeze(-1) * log_pi[t].exp()).unsqueeze(-1) * tables.log_prob.exp()
        d = torch.stack([joint[tables.successor == s].sum() for s in range(6)])
    torch.testing.assert_close(final_states(tables, log_pi), d, rtol=0, atol=1e-14)


def test_entropy_return_and_coverage_of_exploration_by_hand() -> None:
    world = load_world("grid", {"rows": "1", "columns": "3", "start": "(0, 0)", "slip": "0.0", "horizon": "2"})
    tables = cai.tabulate(world)
    right: Tensor = torch.full((2, 3, 5), -torch.inf, dtype=torch.float64)
    right[..., 2] = 0.0
    nats, paid, cells = exploration.measured(tables, world.goal, right)
    assert (nats, paid) == pytest.approx((0.0, 1.0))
    assert cells == pytest.approx(2.0), "one step in each of the two cells before the goal"
    nats, _, _ = exploration.measured(tables, world.goal, tables.log_prior.expand(2, 3, 5))
    assert nats == pytest.approx(2 * math.log(5)), "from one step away of three the goal is not entered before the last"


LONG = ("fine-tuning", "exploration", "deep-sea")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow if one in LONG else ()) for one in CLAIMS])
def test_every_claim_runs_small_and_is_drawn(name: str, tmp_path: Any) -> None:
    told = CliRunner().invoke(app, ["claims", name, "--quick", "--out", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "checks agree, on " in told.output
    assert list((tmp_path / "figures").glob(f"{name}*.svg"))
    assert '"verdict"' in (tmp_path / "claims.json").read_text()
    assert "weaker evidence" in page_of(tmp_path / "report.html").text


def test_an_unknown_claim_is_refused_before_any_work() -> None:
    told = CliRunner().invoke(app, ["claims", "deep_sea", "nonsense"])
    assert told.exit_code == 2
    assert "'nonsense'" in told.output
    assert "verdict" not in told.output


def test_only_results_of_experiments_are_drawn() -> None:
    with pytest.raises(KeyError):
        figures_of(3.0)


def test_ctrl_c_ends_all_and_keeps_what_is_there(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(**_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(cast(dict[str, Claim], CLAIMS), "deep-sea", Claim(pressed))
    told = CliRunner().invoke(app, ["claims", "ties", "deep-sea", "--quick", "--out", str(tmp_path)])
    assert told.exit_code == 130
    assert list(json.loads((tmp_path / "claims.json").read_text())) == ["ties"]
    assert (tmp_path / "report.html").is_file()


def test_a_learner_that_was_interrupted_ends_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(world: Any, **options: Any) -> Any:
        return replace(reinforce(world, **{**options, "steps": 1}), stopped="interrupted")

    monkeypatch.setattr(cai.learn, "reinforce", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fine_tuning.specialised(seeds=1, updates=1, progress=False)


def test_the_verdict_is_plain_data(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Claim(ties.ties_broken, {"seeds": 2, "side": 3, "epsilons": (1e-6,)})
    monkeypatch.setitem(CLAIMS, "ties", small)
    (told,) = json.loads(CliRunner().invoke(app, ["claims", "ties", "--quick", "--json"]).stdout)
    assert list(told) == ["name", "claim", "verdict", "evidence", "checks", "table"]
    assert told["verdict"] in ("holds", "does not hold here", "depends")
    assert "2 random changes" in told["evidence"]
    assert {type(check["holds"]) for check in told["checks"]} == {bool}
    assert [row["policy"] for row in told["table"]][:2] == ["arg-max", "HARD, ties shared"]
