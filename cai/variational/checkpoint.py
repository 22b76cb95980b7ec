"""A fit on disk: everything that the next step depends on, written whole or not at all."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cai.errors import fault
from cai.types import Tables

KEYS = {"of", "step", "modules", "optimizer", "random", "history", "seconds"}


def fingerprint(tables: Tables | None, modules: dict[str, nn.Module], **settings: Any) -> dict[str, str]:
    """Describe what a fit is of, so that a checkpoint of another one is not taken up."""
    found = {name: str(value) for name, value in settings.items()}
    for name, module in modules.items():
        shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
        found[name] = f"{type(module).__name__} {shapes}"
    if tables is not None:
        digest = hashlib.sha256()
        for field in (tables.log_initial, tables.log_prior, tables.log_prob, tables.successor, tables.reward):
            digest.update(field.detach().cpu().contiguous().numpy().tobytes())
        found["world"] = f"{tables} {digest.hexdigest()[:16]}"
    return found


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside its place, and then put it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as out:
        torch.save(state, out)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def load(path: Path, expected: dict[str, str]) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        WorldError: the file is none, or of another fit.
    """
    where = f"checkpoint '{path}'"
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except OSError:
        raise
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise fault(where, f"no checkpoint of a fit ({words[0][:80]})", "a file that cai.fit wrote") from None
    if not isinstance(state, dict) or set(state) != KEYS:
        raise fault(where, "no checkpoint of a fit", "a file that cai.fit wrote")
    for name in sorted({*state["of"], *expected}):
        was, now = state["of"].get(name, "none"), expected.get(name, "none")
        if was != now:
            raise fault(where, f"one of a fit with {name} = {was}", f"{now}; or another file for this fit")
    return state
