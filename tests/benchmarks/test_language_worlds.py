"""A model of language × an automaton of some states: from a trigram to a million reached states."""

import pytest

from tests.benchmarks.conftest import TEXTS
from tests.benchmarks.worker import fresh


@pytest.mark.parametrize(
    ("order", "horizon", "contained"), [(2, 12, " the "), (3, 12, "wonderful"), (4, 12, "wonderful"), (5, 20, " the ")]
)
def test_a_text_is_asked_for(order: int, horizon: int, contained: str) -> None:
    found = fresh("language_worlds.solved", order, horizon, contained)
    TEXTS.append({"order": order, "horizon": horizon, **found})
    assert found["log_evidence"] > 0
