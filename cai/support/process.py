"""What belongs to the whole process: Pyro's stack of handlers and torch's default dtype.

A world's program runs under both, so that one thread runs programs at a time, and leaves them as it found them.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.poutine.runtime import _PYRO_STACK

_LOCK = threading.RLock()
_WITHIN: list[tuple[int, list[Any], torch.dtype]] = []
"""Of each program that runs, the outermost first: its thread, and the stack and the dtype that it found."""


@contextmanager
def alone() -> Iterator[None]:
    """Run programs while no other thread does; what belongs to the process is put back, whatever ends the work.

    Pyro takes its own handlers off its stack, but not those that an interrupt catches while they are put on it.
    """
    with _LOCK:
        before = threading.get_ident(), list(_PYRO_STACK), torch.get_default_dtype()
        _WITHIN.append(before)
        try:
            yield
        finally:
            _WITHIN.pop()
            _put_back(before)


def _put_back(before: tuple[int, list[Any], torch.dtype]) -> None:
    _, _PYRO_STACK[:], dtype = before
    torch.set_default_dtype(dtype)


def _forked() -> None:
    """Forget a program that ran in another thread when this process was forked: it goes on in the parent alone."""
    global _LOCK
    if _WITHIN and _WITHIN[0][0] == threading.get_ident():
        return
    _LOCK = threading.RLock()
    if _WITHIN:
        _put_back(_WITHIN[0])
        _WITHIN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Let the world's code make its tensors in ``dtype``: constants written inside a slice are exact to that dtype."""
    with alone():
        torch.set_default_dtype(dtype)
        yield
