"""Long work: a bar that shows how far it is, and an orderly end at Ctrl-C."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def bar(title: str, total: int, *, start: int = 0, shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar on stderr, where that is a terminal; yields ``update(done, words)``."""
    if not shown:
        yield lambda done, words: None
        return
    from rich.console import Console  # slow to import, and only long work needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal
    with Progress(*columns, TextColumn("{task.fields[words]}"), console=console, transient=True, disable=quiet) as all_:
        task = all_.add_task(title, total=total, completed=start, words="")
        yield lambda done, words: all_.update(task, completed=done, words=words)


class Interrupt:
    """Whether Ctrl-C was pressed: work can end after a whole step. A second Ctrl-C breaks off at once.

    Outside the main thread, where signals cannot be caught, it never says so.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __bool__(self) -> bool:
        return self.pressed

    def __enter__(self) -> "Interrupt":
        self.before = signal.getsignal(signal.SIGINT)
        # Somebody who ignores Ctrl-C, or handles it in another way, keeps it so.
        plain = (signal.default_int_handler, end_or_raise)
        self.mine = threading.current_thread() is threading.main_thread() and self.before in plain
        if self.mine:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self.mine:
            signal.signal(signal.SIGINT, self.before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


def end_or_raise(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C on the command line: raise ``KeyboardInterrupt``, but during an import end the process at once.

    A module that is broken off half imported cannot be used by those that go on: NumPy and torch then fail in ways of
    their own, or the word is lost on the way.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            with contextlib.suppress(Exception):  # standard output may be in the middle of a line
                sys.stdout.flush()
            os.write(2, b"cai: interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt
