"""The log of a training: one evaluation a line, and TensorBoard's events where that is installed."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai.learn.events import Events
from cai.learn.result import Progress
from cai.support.files import write_whole


class Log:
    """Writes a history into a folder; does nothing without one.

    The file is written anew each time, whole or not at all, so that after a resume it is that of an unbroken run.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.events: Events | None = None
        self.written = 0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.events is not None:
            self.events.close()

    def __call__(self, history: Sequence[Progress]) -> None:
        """Write the history; at the first call only its last evaluation is new."""
        if self.folder is None:
            return
        lines = (json.dumps(plain(dict(vars(row))), allow_nan=False) for row in history)
        write_whole(self.folder, {"progress.jsonl": "".join(f"{line}\n" for line in lines).encode()})
        for row in history[self.written if self.events else -1 :]:
            self._event(row)
        self.written = len(history)

    def _event(self, progress: Progress) -> None:
        assert self.folder is not None
        if self.events is None:
            try:
                self.events = Events(self.folder, progress.steps)  # after a resume: no line twice
            except ImportError:
                return
        row = plain(dict(vars(progress)))
        numbers = {name: x for name, x in {**row, **row["metrics"]}.items() if isinstance(x, int | float)}
        self.events.scalars(progress.steps, {name: x for name, x in numbers.items() if name != "steps"})


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON can hold it: null for a number that is not finite, in its metrics too."""
    return {name: plain(x) if isinstance(x, Mapping) else _finite(x) for name, x in row.items()}


def _finite(x: Any) -> Any:
    return None if isinstance(x, float) and not math.isfinite(x) else x
