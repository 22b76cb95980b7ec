"""Linear-Gaussian worlds: many systems, one system, and long horizons by scan, each beside its peers in one run."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch

import cai
from cai.exact.forms import operator
from cai.exact.gaussian.homogeneous import homogeneous, matrix_of
from cai.exact.gaussian.riccati import recursion
from cai.exact.gaussian.scan import scan
from tests.benchmarks.conftest import REGULATORS
from tests.benchmarks.riccati_peers import by_mpc, by_numpy, regulators
from tests.benchmarks.worker import clocked


def side_by_side(case: str, ways: dict[str, Callable[[], Any]], turns: int = 12) -> dict[str, float]:
    """Take turns, each way once a turn, so that what else the machine does meets all; note the least of each."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, work in ways.items():
            found[name] += clocked(work, least=1, rounds=1)
    least = {name: min(seconds) for name, seconds in found.items()}
    REGULATORS.extend({"case": case, "method": name, "seconds": seconds} for name, seconds in least.items())
    print(f"\n{case}: " + ", ".join(f"{name} {1e3 * seconds:.3g} ms" for name, seconds in least.items()))
    return least


def test_many_systems() -> None:
    """512 systems, n = 12, m = 4, T = 100: at most 1.5 times the recursion in NumPy."""
    system = regulators((512,), 12, 4, 100)
    ways = {"cai, HARD": lambda: cai.solve(system, cai.HARD), "NumPy, batched": by_numpy(system)}
    found = side_by_side("512 systems, n = 12, m = 4, T = 100", ways)
    expected = torch.from_numpy(by_numpy(system)())
    assert float((cai.solve(system, cai.HARD).v.M[:, 0] + expected).abs().max()) < 1e-9
    assert found["cai, HARD"] < 1.5 * found["NumPy, batched"]


@pytest.mark.skipif(find_spec("mpc") is None, reason="mpc.pytorch is not installed: pip install mpc")
def test_many_systems_beside_mpc() -> None:
    """The same, 15 times quicker than mpc.pytorch, which also rolls its solution out."""
    system = regulators((512,), 12, 4, 100)
    ways = {"cai, HARD": lambda: cai.solve(system, cai.HARD), "mpc.pytorch": by_mpc(system)}
    found = side_by_side("512 systems beside mpc.pytorch", ways, turns=3)
    assert 15 * found["cai, HARD"] < found["mpc.pytorch"]


def test_one_system() -> None:
    """n = 4, m = 2, noise of 4, T = 50: at most 2 ms in all, under each rule."""
    system = regulators((), 4, 2, 50, 4)
    rules = (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD)
    ways = {f"cai, {rule}": lambda rule=rule: cai.solve(system, rule, temperature=50.0) for rule in rules}
    ways["NumPy"] = by_numpy(regulators((), 4, 2, 50))
    found = side_by_side("one system, n = 4, m = 2, T = 50", ways, turns=300)
    assert all(seconds < 2e-3 for seconds in found.values())


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL], ids=str)
def test_a_hundred_thousand_steps(rule: cai.Rule, timed: bool) -> None:
    """T = 10^5, n = 4: the scan beside the lean recursion and (over 10^3 steps, times 100) the plain equation."""
    T = 100_000
    system = regulators((), 4, 2, T, 4, timed=timed)
    op, near = operator(system, rule, 50.0), operator(regulators((), 4, 2, 1000, 4), rule, 50.0)
    slices, last = homogeneous(system, rule, op.alpha), matrix_of(op.terminal())
    assert slices is not None

    def plain() -> None:
        v = near.terminal()
        for t in reversed(range(1000)):
            v = near.backup(t, v)

    with torch.no_grad():
        ways = {"scan": lambda: scan(slices, last, T), "recursion": lambda: recursion(slices, last, T)}
        what = "slices that differ" if timed else "one slice"
        side_by_side(f"T = 10^5, n = 4, {what}, {rule}", {**ways, "plain equation, 10^3 of 10^5": plain}, turns=3)
        scanned, stepped = (way() for way in ways.values())
    assert scanned is not None
    assert stepped is not None
    assert float((scanned[0] - stepped[0]).abs().max()) < 1e-9 * float(stepped[0].abs().max())
