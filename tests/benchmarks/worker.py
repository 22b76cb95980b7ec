"""A fresh process that solves one case by one method, on command: ``python -m tests.benchmarks.worker CASE METHOD``.

It answers one line of JSON when it is ready, one to each line "run", and one with the peaks of memory to "end".
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

import cai
from tests.benchmarks.cases import CASES
from tests.benchmarks.peers import prepare


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


def say(**answer: float) -> None:
    """Print one line of JSON."""
    print(json.dumps(answer), flush=True)


def main(case_name: str, method: str) -> None:
    """Set up, then solve as often as asked."""
    torch.set_grad_enabled(False)
    case = CASES[case_name]
    world = case.build()
    begin = time.perf_counter()
    tables = cai.tabulate(world)
    compiled, compile_peak = time.perf_counter() - begin, peak()
    solve = prepare(method, world, tables, case.temperature)
    if not method.startswith("cai"):
        del tables
    reset_peak()
    say(compile_seconds=compiled, compile_peak=compile_peak)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        say(value=solve())
    say(solve_peak=peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
