"""solve on three small worlds, beside the peers that can do it; each in a fresh process, for the sake of its memory."""

import pytest

from tests.benchmarks.cases import CASES, METHODS, rule_of
from tests.benchmarks.conftest import ROWS
from tests.benchmarks.worker import fresh


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_solve(case: str, method: str) -> None:
    if method in CASES[case].absent:
        pytest.skip(CASES[case].absent[method])
    pytest.importorskip("quantecon", reason="the extra [bench] is not installed")
    found = fresh("peers.solved", case, method)
    ROWS.append({"case": case, "method": method, **found})
    same = [row["value"] for row in ROWS if row["case"] == case and rule_of(row["method"]) == rule_of(method)]
    assert found["value"] == pytest.approx(same[0], rel=1e-9)
