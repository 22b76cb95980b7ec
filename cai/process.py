"""What belongs to the whole process: Pyro's stack of handlers and torch's default dtype.

A world's program runs under both, so that one thread runs programs at a time, and leaves them as it found them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pyro.poutine.runtime import _PYRO_STACK

_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Run programs while no other thread does; what belongs to the process is put back, whatever ends the work.

    Pyro takes its own handlers off its stack, but not those that an interrupt catches while they are put on it.
    """
    with _LOCK:
        stack, dtype = list(_PYRO_STACK), torch.get_default_dtype()
        try:
            yield
        finally:
            _PYRO_STACK[:] = stack
            torch.set_default_dtype(dtype)


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Let the world's code make its tensors in ``dtype``: constants written inside a slice are exact to that dtype."""
    with alone():
        torch.set_default_dtype(dtype)
        yield
