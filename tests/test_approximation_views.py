"""Figures and the page of approximations: what is drawn is what was computed, and what cannot be drawn is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cai
from cai.support.numbers import show

ALPHA = 5.0


@pytest.fixture(scope="module")
def cart() -> Any:
    return cai.load_world("double_integrator", {"horizon": 6})


@pytest.fixture(scope="module")
def exact(cart: Any) -> cai.Messages:
    return cai.solve(cart, cai.POSTERIOR, temperature=ALPHA)


@pytest.fixture(scope="module")
def sampled(cart: Any) -> cai.approximation.Approximation:
    return cai.approximate(cart, "path_integral", temperature=ALPHA, samples=400, progress=False)


def test_the_sample_size_over_time_is_the_approximations(sampled: cai.approximation.Approximation) -> None:
    figure = cai.view.effective_sample_size(sampled)
    curve = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 6)
    np.testing.assert_allclose(curve.get_ydata(), sampled.effective_sample_size)
    assert figure.axes[0].get_yscale() == "log"
    assert f"least {show(float(sampled.effective_sample_size.min()))}" in cai.view.alt(figure)
    svi = cai.approximation.Approximation("svi", ALPHA, None)  # type: ignore[arg-type]
    with pytest.raises(cai.WorldError, match="methods without weights: svi"):
        cai.view.effective_sample_size(svi)


def test_particles_are_drawn_by_weight_over_the_exact_tube(
    sampled: cai.approximation.Approximation, exact: cai.Messages
) -> None:
    figure = cai.view.particles(sampled, "velocity", exact=exact)
    axes, found = figure.axes[0], sampled.trajectories
    assert found is not None
    mean, true = (np.asarray(line.get_ydata()) for line in axes.lines)
    np.testing.assert_allclose(mean, [float(found.moments(t)[0][1]) for t in range(7)])
    np.testing.assert_allclose(true, [float(exact.states(t).mean[1]) for t in range(7)])
    band = next(one.get_paths()[0].vertices for one in axes.collections if one.get_zorder() == 1)
    at_3 = band[np.isclose(band[:, 0], 3), 1]
    assert np.ptp(at_3) == pytest.approx(4 * float(exact.states(3).deviation[1]))
    blue = next(one for one in axes.collections if one.get_zorder() == 3)
    heights = np.stack([segment[:, 1] for segment in blue.get_segments()])
    times = np.log(1 - blue.get_colors()[:, 3]) / np.log(0.8)  # layers of ink: how often each was drawn
    assert times.sum() == pytest.approx(120)
    spread = float(found.moments(3)[1][1, 1]) ** 0.5
    assert times @ heights[:, 3] / 120 == pytest.approx(mean[3], abs=4 * spread / 120**0.5)
    assert "The exact posterior" in cai.view.alt(figure)


def test_particles_in_the_plane_show_both_sides_of_an_obstacle() -> None:
    world = cai.load_world("obstacle_field", {"horizon": 20})
    found = cai.approximate(world, "particles", temperature=2.0, samples=500, runs=4, seed=1, progress=False)
    figure = cai.view.particles(found, "position[0]", "position[1]")
    blue = next(one for one in figure.axes[0].collections if one.get_zorder() == 3)
    middle = [segment[np.abs(segment[:, 0]).argmin(), 1] for segment in blue.get_segments()]
    assert min(middle) < -0.3 < 0.3 < max(middle)
    with pytest.raises(cai.WorldError, match="'height'; expected one of position"):
        cai.view.particles(found, "height")
    with pytest.raises(cai.WorldError, match="no trajectories: svi"):
        cai.view.particles(cai.approximation.Approximation("svi", ALPHA, None))  # type: ignore[arg-type]


def test_cost_against_time_is_sorted_and_logarithmic_where_it_can_be() -> None:
    rows = {"a": [(1.0, 4.0, 0.5), (0.1, 9.0, 1.0)], "b": [(0.2, 1.0)]}
    figure = cai.view.cost_against_time(rows)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_xydata(), [[0.1, 9.0], [1.0, 4.0]])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "a: 9 ± 1 in 0.1 s to 4 ± 0.5 in 1 s" in cai.view.alt(figure)
    returns = cai.view.cost_against_time({"a": [(0.1, -200.0), (1.0, -126.0)]}, "return, reward units")
    assert returns.axes[0].get_yscale() == "linear"
    for wrong in ({}, {"a": []}, {"a": [(0.0, 1.0)]}, {"a": [(1.0, float("nan"))]}, {"a": [(1.0,)]}):
        with pytest.raises(cai.WorldError, match="cost_against_time"):
            cai.view.cost_against_time(wrong)  # type: ignore[arg-type]


def test_a_page_says_what_each_method_knows(
    sampled: cai.approximation.Approximation, exact: cai.Messages, tmp_path: Path, undrawn: None
) -> None:
    text = cai.report([sampled, exact], tmp_path, title="cart").read_text()
    for words in (
        "path_integral",
        "exact, POSTERIOR",
        str(sampled.log_evidence),
        "those that cai.approximate was given",
    ):
        assert words in text
    known = {row["name"]: row for row in json.loads((tmp_path / "approximations.json").read_text())}
    assert known["exact, POSTERIOR"]["log_evidence"]["value"] == pytest.approx(float(exact.log_evidence))
    assert known["path_integral"]["log_evidence"]["standard_error"] == sampled.log_evidence.standard_error
    assert known["path_integral"]["effective_sample_size"] == sampled.effective_sample_size.tolist()  # type: ignore[union-attr]
    assert len((tmp_path / "approximations.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_page_of_approximations_is_drawn(
    sampled: cai.approximation.Approximation, exact: cai.Messages, tmp_path: Path
) -> None:
    cai.report({"mine": sampled, "exact": exact}, tmp_path)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"sample-size", "particles-1", "particles-2"}


def test_a_trajectory_of_all_weight_is_drawn_alone(sampled: cai.approximation.Approximation) -> None:
    found = sampled.trajectories
    assert found is not None
    alone = torch.full_like(found.log_weights, -torch.inf)
    alone[7] = 0.0
    trajectories = cai.approximation.Trajectories(found.states, found.actions, found.rewards, alone)
    one = cai.approximation.Approximation("mine", ALPHA, sampled.policy, trajectories=trajectories)
    figure = cai.view.particles(one)
    (segment,) = next(lines for lines in figure.axes[0].collections if lines.get_zorder() == 3).get_segments()
    np.testing.assert_allclose(segment[:, 1], found.states[7, :, 0])
    assert "Effective sample size 1 of 400" in cai.view.alt(figure)
