"""The cost of POSTERIOR's optimism about noise: the stored numbers, a part of them again, and what theory says."""

import importlib
import json
from typing import Any

import pytest

from cai.experiments.risk_seeking import SIZE, RiskSeeking, risk_sought
from cai.experiments.verdict import HOLDS
from tests import chapters


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(chapters.DOCS)
    return importlib.import_module("stored")


@pytest.fixture
def found(stored: Any) -> RiskSeeking:
    numbers = json.loads((stored.DATA / "risk_seeking.json").read_text(encoding="utf-8"))
    result: RiskSeeking = stored.revived(RiskSeeking, numbers)
    return result


def test_the_stored_numbers_are_found_again(stored: Any) -> None:
    again = stored.plain(risk_sought((0.01,), noises=(0.1,), systems=1, progress=False))
    numbers = json.loads((stored.DATA / "risk_seeking.json").read_text(encoding="utf-8"))
    assert not stored.differences(again, numbers, "risk_seeking", 1e-5)


def test_the_return_is_the_worse_one_on_every_system(found: RiskSeeking) -> None:
    assert found.verdict.word == HOLDS
    heads, rows = found.table
    assert len(rows) == len(found.noises) * len(found.temperatures)
    assert all(len(row) == len(heads) for row in rows)


def test_variational_pays_for_its_entropy_alone(found: RiskSeeking) -> None:
    """½ α for each action coordinate and time, whatever the system and its noise."""
    for by_alpha in found.variational.values():
        for alpha, mean in by_alpha.items():
            assert mean.runs == pytest.approx([0.5 * float(alpha) * SIZE["actions"] * SIZE["horizon"]] * len(mean.runs))


def test_optimism_grows_with_noise_and_falls_with_temperature(found: RiskSeeking) -> None:
    """The gain is the best one as α grows: P̃ = P (I + W P/α)⁻¹ tends to P."""
    for noise in found.noises:
        by_alpha = [found.lost_by_gain(noise, alpha).value for alpha in found.temperatures]
        assert by_alpha == sorted(by_alpha, reverse=True)
        assert by_alpha[-1] < 0.1 * by_alpha[0]
