"""Many seeds of one learner: in this process, in parallel processes with checkpoints, or on Ray."""

import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from cai.errors import CaiError, fault, user_code
from cai.learn.names import FORMS, KL, SOFT, is_soft, learner_of
from cai.learn.remote import RemoteRun, learned_remotely
from cai.learn.result import Learned
from cai.support.progress import bar
from cai.support.wording import read_name

Run = Callable[[], Learned]


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C ended ``many``.

    Attributes:
        runs: those that had ended by themselves before.
    """

    def __init__(self, runs: Sequence[Learned]) -> None:
        super().__init__()
        self.runs = tuple(runs)


_RUNS: list[Run] = []  # forked processes read it from here, so a world need not be picklable


def many(
    learner: str | Callable[..., Learned],
    world: Any,
    *,
    seeds: Sequence[int],
    jobs: int = 1,
    ray: str | None = None,
    folder: Any = None,
    progress: bool = True,
    **settings: Any,
) -> list[Learned]:
    """Run a learner with many seeds, in parallel; the results do not depend on how many run at once.

    Args:
        learner: a learner's function, or its name, with ``soft_`` before it for a temperature.
        world: the world or environment.
        seeds: one run each.
        jobs: processes at a time, where the system can fork; 1 stays in this process.
        ray: a Ray cluster in place of processes; it decides how many runs go on at once. "local" starts one on this
            machine, "auto" takes the running one, or host:port. A run whose worker dies starts again. Needs the extra
            ``cai[ray]``.
        folder: stores a checkpoint of every seed; the same call goes on from them.
        progress: show a bar on a terminal.
        settings: arguments of the learner and of the training; each seed has its own folder in ``log``.

    Raises:
        WorldError: there is no such learner, or a run failed.
        BrokenOff: Ctrl-C; the error holds the finished runs.
    """
    if isinstance(learner, str):
        read_name("learner", learner.partition(KL)[0], FORMS)
        if is_soft(learner) and settings.get("temperature") is None:
            raise fault(f"{learner}, temperature", "none", "α > 0, reward units")
    if not isinstance(seeds, Sequence) or not seeds or len(set(seeds)) < len(seeds):
        raise fault("seeds", f"{seeds!r}", "a list or a range of at least one, each but once")
    if settings.get("checkpoint") is not None:
        raise fault("many, checkpoint", f"{settings['checkpoint']}", "folder=, where each seed has a file of its own")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise fault("jobs", f"{jobs!r}", "a whole number, at least 1")
    function = learner_of(learner) if isinstance(learner, str) else learner
    name = run_name(function, settings)
    if ray is not None:
        if jobs > 1:
            raise fault("jobs", f"{jobs} beside ray", "one of them: a cluster decides how many run at a time")
        return _on_cluster(function, name, world, seeds, ray, folder, progress, settings)
    with _place(folder, jobs) as place:

        def run(seed: int, *, shown: bool = False) -> Learned:
            checkpoint = {} if place is None else {"checkpoint": checkpoint_of(place, name, seed)}
            logs = {"log": _log_of(settings["log"], name, seed)} if settings.get("log") else {}
            return function(world, seed=seed, progress=shown, **{**settings, **checkpoint, **logs})

        if jobs > 1 and len(seeds) > 1 and "fork" in multiprocessing.get_all_start_methods():
            runs: list[Run] = [lambda seed=seed: run(seed) for seed in seeds]  # type: ignore[misc]
            whole = _side_by_side(runs, jobs, name, progress)
            if len(whole) < len(seeds):
                raise BrokenOff([runs[n]() for n in whole])
        return _one_by_one(run, seeds, name, progress)


def run_name(function: Callable[..., Learned], settings: Mapping[str, Any]) -> str:
    """Return what the files of a learner are called: its name, and whether it is soft."""
    return ("" if settings.get("temperature") is None else SOFT) + function.__name__


def checkpoint_of(folder: Path, name: str, seed: int) -> Path:
    """Return the file that keeps one seed."""
    return folder / f"{name}-{seed}.learner"


def _log_of(folder: Any, name: str, seed: int) -> Path:
    return Path(folder) / f"{name}-{seed}"


def _on_cluster(
    function: Callable[..., Learned],
    name: str,
    world: Any,
    seeds: Sequence[int],
    ray: str,
    folder: Any,
    progress: bool,
    settings: dict[str, Any],
) -> list[Learned]:
    log, rest = settings.get("log"), {key: value for key, value in settings.items() if key != "log"}
    runs = [
        RemoteRun(
            function,
            {**rest, "seed": seed},
            None if folder is None else checkpoint_of(Path(folder), name, seed),
            None if log is None else _log_of(log, name, seed),
        )
        for seed in seeds
    ]
    results: dict[int, Learned] = {}
    try:
        for n, result in learned_remotely(world, runs, ray=ray, progress=progress):
            if isinstance(result, CaiError):
                raise result
            results[n] = result
    except KeyboardInterrupt:
        raise BrokenOff([results[n] for n in sorted(results)]) from None
    return [results[n] for n in range(len(runs))]


def _one_by_one(run: Callable[..., Learned], seeds: Sequence[int], title: str, progress: bool) -> list[Learned]:
    results: list[Learned] = []
    try:
        with bar(f"{title}, seeds", len(seeds), shown=progress) as tell:
            for seed in seeds:
                tell(len(results), f"seed {seed}")
                result = run(seed, shown=progress)
                if result.stopped == "interrupted":
                    raise KeyboardInterrupt
                results.append(result)
    except KeyboardInterrupt:
        raise BrokenOff(results) from None
    return results


def _side_by_side(runs: list[Run], jobs: int, title: str, progress: bool) -> list[int]:
    """Run them all, and return the numbers of those that ended by themselves: fewer than all after Ctrl-C."""
    _RUNS[:] = runs
    try:
        with ProcessPoolExecutor(min(jobs, len(runs)), multiprocessing.get_context("fork"), _use_one_thread) as pool:
            waiting: list[Future[str]] = [pool.submit(_run, n) for n in range(len(runs))]
            with suppress(KeyboardInterrupt):  # of this process, or of a run
                try:
                    _report_progress(waiting, title, progress)
                finally:  # whatever ended it, what has not begun need not begin
                    pool.shutdown(cancel_futures=True)
        return [n for n, future in enumerate(waiting) if _whole(future)]
    except BrokenProcessPool:
        raise fault(title, "a process that was killed", "one that ends; with folder= the same call goes on") from None
    finally:
        _RUNS.clear()


def _whole(future: "Future[str]") -> bool:
    return not future.cancelled() and future.exception() is None and future.result() != "interrupted"


def _report_progress(waiting: list[Future[str]], title: str, progress: bool) -> None:
    with bar(title, len(waiting), shown=progress) as show_progress:
        for done, future in enumerate(as_completed(waiting), 1):
            if future.result() == "interrupted":
                raise KeyboardInterrupt
            show_progress(done, "seeds")


def _use_one_thread() -> None:
    torch.set_num_threads(1)  # as many processes as cores


def _run(n: int) -> str:
    """Return why a run stopped; an error of user code is quoted, because not every error can be sent between
    processes."""
    with user_code(f"run {n} of many", "one that ends"):
        return _RUNS[n]().stopped


@contextmanager
def _place(folder: Any, jobs: int) -> Any:
    """Yield where the seeds are kept: the caller's folder, one for the time being, or none for a single process."""
    if folder is not None:
        yield Path(folder)
    elif jobs > 1:
        with tempfile.TemporaryDirectory(prefix="cai-") as passing:
            yield Path(passing)
    else:
        yield None
