"""Statistics of seeds: against scipy, by hand, and by simulation of what an interval promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.evaluation.statistics import interquartile_mean, interquartile_means, performance_profile, stratified_bootstrap

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def tensor(*x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


@given(NUMBERS)
def test_the_interquartile_mean_is_scipys_trimmed_mean(x: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scikit-learn of the extra [test] brings it")
    assert float(interquartile_mean(tensor(*x))) == pytest.approx(stats.trim_mean(x, 0.25), abs=1e-8)


def test_the_interquartile_mean_of_a_table_is_that_of_all_its_entries() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scikit-learn of the extra [test] brings it")
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(interquartile_mean(x)) == pytest.approx(stats.trim_mean(x.numpy(), 0.25, axis=None), abs=1e-14)
    columns = [stats.trim_mean(column, 0.25) for column in x.T.numpy()]
    assert interquartile_means(x).tolist() == pytest.approx(columns, abs=1e-14)


def test_by_hand() -> None:
    assert float(interquartile_mean(tensor(8.0, 100.0, 4.0, -50.0))) == 6.0  # the middle two of four
    assert float(interquartile_mean(tensor(1.0, 2.0, 6.0))) == 3.0  # too few to cut any
    assert float(interquartile_mean(tensor(5.0))) == 5.0


def test_an_infinite_quarter_is_cut_off_and_more_is_not() -> None:
    assert float(interquartile_mean(tensor(-math.inf, 1.0, 3.0, 9.0))) == 2.0
    assert float(interquartile_mean(tensor(-math.inf, -math.inf, 3.0, 9.0))) == -math.inf


@given(NUMBERS, st.floats(0.1, 10), st.floats(-100, 100))
def test_the_interval_moves_with_the_scores(x: list[float], scale: float, shift: float) -> None:
    scores = tensor(*x)
    low, high = stratified_bootstrap(interquartile_mean, scores, n=50)
    moved = stratified_bootstrap(interquartile_mean, scale * scores + shift, n=50)
    assert float(scores.min()) - 1e-6 <= float(low) <= float(high) <= float(scores.max()) + 1e-6
    assert [float(end) for end in moved] == pytest.approx([scale * float(end) + shift for end in (low, high)], abs=1e-5)


def test_a_seed_gives_one_interval_and_leaves_the_global_generator_alone() -> None:
    scores = torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
    before = torch.random.get_rng_state()
    first, again = (stratified_bootstrap(interquartile_mean, scores, n=200, seed=7) for _ in range(2))
    other = stratified_bootstrap(interquartile_mean, scores, n=200, seed=8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == again
    assert first != other


def test_runs_are_resampled_within_their_task_alone() -> None:
    scores = tensor(1.0, 100.0).repeat(6, 1)  # [N, M]: the tasks differ, their runs do not
    low, high = stratified_bootstrap(torch.mean, scores, n=100)
    assert float(low) == float(high) == 50.5


def test_the_curve_of_a_run_stays_whole() -> None:
    scores = torch.arange(5.0).reshape(5, 1, 1).expand(5, 1, 3)
    low, high = stratified_bootstrap(lambda x: interquartile_means(x.flatten(0, 1)), scores, n=300)
    assert low.shape == high.shape == (3,)
    assert len(set(low.tolist())) == len(set(high.tolist())) == 1


def test_the_interval_is_the_exact_one_of_two_runs() -> None:
    """The mean of two draws from {0, 1} is 0, ½, 1 with chance ¼, ½, ¼: the 40 % interval is the middle alone."""
    low, high = stratified_bootstrap(torch.mean, tensor(0.0, 1.0), n=4000, level=0.4)
    assert (float(low), float(high)) == (0.5, 0.5)
    low, high = stratified_bootstrap(torch.mean, tensor(0.0, 1.0), n=4000, level=0.6)
    assert (float(low), float(high)) == (0.0, 1.0)


def test_the_interval_covers_the_mean_as_often_as_it_promises() -> None:
    """200 normal scores a time, so that the percentile interval is near its limit; the chance is checked to 4 σ."""
    times, level, sampled = 600, 0.9, torch.Generator().manual_seed(2)
    covered = 0
    for seed in range(times):
        scores = torch.randn(200, generator=sampled, dtype=torch.float64) + 3.0
        low, high = stratified_bootstrap(torch.mean, scores, n=200, level=level, seed=seed)
        covered += bool(low <= 3.0 <= high)
    assert abs(covered / times - level) < 4 * math.sqrt(level * (1 - level) / times)


def test_infinities_stay_and_never_turn_into_nan() -> None:
    low, high = stratified_bootstrap(interquartile_mean, tensor(-math.inf, -math.inf, 1.0, 2.0), n=400)
    assert float(low) == -math.inf
    assert 1.0 < float(high) <= 2.0


def test_a_profile_counts_the_runs_above() -> None:
    scores = tensor(-math.inf, 0.2, 0.5, 0.9)
    profile = performance_profile(scores, tensor(-1.0, 0.2, 0.4, 0.9), n=500)
    assert profile.fraction.tolist() == [0.75, 0.5, 0.5, 0.0]  # above, not at
    assert (profile.low <= profile.fraction).all()
    assert (profile.fraction <= profile.high).all()
    assert profile.high[-1] == 0


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
def test_a_profile_falls_and_its_area_is_the_mean_of_the_clipped_scores(x: list[float]) -> None:
    thresholds = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    profile = performance_profile(tensor(*x), thresholds, n=20)
    for field in (profile.fraction, profile.low, profile.high):
        assert (field.diff() <= 0).all()
    area = float(torch.trapezoid(profile.fraction, thresholds)) - 6
    assert area == pytest.approx(sum(x) / len(x), abs=0.005)


@pytest.mark.parametrize(
    ("scores", "changed", "words"),
    [
        (tensor(1.0, math.nan), {}, r"NaN at \[1\]"),
        (tensor(), {}, "at least one run"),
        (tensor(1.0), {"n": 0}, "n: 0"),
        (tensor(1.0), {"level": 1.0}, "level: 1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(scores: Tensor, changed: dict, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        stratified_bootstrap(torch.mean, scores, **changed)
    with pytest.raises(cai.WorldError, match="at least one number"):
        interquartile_mean(tensor())
