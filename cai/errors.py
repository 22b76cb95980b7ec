"""The errors: each says where a fault is, what was found there and what is expected."""

import operator
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a world, in words.

    Attributes:
        where: the method, variable and time that was looked at, e.g. ``"step, variable 'cell', t = 3"``.
        seen: the value found there.
        expected: what is valid there, with the way to get there.
    """

    where: str
    seen: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.seen}; expected {self.expected}"


class CaiError(Exception):
    """The base of every error that cai raises on purpose."""


class _FindingsError(CaiError):
    """An error that lists what was found."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))

    def __reduce__(self) -> tuple[type["_FindingsError"], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)  # an exception is rebuilt from its message otherwise


class WorldError(_FindingsError):
    """The world or another argument is not valid; ``findings`` lists every fault that was found.

    It is not a ``ValueError``, because Pyro's tracing would catch that and replace its text.
    """


class IntractableError(_FindingsError):
    """The exact answer cannot be computed; ``findings`` name the reason and the size."""


class ImpossibleError(CaiError):
    """The evidence is zero: no trajectory can be optimal; the message names the states that block it."""


class NotConvergedError(CaiError):
    """The backups of the infinite horizon did not converge; the message names the last change and a likely cause."""


class NoClosedFormError(IntractableError):
    """One number of a world has no closed form, or too many terms; other numbers of the world may be exact."""


NO_ANSWER = (ImpossibleError, NotConvergedError, NoClosedFormError)
"""The errors by which one number of a world is not available, while others may be."""


def quoted(error: BaseException) -> str:
    """Quote an error of user code in one line, with its place in the user's file."""
    text = str(error).strip().splitlines()
    words = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return words
    foreign = ("site-packages", "dist-packages", str(Path(__file__).parent), "<", "importlib")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in foreign)]
    return f"{words} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else words


def must_pass(error: Exception) -> bool:
    """Return whether an error is not a fault of user code: one of cai's errors, out of memory, or a timeout.

    torch tells a lack of memory by a ``RuntimeError``. Ctrl-C and ``sys.exit`` are no ``Exception``, and pass anyway.
    """
    return isinstance(error, CaiError | MemoryError | TimeoutError) or lacks_memory(error)


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, in Python's way or in torch's."""
    torchs = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs or type(error).__name__ == "OutOfMemoryError"


@contextmanager
def user_code(where: str, expected: str) -> Iterator[None]:
    """Turn an error of user code into a ``WorldError`` that quotes it; errors that ``must_pass`` are raised
    unchanged."""
    try:
        yield
    except Exception as error:
        if must_pass(error):
            raise
        raise fault(where, quoted(error), expected) from error


def demand(findings: Iterable[Finding]) -> None:
    """Raise a ``WorldError`` if there is any finding."""
    faults = list(findings)
    if faults:
        raise WorldError(faults)


def require_time(where: str, t: SupportsIndex, T: int | None, *, end: bool = False) -> int:
    """Return a time of an action, 0 … T-1, as a whole number; with ``end`` also T, the time of s_T.

    Args:
        where: said in the error.
        t: the time.
        T: the horizon; None where it is infinite, and every time alike.
        end: whether T is among the times.

    Raises:
        WorldError: it is no whole number, or lies outside.
    """
    try:
        time = operator.index(t)
    except TypeError:
        time = -1
    if time < 0 or (T is not None and time >= T + end):
        raise fault(where, f"{t}", "a time from 0 on" if T is None else f"a time from 0 to {T - 1 + end}")
    return time


def fault(where: str, seen: str, expected: str) -> WorldError:
    """Return a ``WorldError`` of a single finding, ready to be raised: ``raise cai.fault("Grid, slip", "2", "0 … 1")``.

    Args:
        where: the method, variable and time of the fault.
        seen: the value found there; the first line of it is said.
        expected: what is valid there.
    """
    first, *more = seen.splitlines() or [""]
    return WorldError([Finding(where, f"{first} …" if more else seen, expected)])
