"""SysAdmin on a ring: what one backup on factors costs as machines are added, beside tables, and a symbolic peer."""

import pytest

from tests.benchmarks import conftest
from tests.benchmarks.worker import fresh

RULES = ("POSTERIOR", "VARIATIONAL", "HARD")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [6, 8, 10, 12, 14, 16, 18, 20])
def test_a_backup(n: int, rule: str) -> None:
    row = {"n": n, "rule": rule, "factors": fresh("factored.backups", n, rule, 2, threads=2)}
    if n <= 10:
        row["tables"] = fresh("factored.flat", n, rule, 2, threads=2)
    conftest.FACTORED.append(row)


@pytest.mark.parametrize(("n", "horizon"), [(10, 40), (16, 40)])
def test_a_solve(n: int, horizon: int) -> None:
    conftest.WHOLE.append({"n": n, "T": horizon, **fresh("factored.whole", n, horizon, 2, threads=2)})


@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_symbolic_value_iteration(n: int) -> None:
    pytest.importorskip("pyRDDLGym_symbolic", reason="the extra [bench] is not installed")
    found = fresh("factored.symbolic", n, 4)
    if n == 3:  # by recursion over the formula of the domain, in plain Python; the peer's own value is a little lower
        assert found["value"] == pytest.approx(11.232576965625, rel=1e-12)
    conftest.SYMBOLIC.append({"n": n, **found})


@pytest.mark.parametrize(
    ("problem", "instance"),
    [("SysAdmin_MDP_ippc2011", n) for n in (1, 2, 3, 4)] + [("GameOfLife_MDP_ippc2011", n) for n in (1, 2, 3, 4, 5, 6)],
)
def test_competition(problem: str, instance: int) -> None:
    pytest.importorskip("rddlrepository", reason="the extra [rddl] is not installed")
    found = fresh("ippc.promised_and_kept", problem, str(instance), 2, threads=2)
    assert abs(found["mean"] - found["value"]) <= 4 * found["error"]
    conftest.COMPETITION.append(found)
