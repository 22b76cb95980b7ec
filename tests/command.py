"""The command line and other code in a process of its own, but forked from one that is warm (``tests.warm``)."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.warm"])


def cai(*words: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``cai words`` in a folder; return its exit code and what it wrote on both of its streams."""
    return forked(_command, *words, cwd=cwd, timeout=timeout)


def script(code: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``python -W error -c code`` in a folder."""
    return forked(_script, code, cwd=cwd, timeout=timeout)


def interrupted(*words: str, cwd: Path, when: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Run ``cai words``, press Ctrl-C at a moment, and return how it ended."""
    return forked(_command, *words, cwd=cwd, when=when)


def forked(
    run: Callable[..., None],
    *words: str,
    cwd: Path | None = None,
    timeout: float = 120,
    when: Callable[[], bool] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Call a function in a process of its own, interrupt it at a moment, if one is given; return what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=_be, args=(run, words, cwd or Path.cwd(), out, err))
        process.start()
        until = time.monotonic() + timeout
        if when is not None:
            while not when() and process.exitcode is None and time.monotonic() < until:
                time.sleep(0.02)
            os.kill(process.pid or 0, signal.SIGINT)
        process.join(until - time.monotonic())
        code = process.exitcode
        if code is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _be(run: Callable[..., None], words: tuple[str, ...], cwd: Path, out: Path, err: Path) -> None:
    """Have the streams of a process, down to their numbers, for C writes there too; then run."""
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell lets what runs in the background ignore it
    os.chdir(cwd)
    sys.path[:0] = [str(cwd)]
    run(*words)


def _command(*words: str) -> None:
    from cai.cli import main

    sys.argv = ["cai", *words]
    main()


def _script(code: str) -> None:
    warnings.simplefilter("error")
    try:
        exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    except Exception:
        traceback.print_exc()
        sys.exit(1)
