"""Fits in a folder: the policies, and their numbers."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cai.learn.result import Learned
from cai.support.files import write_whole
from cai.support.numbers import finite


def save_fits(folder: Path, title: str, fits: Sequence[tuple[Mapping[str, Any], Learned]]) -> list[Path]:
    """Write ``policy.pt`` and ``fit.json``, both or none, and return the paths; of several temperatures, say which.

    Args:
        folder: made where it is missing.
        title: of the world.
        fits: the numbers of each, as ``fit_record`` returns them, and the fit.
    """
    contents, lines = {}, []
    for record, fitted in fits:
        at = f"-alpha-{fitted.temperature!r}" if len(fits) > 1 else ""
        contents[f"policy{at}.pt"] = _state(fitted)
        lines.append({"world": title, "file": f"policy{at}.pt", **record, "history": _history(fitted)})
    contents["fit.json"] = (json.dumps(lines, indent=2) + "\n").encode()
    write_whole(folder, contents)
    return [folder / path for path in contents]


def _state(fitted: Learned) -> bytes:
    out = io.BytesIO()
    torch.save(fitted.policy.state_dict(), out)
    return out.getvalue()


def _history(fitted: Learned) -> list[dict[str, Any]]:
    names = {"step": "steps", "elbo": "elbo", "gap": "policy_nats", "seconds": "seconds"}
    return [{name: finite(getattr(point, field)) for name, field in names.items()} for point in fitted.history]
