"""Learners over seeds: the numbers are those of the exact accounts, and what goes wrong in a seed shows."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cai
from cai.evaluation.across_seeds import interpolated, learning_curve, over_seeds, worst_after_best
from cai.learn.result import Learned, Progress
from tests.learned import blind, rising, run_of
from tests.oracles import enumeration as oracle
from tests.test_view import Corridor, Gamble
from tests.worlds import RandomWorld

WORLD = RandomWorld(3, 4, 3, 2, 4, holes=False)
ALPHA = 0.5


def runs(seeds: int = 5, noise: float = 0.3, **changed: object) -> list[Learned]:
    return [run_of(WORLD, rising(6), seed=n, temperature=ALPHA, noise=noise, **changed) for n in range(seeds)]  # type: ignore[arg-type]


def recorded(*points: tuple[int, float | None], seed: int = 0, stopped: str = "steps") -> Learned:
    """A run of no world, whose returns and policy nats are these."""
    history = tuple(
        Progress(step, step, 0.0, 0.0 if x is None else x, 0.0 if x is None else x, None, x, None) for step, x in points
    )
    return Learned(None, "fake", ALPHA, seed, history, points[-1][0], 0, 0.0, stopped)


EXACT = {"POSTERIOR": cai.POSTERIOR, "VARIATIONAL": cai.VARIATIONAL, "HARD": cai.HARD, "prior": None}


def beside(world: object, learned: dict, alpha: float) -> cai.Comparison:
    """Compare learners with the exact answers."""
    return cai.compare(world, {**EXACT, **learned}, temperature=alpha, leave_out=True)


@pytest.fixture(scope="module")
def both() -> cai.Comparison:
    hard = [run_of(WORLD, rising(6, 8.0), seed=n, temperature=ALPHA, noise=0.1, hard=True) for n in range(3)]
    return beside(WORLD, {"soft": runs(), "hard": hard}, ALPHA)


# The rows


def test_every_number_is_the_interquartile_mean_of_the_exact_evaluations(both: cai.Comparison) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scikit-learn of the extra [test] brings it")
    row = both.row("soft")
    exact = [cai.evaluate(WORLD, run, temperature=ALPHA) for run in both.runs["soft"]]
    fields = {
        "expected_return": "expected_return",
        "entropy": "entropy",
        "elbo": "elbo",
        "regret": "regret",
        "policy_nats": "optimality_gap",
    }
    for ours, theirs in fields.items():
        each = [getattr(one, theirs) for one in exact]
        found = row.estimate(ours)
        assert found.value == getattr(row, ours)
        assert found.runs == pytest.approx(each, abs=1e-12)
        assert found.value == pytest.approx(stats.trim_mean(each, 0.25), abs=1e-12)
        assert min(found.runs) <= found.low <= found.value <= found.high <= max(found.runs)
    assert row.estimate("luck_nats").runs == pytest.approx([float(one.luck_nats.sum()) for one in exact])
    assert row.estimate("worst_return").runs == tuple(run.worst_after_best for run in both.runs["soft"])
    assert row.estimate("steps").runs == (500.0,) * 5
    assert row.stopped == "5 steps"


def test_the_exact_rows_are_those_of_compare_without_learners(both: cai.Comparison) -> None:
    alone = cai.compare(WORLD, EXACT, temperature=ALPHA)
    for row in alone.rows:
        assert {name: both.row(row.name).cells[name] for name in row.cells} == row.cells


def test_where_a_learner_loses_adds_up_to_what_it_loses(both: cai.Comparison) -> None:
    lost = both.mean("soft", "policy_nats")
    assert lost is not None
    assert tuple(lost.shape) == (4, 4)
    assert float(lost.sum()) == pytest.approx(np.mean(both.row("soft").estimate("policy_nats").runs), abs=1e-12)
    places = both.worst("soft", 3)
    assert [one.lost for one in places] == sorted(lost.flatten().tolist(), reverse=True)[:3]
    assert all(float(lost[one.t, one.state]) == one.lost and one.seeds == 5 for one in places)
    (first, *_) = both.worst("soft", 4, together=True)
    assert first.lost == pytest.approx(float(lost.sum(0).max()), abs=1e-12)
    assert first.where == f"t = {first.t} … {first.until}, s={first.state}"
    gone = both.mean("soft", "regret_per_state")
    assert gone is not None
    best = oracle.value(WORLD, "HARD", ALPHA)
    returns = [cai.evaluate(WORLD, run, temperature=ALPHA).expected_return for run in both.runs["soft"]]
    assert float(gone.sum()) == pytest.approx(best - np.mean(returns), abs=1e-12)
    places = both.worst("soft", 3, by="regret")
    assert [one.lost for one in places] == sorted(gone.flatten().tolist(), reverse=True)[:3]
    assert {one.unit for one in places} == {"reward units"}


def test_a_score_is_0_for_the_prior_and_1_for_the_best() -> None:
    ends = {"prior": [run_of(WORLD, [1, 0], temperature=ALPHA)], "best": [run_of(WORLD, [0, 1], temperature=ALPHA)]}
    found = cai.compare(WORLD, ends, temperature=ALPHA)
    assert float(found.scores["prior"]) == pytest.approx(0, abs=1e-12)
    assert float(found.scores["best"]) == pytest.approx(1, abs=1e-12)
    assert float(found.profiles["best"].fraction[-1]) == 1


# What was held


def test_the_worst_after_the_best_is_not_the_first_hit() -> None:
    for points, worst in (
        (((0, 9.0), (1, 0.1), (2, 0.5), (3, 0.2)), 0.5),
        (((0, 9.0), (1, None), (2, 0.2)), 0.2),
        (((0, None),), None),
    ):
        assert worst_after_best(recorded(*points), "policy_nats", best=min) == worst
    run = recorded((0, 0.0), (1, 0.9), (2, 0.1), (3, 0.4))
    assert run.worst_after_best == worst_after_best(run, "deterministic_return", best=max) == 0.1


# Curves


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.lists(st.floats(-1, 9), min_size=1, max_size=20))
def test_interpolation_is_numpys(values: list[float], grid: list[float]) -> None:
    x = np.arange(len(values), dtype=float)
    points = torch.tensor(np.stack([x, values], -1))
    found = interpolated(points, torch.tensor(grid, dtype=torch.float64))
    np.testing.assert_allclose(found, np.interp(grid, x, values), atol=1e-12)


def test_interpolation_beside_an_infinity_is_infinite_and_never_nan() -> None:
    points = torch.tensor([[0.0, math.inf], [2.0, 1.0], [4.0, math.inf], [6.0, math.inf]], dtype=torch.float64)
    grid = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0], dtype=torch.float64)
    assert interpolated(points, grid).tolist() == [math.inf, math.inf, 1.0, math.inf, math.inf, math.inf, math.inf]


def test_the_last_of_two_values_at_one_step_counts() -> None:
    points = torch.tensor([[0.0, 1.0], [2.0, 5.0], [2.0, 3.0]], dtype=torch.float64)
    assert interpolated(points, torch.tensor([2.0, 3.0], dtype=torch.float64)).tolist() == [3.0, 3.0]


def test_runs_meet_on_a_common_grid() -> None:
    """At 5 steps the run evaluated at 0 and 10 is half way; one that reached its target early keeps its end."""
    curve = learning_curve(
        [recorded((0, 8.0), (10, 2.0)), recorded((0, 8.0), (5, 1.0), seed=1, stopped="target")], "policy_nats"
    )
    assert curve is not None
    assert curve.steps.tolist() == [0, 5, 10]
    assert curve.value.tolist() == [8.0, 3.0, 1.5]
    assert curve.low.tolist() == [8.0, 1.0, 1.0]
    assert curve.high.tolist() == [8.0, 5.0, 2.0]


def test_a_curve_ends_where_a_run_was_interrupted_and_is_thinned() -> None:
    cut = learning_curve(
        [recorded((0, 8.0), (10, 2.0)), recorded((0, 8.0), (5, 1.0), stopped="interrupted")], "policy_nats"
    )
    assert cut is not None
    assert cut.steps.tolist() == [0, 5]
    long = learning_curve([recorded(*((n, 1.0) for n in range(5000)))], "policy_nats")
    assert long is not None
    assert len(long.steps) == 200
    assert (long.steps[0], long.steps[-1]) == (0, 4999)
    assert learning_curve([recorded((0, None))], "policy_nats") is None


def test_the_band_is_that_of_whole_runs(both: cai.Comparison) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scikit-learn of the extra [test] brings it")
    curve = both.curves["soft"]["policy_nats"]
    each = np.array([[one.policy_nats for one in run.history] for run in both.runs["soft"]])
    np.testing.assert_allclose(curve.value, stats.trim_mean(each, 0.25, axis=0), atol=1e-12)
    assert (curve.low <= curve.value).all()
    assert (curve.value <= curve.high).all()
    assert "policy_nats" not in both.curves["hard"]


# What goes wrong shows


def test_a_lost_seed_shows() -> None:
    lost = over_seeds([1.0, 2.0, 3.0, -math.inf])
    assert lost is not None
    assert (lost.value, lost.infinite, lost.unknown) == (1.5, 1, 0)
    odd = over_seeds([1.0, None, math.nan])
    assert odd is not None
    assert (odd.value, odd.infinite, odd.unknown) == (1.0, 0, 2)
    assert over_seeds([None, None]) is None


@given(st.lists(st.sampled_from([math.inf, -math.inf, math.nan, None, 1.0, 2.5]), max_size=9))
def test_a_number_over_seeds_is_never_nan(seeds: list[float | None]) -> None:
    found = over_seeds(seeds)
    if math.inf in seeds and -math.inf in seeds:
        assert found is None  # any number could be their mean
    elif found is not None:
        assert found.low <= found.value <= found.high  # which no NaN is


def test_a_seed_that_risks_what_is_forbidden_is_told_everywhere() -> None:
    world = Corridor()
    safe = [run_of(world, [0.5, 1.0], seed=n, noise=0.0) for n in range(3)]
    risky = replace(safe[0], seed=9, policy=cai.evaluate(world, None).policy)
    found = cai.compare(world, {"a": [*safe, risky]})
    elbo = found.rows[0].estimate("elbo")
    assert elbo is not None
    assert (elbo.infinite, elbo.runs[-1]) == (1, -math.inf)
    assert math.isfinite(elbo.value)
    assert "of 4 seeds, 1 end at ELBO -inf" in " ".join(found.remarks)
    assert "1/4 -inf" in found.table()
    told = json.loads(found.json())["rows"][0]["over_seeds"]["elbo"]
    assert (told["infinite"], told["runs"][-1]) == (1, None)
    assert not found.scores  # the prior itself ends there
    assert any("the prior risks a forbidden reward" in text for text in found.remarks)
    assert [line["elbo"] for line in csv.DictReader(io.StringIO(found.runs_csv()))][-1] == "-inf"


def test_without_a_finite_best_there_are_no_policy_nats() -> None:
    policy = cai.evaluate(Gamble(), None).policy
    run = Learned(policy, "fake", 1.0, 0, (Progress(0, 0, 0.0, -math.inf, -math.inf, -math.inf),), 0, 0, 0.0, "steps")
    found = cai.compare(Gamble(), {"a": [run]})
    assert found.rows[0].policy_nats is None
    assert found.mean("a", "policy_nats") is None
    assert found.worst("a") == ()
    assert any("ELBO* is not finite" in text for text in found.remarks)


def test_where_the_prior_is_the_best_there_are_no_scores() -> None:
    idle = RandomWorld(1, 2, 2, 1, 2, holes=False)
    idle.reward, idle.last = torch.zeros_like(idle.reward), torch.zeros_like(idle.last)
    found = cai.compare(idle, {"a": [run_of(idle, [0.0, 0.0])]})
    assert not found.scores
    assert any("the prior is already a best policy" in text for text in found.remarks)


class Line:
    """A world without tables."""

    horizon = 2

    def initial(self) -> torch.Tensor:
        return cai_normal("x", torch.tensor(0.0))

    def act(self, state: torch.Tensor, t: int) -> torch.Tensor:
        return cai_normal("u", torch.zeros_like(state))

    def step(self, state: torch.Tensor, action: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = cai_normal("x", state + action)
        return x, -x.abs()


def cai_normal(name: str, mean: torch.Tensor) -> torch.Tensor:
    import pyro

    return pyro.sample(name, pyro.distributions.Normal(mean, 1.0))  # type: ignore[no-any-return]


def test_without_tables_only_what_was_sampled_is_told() -> None:
    each = [replace(blind(run), policy=object()) for run in runs(4)]
    found = beside(Line(), {"a": each}, ALPHA)
    (row,) = found.rows
    assert found.model is None
    assert set(found.left_out) == set(EXACT)
    assert row.estimate("expected_return").runs == tuple(run.history[-1].stochastic_return for run in each)
    assert (row.elbo, row.policy_nats) == (None, None)
    assert "luck_nats" not in row.cells
    assert set(found.curves["a"]) == {"stochastic_return", "deterministic_return"}
    assert "cannot be compiled" in found.remarks[0]
    assert [line["name"] for line in json.loads(found.json())["rows"]] == ["a"]
    with pytest.raises(cai.IntractableError):
        cai.compare(Line(), {**EXACT, "a": each}, temperature=ALPHA)


def test_an_infinite_horizon_is_compared_too() -> None:
    world = RandomWorld(2, 3, 2, 2, None, holes=False, discount=0.9)
    found = cai.compare(world, {"a": [run_of(world, [0, 1], seed=n, noise=0.1) for n in range(2)]})
    lost = found.mean("a", "policy_nats")
    assert lost is not None
    assert tuple(lost.shape) == (3,)
    assert all(one.t is None for one in found.worst("a"))


# Files and faults


def test_all_of_it_is_saved_as_it_is(both: cai.Comparison, tmp_path: Path) -> None:
    both.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.csv", "comparison.json", "runs.csv"]
    lines = list(csv.DictReader((tmp_path / "comparison.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["name"] for line in lines] == ["POSTERIOR", "VARIATIONAL", "HARD", "prior", "soft", "hard"]
    assert float(lines[4]["policy_nats"]) == both.row("soft").policy_nats
    assert float(lines[4]["policy_nats_high"]) == both.row("soft").estimate("policy_nats").high
    assert lines[5]["worst_policy_nats"] == ""
    each = list(csv.DictReader((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert [(line["name"], line["seed"]) for line in each] == [("soft", f"{n}") for n in range(5)] + [
        ("hard", f"{n}") for n in range(3)
    ]
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["rows"][4]["policy_nats"] == both.row("soft").policy_nats
    assert told["rows"][4]["curves"]["policy_nats"]["steps"] == [0, 100, 200, 300, 400, 500]
    assert told["elbo_star"] == both.elbo_star


def test_a_single_run_has_its_columns_too(both: cai.Comparison) -> None:
    (row,) = cai.compare(WORLD, {"soft": both.runs["soft"][0]}, temperature=ALPHA).rows
    assert (row.seeds, row.steps, row.elbo) == ((0,), 500, both.row("soft").estimate("elbo").runs[0])
    (row,) = cai.compare(WORLD, {"soft": both.runs["soft"][0]}, temperature=2 * ALPHA).rows  # as a policy alone
    assert row.seeds == ()


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        ({}, "at least one name"),
        ({"a": [recorded((0, 1.0)), recorded((0, 1.0))]}, r"seeds \[0, 0\]"),
        ({"a": [replace(recorded((0, 1.0)), temperature=2.0)]}, "at temperature 2; expected runs made at 0.5"),
        ({"a": [replace(recorded((0, 1.0)), history=())]}, "without history"),
        ({"a": [recorded((0, 1.0)), None]}, "a NoneType among runs"),
    ],
)
def test_what_makes_no_sense_is_refused(learned: dict, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.compare(WORLD, learned, temperature=ALPHA)
