"""Long work: how far it is and how long it will take, and an orderly end at Ctrl-C."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

SOON, OFTEN = 0.5, 0.1
"""Seconds after which a terminal is shown work that goes on, and between two looks at it."""
LINES = (10.0, 20.0, 30.0, 60.0)
"""Seconds before each line that is written where there is no terminal; the last again and again."""


@dataclass
class Work:
    """Work that goes on: how many of its steps are done.

    Attributes:
        title: what is done.
        total: the number of steps; None where it is not known.
        start: those that were done before.
        done: those that are done.
        words: what is said beside it.
        began, reached: when it began, and when the last step was done, seconds.
    """

    title: str
    total: int | None
    start: int
    done: int
    words: str = ""
    began: float = field(default_factory=time.monotonic)
    reached: float = 0.0

    def update(self, done: int, words: str) -> None:
        """Return how many steps are done, and what to say beside it."""
        if done != self.done:
            self.done, self.reached = done, time.monotonic()
        self.words = words

    def __str__(self) -> str:
        now = time.monotonic()
        passed = now - self.began
        parts = [_minutes(passed)]
        if self.total is not None and self.done > self.start:
            each = (self.reached - self.began) / (self.done - self.start)
            left = max(each * (self.total - self.done) - (now - self.reached), 0.0)
            parts = [f"{self.done:,} of {self.total:,}", _minutes(passed), f"about {_minutes(left)} left"]
        elif self.total is not None:
            parts = [f"at the first of {self.total - self.start:,}", *parts]
        return ", ".join([*parts, self.words] if self.words else parts)


def bar(
    title: str, total: int | None, *, start: int = 0, shown: bool = True
) -> AbstractContextManager[Callable[[int, str], None]]:
    """Show how far long work is and how long it will take, on stderr; yields ``update(done, words)``.

    A terminal gets a bar for all work that goes on, one within another, once it has taken half a second. Elsewhere
    nothing is said, but by the command line, which writes a line every so often (``speak``).

    Args:
        title: what is done.
        total: the number of steps; None where it is not known.
        start: those that were done before.
        shown: whether to show it at all.
    """
    return _DISPLAY.showing(Work(title, total, start, start), shown)


def working(title: str) -> AbstractContextManager[Callable[[int, str], None]]:
    """Show that work goes on whose steps cannot be counted, and for how long it has."""
    return bar(title, None)


def speak() -> None:
    """Write a line about long work every so often where there is no terminal: a log should say what it waits for."""
    _DISPLAY.speaks = True


class _Display:
    """All work of this process that goes on, and the thread that shows it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.lock, self.works = threading.Lock(), list[Work]()
        self.quiet, self.speaks = quiet, False
        self.thread: threading.Thread | None = None
        self.over = threading.Event()

    @contextmanager
    def showing(self, work: Work, shown: bool) -> Iterator[Callable[[int, str], None]]:
        """Show some work while the block runs."""
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        if not shown or self.quiet or not (on_terminal or self.speaks):
            yield work.update
            return
        self._begin(work, on_terminal)
        try:
            yield work.update
        finally:
            self._end(work)

    def _begin(self, work: Work, on_terminal: bool) -> None:
        with self.lock:
            self.works.append(work)
            if self.thread is None:
                self.over = threading.Event()
                show = _draw if on_terminal else _write
                self.thread = threading.Thread(target=show, args=(self.works, self.over), daemon=True)
                self.thread.start()

    def _end(self, work: Work) -> None:
        with self.lock:
            self.works[:] = [other for other in self.works if other is not work]
            thread = None if self.works else self.thread
            if thread is not None:
                self.over.set()
                self.thread = None
        if thread is not None:
            thread.join()  # whatever is printed next finds the terminal clean


def _write(works: list[Work], over: threading.Event) -> None:
    """Write a line on stderr every so often: what goes on, the innermost work last."""
    waits = list(LINES)
    while not over.wait(waits[0]):
        waits = waits[1:] or waits
        print("cai: " + "; ".join(f"{work.title}: {work}" for work in list(works)), file=sys.stderr, flush=True)


def _draw(works: list[Work], over: threading.Event) -> None:
    """Draw a bar for all work that goes on."""
    if over.wait(SOON):
        return
    from rich.console import Console  # slow to import, and only long work needs it
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[said]}"))
    # What is printed meanwhile goes above the bars, if it goes to the terminal at all.
    aside = sys.stdout is not None and sys.stdout.isatty()
    options: dict[str, Any] = {"auto_refresh": False, "transient": True, "redirect_stdout": aside}
    with Progress(*columns, console=Console(stderr=True), **options) as bars:
        drawn: dict[int, Any] = {}
        while not over.wait(OFTEN):
            there = {id(work): work for work in list(works)}
            room = bars.console.width - max((len(work.title) for work in there.values()), default=0) - 26
            for gone in set(drawn) - set(there):
                bars.remove_task(drawn.pop(gone))
            for key, work in there.items():
                if key not in drawn:
                    drawn[key] = bars.add_task(work.title, total=work.total, said="")
                bars.update(drawn[key], completed=work.done, said=_cut(str(work), room))
            bars.refresh()


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def _minutes(seconds: float) -> str:
    """Write a time as 0:05, 12:30 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_DISPLAY = _Display()


def _forked() -> None:
    """Show nothing in a forked process: its parent does, and the thread that shows it stayed there."""
    global _DISPLAY
    _DISPLAY = _Display(quiet=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


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
