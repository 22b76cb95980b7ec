"""The engine beside the peers that install, and beside what the memory's bandwidth allows: one run, one set of tables.

Alone: ``.venv/bin/python -m pytest tests/benchmarks/test_engine.py -s``. The tables are printed at the end, and written
to ``reports/benchmarks.md``. Numbers must agree, or a test fails; whether a target is met is only said.
"""

import shutil

import pytest

from tests.benchmarks.by_hand import compiler
from tests.benchmarks.engine import PEERS, RULES
from tests.benchmarks.reward_gradient import CASES
from tests.benchmarks.run import RUN
from tests.benchmarks.worker import fresh

SIDE = 1000
SAMPLES: dict[str, list[float]] = {}
"""Some values after one backup, by rule, of whoever came first."""


def test_the_limits() -> None:
    """Taken again between our rules: the least of all counts."""
    RUN.limit(**fresh("bandwidth.limits", SIDE**2, threads=2))
    assert RUN.limits


@pytest.mark.parametrize(("rule", "name"), [(rule, name) for rule, peers in PEERS.items() for name in peers])
def test_a_peer(rule: str, name: str) -> None:
    why = _absent(rule, name)
    if why:
        RUN.absent[rule, name] = why
        pytest.skip(why)
    for threads, found in fresh("engine.peer", rule, name, SIDE, threads=2).items():
        _agree(PEERS[rule][name].rule or rule, found.pop("sample"))
        RUN.peers[rule, name, int(threads)] = found


@pytest.mark.parametrize("rule", RULES)
def test_ours(rule: str) -> None:
    RUN.limit(**fresh("bandwidth.limits", SIDE**2, threads=2))
    for threads, found in fresh("engine.ours", rule, SIDE, threads=2).items():
        _agree(rule, found.pop("sample"))
        RUN.ours[rule, int(threads)] = found


@pytest.mark.parametrize("rule", RULES)
def test_a_solve(rule: str) -> None:
    for threads, found in fresh("engine.solves", rule, SIDE, 50, threads=2).items():
        RUN.solves[rule, int(threads)] = found


@pytest.mark.parametrize(("side", "horizon"), [(SIDE, 50), (SIDE, 20), (3163, 20)])
def test_from_nothing(side: int, horizon: int) -> None:
    RUN.whole[side, horizon] = fresh("engine.from_nothing", side, horizon, 2, threads=2)


def test_beside_pyro() -> None:
    RUN.lake.update(fresh("lake.beside_pyro"))
    same = [found["log_evidence"] for name, found in RUN.lake.items() if "temperatures" not in name]
    assert same == pytest.approx([same[0]] * len(same), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient(case: str) -> None:
    threads = 1 if "Lake" in case else 2
    RUN.gradients[case] = fresh("reward_gradient.measure", case, threads, threads=threads)


def _absent(rule: str, name: str) -> str:
    """Say why a peer cannot take part."""
    for module in ("scipy", "quantecon", "jax"):
        pytest.importorskip(module, reason="the extra [bench] is not installed")
    needs = PEERS[rule][name].needs
    if needs == "C" and compiler() is None:
        return "skipped: no C compiler"
    if needs == "C++" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        return "skipped: no C++ compiler"
    return ""


def _agree(rule: str, sample: list[float]) -> None:
    assert sample == pytest.approx(SAMPLES.setdefault(rule, sample), rel=1e-9, abs=1e-9)
