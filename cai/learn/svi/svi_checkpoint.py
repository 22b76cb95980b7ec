"""A fit on disk: everything that the next step depends on, written whole or not at all."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import nn

from cai.compile.table_model import Tables
from cai.errors import fault, passes
from cai.learn.svi.estimators import Problem
from cai.support.files import write_whole
from cai.support.process import alone
from cai.world.program import trajectory

KEYS = {"of", "step", "modules", "optimizer", "random", "history", "seconds"}


def fingerprint(problem: Problem, modules: dict[str, nn.Module], **settings: Any) -> dict[str, str]:
    """Describe what a fit is of, so that a checkpoint of another one is not taken up."""
    found: dict[str, str] = {}
    for name, module in modules.items():
        shapes = str({key: list(value.shape) for key, value in module.state_dict().items()})
        count = sum(value.numel() for value in module.state_dict().values())
        found[name] = f"{type(module).__name__} of {count:,} numbers ({_digest(shapes.encode())})"
    found["world"] = _drawn(problem) if problem.tables is None else listed(problem.tables)
    return {**found, **{name: str(value) for name, value in settings.items()}}


def listed(tables: Tables) -> str:
    """Describe tables by their sizes and a digest of all their numbers."""
    fields = (tables.log_initial, tables.log_prior, tables.log_prob, tables.successor, tables.reward, tables.terminal)
    return f"{tables} {_digest(b''.join(field.detach().cpu().contiguous().numpy().tobytes() for field in fields))}"


def _drawn(problem: Problem) -> str:
    """Describe a world without tables by one seeded trajectory and what every site thinks of it."""
    assert problem.world is not None
    with alone(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        trace = pyro.poutine.trace(trajectory(problem.world, temperature=problem.alpha)).get_trace()
    trace.compute_log_prob()
    sites = [
        f"{name} {float(site['log_prob_sum']):.6g}" for name, site in trace.nodes.items() if "log_prob_sum" in site
    ]
    return f"{type(problem.world).__name__} {_digest(' '.join(sites).encode())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    out = io.BytesIO()  # where a disk is full, torch's own writer may say so by a RuntimeError
    torch.save(state, out)
    write_whole(path.parent, {path.name: out.getvalue()})


def load(path: Path, expected: dict[str, str]) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        WorldError: the file is none, or of another fit.
    """
    where, content = f"checkpoint '{path}'", path.read_bytes()  # what the disk says is no fault of the content
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        if passes(error):
            raise
        raise fault(where, f"no checkpoint of a fit ({type(error).__name__})", "a file that cai.fit wrote") from None
    if not isinstance(state, dict) or set(state) != KEYS or not isinstance(state["of"], dict):
        raise fault(where, "no checkpoint of a fit", "a file that cai.fit wrote")
    for name in {**expected, **state["of"]}:
        was, now = state["of"].get(name, "none"), expected.get(name, "none")
        if was != now:
            raise fault(where, f"one of a fit with {name} = {was}", f"{now}; or another file for this fit")
    return state
