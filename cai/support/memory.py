"""Too large an allocation raises an error with its size, before memory is allocated."""

import os
import shutil
from pathlib import Path

from cai.errors import Finding, IntractableError

FAR = "cai.solve_horizons for the values of far horizons, or horizon = None with a discount below 1"
"""The ways on from a horizon whose every time cannot be held."""

TENSOR = 512
"""Bytes that a tensor takes beside its numbers."""


def require_room(where: str, what: str, need: int, way: str = FAR) -> None:
    """Raise an ``IntractableError`` where something needs more bytes than this machine has.

    Args:
        where: what asks for it.
        what: the thing, with its sizes.
        need: bytes.
        way: what to do instead.
    """
    _require(where, what, need, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory", way)


def require_disk(folder: Path, what: str, need: int, way: str = FAR) -> None:
    """Raise an ``IntractableError`` where a file would need more bytes than are free where the folder is."""
    _require(f"folder '{folder}'", what, need, shutil.disk_usage(folder).free, "what is free there", way)


def _require(where: str, what: str, need: int, most: int, whose: str, way: str) -> None:
    if need > most:
        raise IntractableError([Finding(where, f"{what}: {need:,} bytes", f"at most {most:,}, {whose}: {way}")])
