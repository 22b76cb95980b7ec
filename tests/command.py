"""The command line in a process of its own, as a user meets it, but forked from one that has the slow imports."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pyro", "sympy", "cai.cli.app", "cai.exact.sharded"])  # torch asks for sympy late


def cai(*words: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``cai words`` in a folder; return its exit code and what it wrote on both of its streams."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=_be, args=(words, cwd or Path.cwd(), out, err))
        process.start()
        process.join(timeout)
        code = process.exitcode
        if code is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _be(words: tuple[str, ...], cwd: Path, out: Path, err: Path) -> None:
    """Be ``python -m cai.cli words``, down to the streams' numbers, for C writes there too."""
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    os.chdir(cwd)
    sys.path[:0] = [str(cwd)]
    sys.argv = ["cai", *words]
    import torch

    from cai.cli import main

    torch.set_num_threads(1)
    main()
