"""Return against KL: the front is the optimum at every temperature, and no policy lies beyond it."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import PathPatch

import cai
from cai.evaluation.pareto_front import pareto_front
from cai.support.numbers import show
from cai.view.return_kl_figure import path_of
from tests.worlds import RandomWorld

ALPHAS = [0.05, 0.2, 0.7, 3.0]


@pytest.fixture(scope="module")
def world() -> Any:
    return RandomWorld(4, 3, 3, 2, horizon=4, holes=False)


@pytest.fixture(scope="module")
def compared(world: Any) -> cai.Comparison:
    learned = [cai.learn.reinforce(world, temperature=0.5, seed=seed, steps=4000, evaluations=4) for seed in (0, 1)]
    policies = {"prior": None, "best": cai.VARIATIONAL, "posterior": cai.POSTERIOR, "hard": cai.HARD}
    return cai.compare(cai.tabulate(world), policies | {"reinforce": learned}, temperature=0.5)


@pytest.mark.parametrize(("discount", "horizon"), [(1.0, 4), (0.8, 4), (0.8, None)])
def test_the_front_is_the_optimum_at_each_temperature(discount: float, horizon: int | None) -> None:
    world = RandomWorld(1, 3, 3, 2, horizon=horizon, holes=False, discount=discount)
    tables = cai.tabulate(world)
    front = pareto_front(tables, ALPHAS[::-1])
    for n, alpha in enumerate(ALPHAS):
        best = cai.evaluate(tables, cai.VARIATIONAL, temperature=alpha)
        assert float(front.kl[n]) == pytest.approx(best.kl_to_prior, abs=1e-8)
        assert float(front.expected_return[n]) == pytest.approx(best.expected_return, abs=1e-8)


def test_of_real_states_too() -> None:
    cart = cai.linearise(cai.load_world("double_integrator", {"horizon": 5}))
    front = pareto_front(cart, ALPHAS[2:])
    slope = front.expected_return.diff() / front.kl.diff()
    assert 0.7 < float(slope) < 3.0  # between the temperatures at its ends


def test_no_policy_lies_beyond_the_tangents_of_the_front(world: Any) -> None:
    tables, generator = cai.tabulate(world), torch.Generator().manual_seed(0)
    front = pareto_front(tables, ALPHAS)
    shape = (4, tables.states.size, tables.actions.size)
    for sharpness in (0.1, 1.0, 5.0):
        logits = sharpness * torch.randn(shape, generator=generator, dtype=torch.float64)
        found = cai.evaluate(tables, logits.softmax(-1), temperature=1.0)
        most = front.expected_return + front.temperature * (found.kl_to_prior - front.kl)
        assert found.expected_return <= float(most.min())


def test_the_figure_holds_the_front_the_marks_and_the_paths(compared: cai.Comparison) -> None:
    figure = cai.view.return_against_kl(compared, temperatures=ALPHAS)
    (axes,) = figure.axes
    (curve,) = (patch for patch in axes.patches if isinstance(patch, PathPatch))
    front = pareto_front(compared.model, [*ALPHAS, 0.5])
    corners = curve.get_path().vertices
    np.testing.assert_allclose(corners[::2], torch.stack((front.kl, front.expected_return), -1), atol=1e-12)
    steepness = np.diff(corners[:, 1]) / np.diff(corners[:, 0])  # each piece leaves and arrives along a tangent
    np.testing.assert_allclose(steepness[::2], front.temperature[:-1], rtol=1e-6)
    np.testing.assert_allclose(steepness[1::2], front.temperature[1:], rtol=1e-6)
    marks = {tuple(np.round(line.get_xydata()[0], 9)) for line in axes.lines if len(line.get_xydata()) == 1}
    for name, one in compared.evaluations.items():
        assert (round(one.kl_to_prior, 9), round(one.expected_return, 9)) in marks
        assert f"{name}: {show(one.expected_return)} at {show(one.kl_to_prior)} nats" in cai.view.alt(figure)


def test_a_policy_far_from_the_front_is_a_mark_at_the_edge(world: Any) -> None:
    tables = cai.tabulate(world)
    results = {"hard": cai.evaluate(tables, cai.HARD, temperature=3.0)}
    (axes,) = cai.view.return_against_kl(results, temperatures=[2.0, 3.0]).axes
    (place,) = (line.get_xydata()[0] for line in axes.lines if line.get_marker() == ">")
    np.testing.assert_allclose(place, (axes.get_xlim()[1], results["hard"].expected_return))
    assert results["hard"].kl_to_prior > axes.get_xlim()[1]


def test_a_path_begins_at_the_prior_and_leads_to_the_learned_policy(compared: cai.Comparison) -> None:
    for subject in compared.subjects["reinforce"]:
        assert subject.evaluation is not None
        path = path_of(subject.run, 0.5)
        assert len(path) == 5
        np.testing.assert_allclose(
            path[-1], (subject.evaluation.kl_to_prior, subject.evaluation.expected_return), atol=1e-9
        )
        assert path[0, 0] < path[-1, 0]


def test_results_that_do_not_belong_in_one_plane_are_refused(world: Any) -> None:
    tables = cai.tabulate(world)
    two = {str(alpha): cai.evaluate(tables, None, temperature=alpha) for alpha in (0.1, 1.0)}
    for results, seen in ((two, "several worlds or temperatures"), ({"a": 3}, "a int"), ({}, "none")):
        with pytest.raises(cai.WorldError, match=seen):
            cai.view.return_against_kl(results)
