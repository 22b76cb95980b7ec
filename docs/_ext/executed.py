"""Executed cells are kept between builds, for as long as what they run is the same."""

import hashlib
import shutil
from pathlib import Path

from jupyter_cache import get_cache

ROOT = Path(__file__).resolve().parent.parent.parent


def setup(app):
    """Choose the folder before myst-nb reads where it is."""
    app.connect("config-inited", keep_cells, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def keep_cells(app, config) -> None:
    """Keep them beside the doctrees; jupyter-cache compares the cells, the name of the folder all that they import."""
    folder = Path(app.doctreedir).parent / "cells" / digest_of_sources()
    for older in folder.parent.glob("*"):
        if older != folder:
            shutil.rmtree(older)
    get_cache(str(folder)).list_cache_records()  # makes its tables, before two processes want to
    config.nb_execution_cache_path = str(folder)


def digest_of_sources() -> str:
    """Return a short digest of all that a cell may read: the library, the worlds, the helpers and data of the book."""
    files = [path for folder in ("cai", "models", "docs/data") for path in (ROOT / folder).rglob("*")]
    files += (ROOT / "docs").glob("*.py")
    kept = sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256()
    for path in kept:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
