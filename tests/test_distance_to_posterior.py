"""The distance of samplers to the exact posterior: the stored numbers, a part of them again, and what theory says."""

import importlib
import json
from typing import Any

import pytest
import torch

import cai
from cai.experiments.distance_to_posterior import AXES, LEARNED, SAMPLERS, DistanceToPosterior, distances
from tests import chapters


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(chapters.DOCS)
    return importlib.import_module("stored")


@pytest.fixture
def numbers(stored: Any) -> Any:
    return json.loads((stored.DATA / "distance_to_posterior.json").read_text(encoding="utf-8"))


@pytest.fixture
def found(stored: Any, numbers: Any) -> DistanceToPosterior:
    result: DistanceToPosterior = stored.revived(DistanceToPosterior, numbers)
    return result


@pytest.mark.slow
def test_the_stored_numbers_are_found_again(stored: Any, numbers: Any) -> None:
    again = stored.plain(distances({"samples": (100,), "temperature": (0.1,)}, seeds=1, learners=0, progress=False))
    assert not stored.differences(again, numbers, "distance_to_posterior", 1e-5)


@pytest.mark.parametrize("axis", AXES)
def test_the_twisted_particles_are_the_posterior(found: DistanceToPosterior, axis: str) -> None:
    """Their twist is exact on these worlds: no distance, and all weights the same."""
    for value, by in found.nats[axis].items():
        assert abs(by["particles, twisted"].value) < 1e-6
        samples = float(value) if axis == "samples" else 1000
        assert found.sample_size[axis][value]["particles, twisted"].value == pytest.approx(samples, rel=1e-4)


@pytest.mark.parametrize("method", ["path integral, the prior", "particles"])
def test_the_distance_falls_with_samples_and_temperature(found: DistanceToPosterior, method: str) -> None:
    """More samples and a warmer temperature are nearer, seed by seed on the mean."""
    by_samples, by_alpha = found.nats["samples"], found.nats["temperature"]
    assert by_samples["10"][method].value > by_samples["10000"][method].value
    assert by_alpha["0.01"][method].value > by_alpha["10"][method].value


def test_the_prior_collapses_in_the_cold(found: DistanceToPosterior) -> None:
    """Importance sampling from the prior has one trajectory left at the coldest temperature."""
    assert "0.01" in found.collapse("temperature", "path integral, the prior")
    assert found.collapse("temperature", "particles, twisted") == ()


def test_a_policy_s_distance_is_never_negative(found: DistanceToPosterior) -> None:
    """It is a KL; of all policies VARIATIONAL's is the nearest."""
    for by in (by for values in found.laws.values() for by in values.values()):
        for name in by.keys() - {"iterated Gaussian's law", "SAC's policy"}:
            pairs = zip(by["VARIATIONAL's policy"].runs, by[name].runs, strict=True)
            assert all(0 <= best <= other + 1e-9 for best, other in pairs)


def test_one_step_of_the_iterated_gaussian_is_exact(found: DistanceToPosterior) -> None:
    """Its law is the posterior, and its policy is VARIATIONAL's, up to the tolerance that it stops at."""
    for by in (by for values in found.laws.values() for by in values.values()):
        assert abs(by["iterated Gaussian's law"].value) < 1e-6
        assert by["iterated Gaussian's policy"].value == pytest.approx(by["VARIATIONAL's policy"].value, rel=1e-4)


def test_to_plan_again_is_better_than_one_plan(found: DistanceToPosterior) -> None:
    """With the same fixed covariance; and a covariance that adapts is better than both."""
    by = found.laws["temperature"]["0.1"]
    assert by["path integral's policy"].value < by["MPPI, replanned"].value < by["MPPI's plan"].value


def test_a_plan_without_noise_is_infinitely_far() -> None:
    """It is certain where the posterior is not."""
    model = cai.linearise(cai.load_world("lqg", {"states": 2, "actions": 1, "horizon": 3}))
    gap = cai.evaluate(model, (torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 1))).evidence_gap
    assert gap == torch.inf


def test_sac_is_farther_than_the_best_policy(found: DistanceToPosterior) -> None:
    """On the worlds that it learned in, at every temperature."""
    for alpha in LEARNED:
        by = found.laws["temperature"][f"{alpha:g}"]
        sac = by["SAC's policy"].runs
        assert all(best < learned for best, learned in zip(by["VARIATIONAL's policy"].runs, sac, strict=False))


def test_all_methods_are_in_the_table(found: DistanceToPosterior) -> None:
    heads, rows = found.table
    assert len(heads) == len(rows[0]) == len(SAMPLERS) + 8
    assert len(rows) == sum(map(len, AXES.values()))
