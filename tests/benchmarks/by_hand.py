"""The loops of ``backups.c``, compiled here if there is a compiler, and loops shared out to threads."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_double, c_long, c_void_p
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
ARGUMENTS = {
    "exp_space": [*[c_void_p] * 4, c_double],
    "log_space": [c_void_p] * 4,
    "variational": [*[c_void_p] * 6, c_double],
}


def compiler() -> str | None:
    """Return the C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def compiled(name: str, **sizes: int) -> Callable[..., Any]:
    """Compile a function of ``backups.c`` for these sizes; it takes arrays, numbers, and a range of states."""
    command = compiler()
    assert command is not None
    with tempfile.TemporaryDirectory() as folder:
        made, source = Path(folder) / "backups.so", Path(__file__).with_name("backups.c")
        asked = [f"-D{letter}={sizes.get(letter, 1)}" for letter in "EAK"]
        subprocess.run([command, *FLAGS, *asked, str(source), "-o", str(made), "-lmvec", "-lm"], check=True)
        function = CDLL(str(made))[name]
    function.argtypes, function.restype = [*ARGUMENTS[name], c_long, c_long], c_double

    def call(*arguments: Any) -> Any:
        return function(*(one.ctypes.data if isinstance(one, np.ndarray) else one for one in arguments))

    return call


def shared_out(threads: int, states: int) -> Callable[..., list[Any]]:
    """Return what calls ``loop(*arguments, low, high)`` over all states, in so many threads."""
    bounds = [states * i // threads for i in range(threads + 1)]
    if threads == 1:
        return lambda loop, *arguments: [loop(*arguments, 0, states)]
    pool = ThreadPoolExecutor(threads)

    def call(loop: Callable[..., Any], *arguments: Any) -> list[Any]:
        return [one.result() for one in [pool.submit(loop, *arguments, *pair) for pair in pairwise(bounds)]]

    return call
