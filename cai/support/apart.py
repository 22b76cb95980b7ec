"""Tasks of user code, each in a process of its own: one that hangs is killed, one that dies takes no other with it."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from cai.errors import fault, quoted

LOOK = 1.0
"""Seconds between two looks at whether a process still lives: of its parent, and of itself at its parent."""


LONGER = 3.0
"""How many times as long as all others a task takes that hangs."""


@dataclass(frozen=True)
class Failed:
    """A task that raised, or whose process died.

    Attributes:
        words: what was raised, in a line.
    """

    words: str


@dataclass(frozen=True)
class Overdue:
    """A task that was killed at the end of its time.

    Attributes:
        seconds: the time it had.
        at_end: whether the time of all tasks was over, not its own.
    """

    seconds: float
    at_end: bool = False


@dataclass(frozen=True)
class Skipped:
    """A task that was not begun."""


@dataclass(frozen=True)
class _Running:
    """A process that works.

    Attributes:
        n: the number of its task.
        process: it.
        seconds: the time it has; infinite where there is no limit.
        at_end: whether that is up to the end of all the time.
        began: when it began.
    """

    n: int
    process: Any
    seconds: float
    at_end: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """The seconds that it still has."""
        return self.began + self.seconds - time.monotonic()


def attempted(task: Callable[[int], Any], n: int) -> Any:
    """Return ``task(n)`` of this process, or how it failed; Ctrl-C passes."""
    try:
        return task(n)
    except (Exception, SystemExit) as error:
        return Failed(quoted(error))


def each_apart(
    task: Callable[[int], Any],
    count: int,
    *,
    jobs: int,
    seconds: float | None = None,
    patience: float = 1.0,
    skip: Callable[[int], bool] = lambda n: False,
) -> Iterator[tuple[int, Any]]:
    """Yield ``(n, task(n))`` for n = 0 … count-1 as they end, ``jobs`` processes at a time, each forked for one task.

    A task hangs, and is killed, that takes ``patience`` times its share, seconds left × jobs / tasks left, and
    ``LONGER`` times as long as any that ended: where all are slow the last ones are not begun. At an end before the
    last, or Ctrl-C, those that run are killed with all their own processes.

    Args:
        task: any function; its result is pickled.
        count: how many there are.
        jobs: processes at a time.
        seconds: for all of them; None sets no limit.
        patience: how many shares of the time a task may take.
        skip: asked before a task begins: True leaves it out.

    Raises:
        WorldError: this system cannot fork.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise fault("jobs or a time budget", "a system without fork", "jobs=1 and no time budget")
    end = time.monotonic() + (float("inf") if seconds is None else seconds)
    waiting, running, longest = list(range(count)), dict[Connection, _Running](), 0.0
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                n = waiting.pop(0)
                left = end - time.monotonic()
                if skip(n) or left <= 0:
                    yield n, Skipped()
                else:
                    share = left * jobs / (len(waiting) + 1 + len(running))
                    own = max(patience * share, LONGER * longest)
                    running.update([_begun(task, n, min(own, left), at_end=left <= own)])
            for one, result in _ended(running):
                if not isinstance(result, Overdue | Failed):
                    longest = max(longest, time.monotonic() - one.began)
                yield one.n, result
    finally:
        for one in running.values():
            _kill(one)


def _begun(task: Callable[[int], Any], n: int, seconds: float, *, at_end: bool) -> tuple[Connection, _Running]:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_work, args=(task, n, there, os.getpid()))
    process.start()
    there.close()  # its end is then the end of the process
    return here, _Running(n, process, seconds, at_end)


def _ended(running: dict[Connection, _Running]) -> Iterator[tuple[_Running, Any]]:
    """Wait for the first ends, and yield them with their results."""
    patience = max(0.0, min([LOOK, *(one.left for one in running.values())]))
    ready = wait(list(running), patience) if running else []
    for pipe, one in list(running.items()):
        # One that dies may leave children that keep its end of the pipe open: so it is looked at, too.
        if pipe in ready or not one.process.is_alive():
            result = _received(pipe, one)
        elif one.left <= 0:
            result = Overdue(one.seconds, one.at_end)
        else:
            continue
        del running[pipe]
        _kill(one)
        pipe.close()
        yield one, result


def _received(pipe: Connection, one: _Running) -> Any:
    with contextlib.suppress(EOFError):
        if pipe.poll():
            return pickle.loads(pipe.recv_bytes())
    one.process.join()
    return Failed(f"its process died with exit code {one.process.exitcode}")


def _kill(one: _Running) -> None:
    """End a process and all those that it began."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process.pid, signal.SIGKILL)
    one.process.kill()
    one.process.join()


def _work(task: Callable[[int], Any], n: int, connection: Connection, parent: int) -> None:
    """Do a task in a process that is the first of a group of its own, and send its result."""
    import torch

    os.setpgid(0, 0)  # Ctrl-C is the parent's; who ends this one ends its children, too
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)  # as many processes as cores
    result = attempted(task, n)
    try:
        sent = pickle.dumps(result)
    except Exception as error:
        sent = pickle.dumps(Failed(f"a result that cannot be sent: {quoted(error)}"))
    connection.send_bytes(sent)
    connection.close()


def _end_with(parent: int) -> None:
    """End this process and its children when the parent is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.killpg(0, signal.SIGKILL)
