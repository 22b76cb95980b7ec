"""Runs of learners on a cluster: each carries its checkpoint, and returns it with the result."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.errors import CaiError, fault, must_pass, quoted
from cai.learn.logs import Log
from cai.learn.result import Learned
from cai.support.files import write_whole
from cai.support.parallel import each


@dataclass(frozen=True)
class RemoteRun:
    """A run to be made elsewhere.

    Attributes:
        learner: its function.
        settings: of the learner and of the training, the seed among them.
        checkpoint: the file that keeps it here, or None; one that is there goes along.
        log: the folder here for its log, or None.
    """

    learner: Callable[..., Learned]
    settings: Mapping[str, Any]
    checkpoint: Path | None = None
    log: Path | None = None


def learned_remotely(
    world: Any, runs: Sequence[RemoteRun], *, ray: str, progress: bool = True
) -> Iterator[tuple[int, Learned | CaiError]]:
    """Yield the number of every run and what became of it, as they end; saved and logged here before it is yielded.

    Raises:
        WorldError: Ray is not installed or cannot be reached, or a run lost its worker again and again.
    """
    jobs = [(run.learner, run.settings, _read(run.checkpoint)) for run in runs]
    for n, (outcome, content) in each(_learn, world, jobs, ray=ray, title="runs", shown=progress):
        if isinstance(outcome, Learned):
            _save(runs[n], outcome, content)
        yield n, outcome


Job = tuple[Callable[..., Learned], Mapping[str, Any], bytes]


def _learn(world: Any, job: Job) -> tuple[Learned | CaiError, bytes]:
    """Learn on a worker, its checkpoint in a folder for the time being."""
    learner, settings, content = job
    with tempfile.TemporaryDirectory(prefix="cai-") as passing:
        path = Path(passing) / "learner"
        if content:
            path.write_bytes(content)
        try:
            learned = learner(world, **{**settings, "checkpoint": path, "progress": False})
        except CaiError as error:
            return error, b""
        except Exception as error:
            if must_pass(error):
                raise
            return fault(f"{learner.__name__}, seed {settings['seed']}", quoted(error), "a run that ends"), b""
        return learned, _read(path)


def _read(path: Path | None) -> bytes:
    return path.read_bytes() if path is not None and path.is_file() else b""


def _save(run: RemoteRun, learned: Learned, content: bytes) -> None:
    if run.checkpoint is not None:
        write_whole(run.checkpoint.parent, {run.checkpoint.name: content})
    if run.log is not None:
        run.log.mkdir(parents=True, exist_ok=True)
        with Log(run.log) as log:
            for n in range(len(learned.history)):
                log(learned.history[: n + 1])
