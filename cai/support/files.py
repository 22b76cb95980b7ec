"""Files that appear whole or not at all: written beside their place, and put there once they are safe on the disk."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield the file to be written in the place of ``path``; it is put there at the end.

    Whatever ends the work before that, Ctrl-C too, the draft is removed, and what stood there before still stands. Each
    writer has a draft of its own: of several at once the last one's file stands, whole. A link still leads to its file,
    which keeps its permissions.

    Raises:
        OSError: it cannot be written.
    """
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if place.exists():
            shutil.copymode(place, part)
        flush(part)
        part.replace(place)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files (relative path to bytes) into a folder: first all as drafts, then each put in its place, in order.

    Where Ctrl-C comes between two of them the later ones are not put there: what leads to the others comes last.

    Raises:
        OSError: the folder cannot be written to; then what stood there before still stands.
    """
    with ExitStack() as drafts:
        for path, content in reversed(contents.items()):  # the stack ends with what was entered first
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            drafts.enter_context(draft(folder / path)).write_bytes(content)


def flush(file: Path) -> None:
    """Make sure that what was written to a file is on the disk."""
    with file.open("rb+") as there:
        os.fsync(there.fileno())
