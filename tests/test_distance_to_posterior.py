"""The distance of samplers to the exact posterior: the stored numbers, a part of them again, and what theory says."""

import importlib
import json
from typing import Any

import pytest

from cai.experiments.distance_to_posterior import AXES, SAMPLERS, DistanceToPosterior, distances
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


def test_the_stored_numbers_are_found_again(stored: Any, numbers: Any) -> None:
    again = stored.plain(distances({"samples": (100,), "temperature": (0.1,)}, seeds=1, progress=False))
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
    """It is a KL; VARIATIONAL's policy is nearer than the prior."""
    for by in (by for values in found.policies.values() for by in values.values()):
        assert all(0 <= best <= prior for best, prior in zip(by["VARIATIONAL"].runs, by["prior"].runs, strict=True))


def test_all_samplers_are_in_the_table(found: DistanceToPosterior) -> None:
    heads, rows = found.table
    assert len(heads) == len(SAMPLERS) + 3
    assert len(rows) == sum(map(len, AXES.values()))
