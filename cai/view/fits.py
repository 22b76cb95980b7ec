"""Fits in a folder: the policies, their numbers, and pictures of how they went."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cai.learn.result import Learned
from cai.support.files import write_whole
from cai.support.numbers import finite
from cai.view.curves import elbo_curves
from cai.view.style import png
from cai.world.program import Guide


def save_fits(
    folder: Path, title: str, fits: Sequence[tuple[Mapping[str, Any], Learned]], *, drawn: bool
) -> list[Path]:
    """Write ``policy.pt`` and ``fit.json``, all or none, and return the paths; of several temperatures, say which.

    Args:
        folder: made where it is missing.
        title: of the world.
        fits: the numbers of each, as ``fit_record`` returns them, and the fit.
        drawn: write ``figures/elbo.png`` too.
    """
    contents, lines = {}, []
    for record, fitted in fits:
        at = f"-alpha-{fitted.temperature!r}" if len(fits) > 1 else ""
        contents[f"policy{at}.pt"] = _state(fitted)
        lines.append({"world": title, "file": f"policy{at}.pt", **record, "history": _history(fitted)})
        if drawn:
            contents[f"figures/elbo{at}.png"] = _picture(record, fitted)
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


def _picture(record: Mapping[str, Any], fitted: Learned) -> bytes:
    if isinstance(fitted.policy, Guide):  # its gaps are to log Z: the picture's would be to ELBO*
        points = tuple(replace(point, policy_nats=None) for point in fitted.history)
        fitted = replace(fitted, elbo_star=None, history=points)
    ends = {"elbo_star": fitted.elbo_star, "log_evidence": record["log_evidence"]}
    return png(elbo_curves({f"fit:{record['name']}": fitted}, **ends))
