"""What the fork server of ``tests.command`` imports: every command's modules, its pictures and its compiled kernels."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import matplotlib as mpl
import sympy  # noqa: F401  # torch asks for it late
import torch

import cai.distributed.sharded  # noqa: F401  # a command imports it late, and torch.distributed with it
from cai.cli import app

mpl.use("agg")
torch.set_num_threads(1)

COMMANDS = (
    "list",
    "check grid",
    "graph grid --slices 2 --out graph.svg",
    "solve sysadmin --set n=3 --horizon 2 --form factors --json",
    "solve grid --horizon inf --discount 0.5 -r POSTERIOR -r HARD --json",
    "compare grid --horizon 9 -r POSTERIOR -r VARIATIONAL",
)


def warm() -> None:
    """Run a few commands, so that what each does once is done; what they print is dropped."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            for command in COMMANDS:
                with contextlib.suppress(SystemExit):
                    app(command.split())
        finally:
            os.chdir(home)


warm()
