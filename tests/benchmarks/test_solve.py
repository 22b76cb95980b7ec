"""solve on four worlds, beside the peers that can do it; each in a fresh process, for the sake of its peak memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.cases import CASES, METHODS, rule_of
from tests.benchmarks.conftest import ROWS

ROOT = Path(__file__).parents[2]


class Child:
    """A worker process; ``run`` is one solve."""

    def __init__(self, case: str, method: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.worker", case, method]
        # One thread each: SciPy and QuantEcon use no more, and threads that wait for each other measure the scheduler.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self.facts = self._listen()

    def run(self) -> float:
        """Solve once; return the start value, reward units."""
        self._tell("run")
        return float(self._listen()["value"])

    def end(self) -> dict[str, float]:
        """Return what is known of memory and compilation, and wait for the end."""
        self._tell("end")
        facts = {**self.facts, **self._listen()}
        self.process.communicate()
        return facts

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def _listen(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the worker ended with {self.process.wait()}"
        answer: dict[str, float] = json.loads(line)
        return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_solve(benchmark: Any, case: str, method: str) -> None:
    if method in CASES[case].absent:
        pytest.skip(CASES[case].absent[method])
    if method.startswith("SciPy"):
        pytest.importorskip("scipy", reason="the extra [bench] is not installed")
    if method.startswith("QuantEcon"):
        pytest.importorskip("quantecon", reason="the extra [bench] is not installed")
    benchmark.group = case
    child = Child(case, method)
    value = benchmark.pedantic(child.run, rounds=CASES[case].rounds, warmup_rounds=CASES[case].warmup)
    facts = child.end()
    benchmark.extra_info.update(facts)
    ROWS.append({"case": case, "method": method, "value": value, "seconds": benchmark.stats.stats.median, **facts})
    same = [row["value"] for row in ROWS if row["case"] == case and rule_of(row["method"]) == rule_of(method)]
    assert value == pytest.approx(same[0], rel=1e-9)
