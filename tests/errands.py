"""Tasks that the tests send to the workers of a cluster; a worker imports this file, so it imports little itself."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cai.errors import Finding, WorldError


def dies(common: None, n: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def learns(world: Any, *, seed: int, marks: Path, **options: Any) -> Any:
    """Learn, but lose the worker of seed 2 when all is learned, the first time."""
    import cai.learn

    begun = len(list(marks.glob(f"{seed}-*")))
    (marks / f"{seed}-{begun}").touch()
    asked = {"temperature": 0.5, "steps": 60, "evaluations": 2, "lr": 0.5}
    one = cai.learn.q_learning(world, seed=seed, **asked, **options)  # type: ignore[arg-type]
    if seed == 2 and begun == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return one


def sleeps(world: Any, *, seed: int, progress: bool, checkpoint: Path) -> Any:
    from cai.learn.result import Learned

    time.sleep(60 * seed)
    checkpoint.write_bytes(b"kept")
    return Learned(None, "sleeps", None, seed, (), 0, 0, 0.0, "steps")


def refuses(common: str, n: int) -> None:
    print(f"{common} {n}", file=sys.stderr)
    raise WorldError([Finding("here", "a thing", "another")])


def divides(common: None, n: int) -> float:
    return 1 / n


def precision(common: None, n: int) -> str:
    import torch

    return str(torch.get_default_dtype())
