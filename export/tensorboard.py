"""Scalars for TensorBoard that survive a resume without being shown twice."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

FILE_VERSION = "brain.Event:2"


class ScalarLog:
    """Writes scalars to an event file of its own in `directory`; each start of a run opens another.

    A killed run has often logged steps after its last checkpoint, and its resumption logs them again. The file
    therefore begins with TensorBoard's mark of a restart at the first step logged: TensorBoard drops everything that
    earlier files of the directory hold at or after it. `tf.summary` cannot write that mark, so this writes the event
    records itself.

    Args:
        directory: one directory a curve in TensorBoard; its steps must be those of one training.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._writer: tf.io.TFRecordWriter | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes `values` (name -> number) at `step`, which never falls from one call to the next."""
        scalars = [tf.compat.v1.Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        if self._writer is None:
            self._open(step)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, summary=tf.compat.v1.Summary(value=scalars)))

    def flush(self) -> None:
        """Brings everything logged so far to the file."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> "ScalarLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, first_step: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a directory in the order of their names: the time makes the newest the last.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(self._directory / name))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version=FILE_VERSION))
        restart = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=first_step, session_log=restart))

    def _write(self, event: tf.compat.v1.Event) -> None:
        self._writer.write(event.SerializeToString())
