"""What cai fit leaves in a folder: the policy, the numbers, and a report where there are exact answers to stand by."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.cli.fits import Job, record
from cai.cli.results import compared, write
from cai.support.numbers import finite

if TYPE_CHECKING:
    from cai.learn.result import Learned

Told = Sequence[tuple["Learned", float | None]]
"""Fits, a temperature each, with log Z in nats where it is known."""


def keep(title: str, job: Job, name: str, fits: Told, out: Path) -> None:
    """Write ``policy.pt`` and ``fit.json``, and a report; without exact answers a picture in its place.

    At several temperatures the names of the files say which.
    """
    from cai.support.files import write_whole

    several = len(fits) > 1
    contents, lines = {}, []
    for one, log_z in fits:
        at = f"-alpha-{one.temperature!r}" if several else ""
        contents[f"policy{at}.pt"] = _state(one)
        lines.append({"world": title, "file": f"policy{at}.pt", **record(name, one, log_z), "history": _history(one)})
        if not _reported(job, name):
            contents[f"figures/elbo{at}.png"] = _picture(name, one, log_z)
    contents["fit.json"] = (json.dumps(lines, indent=2) + "\n").encode()
    write_whole(out, contents)
    kinds = {".pt": "policy", ".json": "numbers", ".png": "picture"}
    for path in contents:
        print(f"{kinds[Path(path).suffix]}: {(out / path).resolve()}")
    if _reported(job, name):
        _report(title, job, name, fits, out)


def _reported(job: Job, name: str) -> bool:
    """Tell whether the fit is a policy whose every nat can be accounted for exactly."""
    return job.tables is not None and name != "full"


def _report(title: str, job: Job, name: str, fits: Told, out: Path) -> None:
    from cai.exact.rules import POSTERIOR, VARIATIONAL

    assert job.tables is not None
    named = {one.temperature: {f"fit:{name}": one} for one, _ in fits if one.temperature is not None}
    policies = {"POSTERIOR": POSTERIOR, "VARIATIONAL": VARIATIONAL, "prior": None}
    comparisons = compared(job.tables, policies, list(named), named)
    write(title, job.world, comparisons, out)


def _state(one: "Learned") -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(one.policy.state_dict(), out)
    return out.getvalue()


def _history(one: "Learned") -> list[dict[str, Any]]:
    names = {"step": "steps", "elbo": "elbo", "gap": "policy_nats", "seconds": "seconds"}
    return [{name: finite(getattr(point, field)) for name, field in names.items()} for point in one.history]


def _picture(name: str, one: "Learned", log_evidence: float | None) -> bytes:
    from cai.view.curves import elbo_curves
    from cai.view.style import png

    if name == "full":  # its gaps are to log Z: the picture's would be to ELBO*
        points = tuple(replace(point, policy_nats=None) for point in one.history)
        log_evidence, one = one.elbo_star, replace(one, elbo_star=None, history=points)
    return png(elbo_curves({f"fit:{name}": one}, elbo_star=one.elbo_star, log_evidence=log_evidence))
