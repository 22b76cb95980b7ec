"""Ten million cells, T = 20: one process beside two that share the states, one thread each.

As a module, under torchrun, it is one of the processes: it solves into a folder and leaves its facts there.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import cai
from cai.distributed import sharded
from tests.benchmarks.conftest import SHARDS
from tests.benchmarks.worker import peak, reset_peak
from tests.helpers import load_model

ROOT = Path(__file__).parents[2]
SIDE, T = 3163, 20  # 10,004,569 cells


def grid(side: int) -> Any:
    """Return the grid of the benchmarks: five actions, three outcomes, the goal in the middle."""
    return load_model("grid")(side, side, goals=[(side // 2, side // 2, 1.0)], horizon=T)


def main(folder: Path) -> None:
    """Be one process: solve a small grid, so that all is compiled, and then the large one."""
    torch.set_num_threads(1)
    halo: list[int] = []

    def plan(*asked: Any) -> Any:
        made = sharded_plan(*asked)
        halo.append(len(made[0].wanted))
        return made

    sharded_plan, sharded.plan = sharded.plan, plan
    cai.distributed.solve(grid(300), temperature=0.1, folder=folder / "small")
    reset_peak()
    begin = time.perf_counter()
    found = cai.distributed.solve(grid(SIDE), temperature=0.1, folder=folder / "large")
    facts = {**found.seconds, "whole": time.perf_counter() - begin, "peak": peak(), "halo": halo[-1]}
    (folder / f"facts-{found.states.start}.json").write_text(json.dumps(facts))


def run(processes: int, folder: Path) -> list[dict[str, float]]:
    """Solve in so many processes; return the facts of each."""
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{processes}"]
    command = [sys.executable, *launcher, "-m", "tests.benchmarks.test_sharded", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    facts = [json.loads(file.read_text()) for file in sorted(folder.glob("facts-*.json"))]
    assert len(facts) == processes
    SHARDS.append({name: max(one[name] for one in facts) for name in facts[0]} | {"processes": processes})
    return facts


def test_two_processes_beside_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        run(processes, tmp_path / f"{processes}")
    one, two = (cai.distributed.open_messages(tmp_path / f"{processes}" / "large") for processes in (1, 2))
    torch.testing.assert_close(two.value, one.value, rtol=1e-12, atol=0)
    for t in (0, T // 2, T):
        torch.testing.assert_close(two.v(t), one.v(t), rtol=1e-12, atol=1e-12)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
