"""Work in a fresh process, for the sake of its memory: ``fresh("engine.ours", "POSTERIOR", 1000)``."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORES = 2
"""How many cores the benchmarks use, of however many there are."""


def fresh(function: str, *arguments: Any, threads: int = 1) -> dict[str, Any]:
    """Call a function of this folder in a process of its own; return its answer, a dict.

    Args:
        function: ``module.name``.
        arguments: what JSON can carry.
        threads: for the libraries that ask the environment once and for all.
    """
    command = [sys.executable, "-m", "tests.benchmarks.worker", function, *map(json.dumps, arguments)]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    asked = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **asked, "PYTHONPATH": path}
    )
    assert done.returncode == 0, f"{function}{arguments} ended with {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def peak() -> int:
    """Return the peak of resident memory since the last reset, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count the parent's memory at the time of the fork, and knows no reset
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Start counting anew where the system can; otherwise the peak of the set-up counts too."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def clocked(work: Callable[[], Any], *, least: int = 3, rounds: int = 20, seconds: float = 2.0) -> list[float]:
    """Return the seconds of each turn, sorted: ``least`` turns, then more up to ``rounds`` while ``seconds`` last."""
    found: list[float] = []
    while len(found) < least or (len(found) < rounds and sum(found) < seconds):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return sorted(found)


def summary(seconds: list[float]) -> dict[str, float]:
    """Return the least and the median of sorted seconds."""
    return {"seconds": seconds[0], "median": seconds[len(seconds) // 2]}


def main(function: str, *arguments: str) -> None:
    """Call the function and print its answer as one line of JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    module, name = function.split(".")
    answer = getattr(import_module(f"tests.benchmarks.{module}"), name)(*map(json.loads, arguments))
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
