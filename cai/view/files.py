"""Files that appear whole or not at all."""

from collections.abc import Mapping
from pathlib import Path


def write_whole(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files (relative path to bytes) into a folder: first all as ``.part`` drafts, then each put in its place.

    Should anything fail, the drafts are removed and what stood there before still stands.

    Raises:
        OSError: the folder cannot be written to.
    """
    drafts = {path: (folder / path).with_name(f".{Path(path).name}.part") for path in contents}
    try:
        for path, content in contents.items():
            drafts[path].parent.mkdir(parents=True, exist_ok=True)
            drafts[path].write_bytes(content)
        for path, draft in drafts.items():
            draft.replace(folder / path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
