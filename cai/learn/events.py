"""TensorBoard's file of events, record by record: its own writer has a thread that meets a full disk unseen."""

import errno
import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Events:
    """A file of events in a folder; of an earlier file there, what came after the first step is no longer shown.

    Raises:
        ImportError: TensorBoard is not installed.
        OSError: the file cannot be written; then there is none.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2  # slow to import, and an extra
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._record = event_pb2.Event, summary_pb2.Summary, RecordWriter
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb", buffering=0)
        try:
            self._add(file_version="brain.Event:2")
            self._add(step=step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        except OSError:
            self.close()
            (folder / name).unlink()
            raise

    def scalars(self, step: int, row: Mapping[str, int | float]) -> None:
        """Write numbers by name.

        Raises:
            OSError: they cannot be written; then the file is as it was.
        """
        values = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in row.items()]
        self._add(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **content: Any) -> None:
        record = io.BytesIO()
        self._record(record).write(self._event(wall_time=time.time(), **content).SerializeToString())
        before = self._file.tell()
        try:
            if self._file.write(record.getbuffer()) < len(record.getbuffer()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.seek(self._file.truncate(before))
            raise
