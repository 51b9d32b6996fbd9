"""For TensorBoard: scalars that survive a resume without being shown twice, pictures and histograms of a report."""

import contextlib
import os
import shutil
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.run_record import KernelPair
from utils.errors import RunError, first_line
from utils.files import make_directory

HISTOGRAM_BINS = 60
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
        with _refusals_of_the_disk(self._directory):
            self._log(step, values)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [tf.compat.v1.Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        if self._writer is None:
            self._open(step)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, summary=tf.compat.v1.Summary(value=scalars)))

    def flush(self) -> None:
        """Brings everything logged so far to the file."""
        if self._writer is not None:
            with _refusals_of_the_disk(self._directory):
                self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with _refusals_of_the_disk(self._directory):
                writer.close()

    def __enter__(self) -> "ScalarLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, first_step: int) -> None:
        make_directory(self._directory)
        self._writer = tf.io.TFRecordWriter(str(self._directory / _file_name()))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version=FILE_VERSION))
        restart = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=first_step, session_log=restart))

    def _write(self, event: tf.compat.v1.Event) -> None:
        assert self._writer is not None, "it is open"
        self._writer.write(event.SerializeToString())


def log_pictures(directory: Path, pictures: Mapping[str, bytes], kernels: Mapping[str, KernelPair]) -> None:
    """Writes PNG pictures and histograms of kernels before and after for TensorBoard, each time in place of the last.

    Args:
        directory: of TensorBoard's events; pictures go to `report` in it, histograms to `weights_before` and
            `weights_after`, which TensorBoard lays over one another.
    """
    images = {name: _image(content) for name, content in pictures.items()}
    _write_once(directory / "report", [tf.compat.v1.Summary.Value(tag=name, image=i) for name, i in images.items()])
    for index, place in enumerate(("weights_before", "weights_after")):
        values = [tf.compat.v1.Summary.Value(tag=path, histo=_histogram(pair[index])) for path, pair in kernels.items()]
        _write_once(directory / place, values)


def _image(png: bytes) -> tf.compat.v1.Summary.Image:
    width, height = struct.unpack(">II", png[16:24])  # the first chunk of every PNG file
    return tf.compat.v1.Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)


def _histogram(kernel: np.ndarray) -> tf.compat.v1.HistogramProto:
    """Counts of the values in HISTOGRAM_BINS equal bins; the upper edge of each belongs to it."""
    values = np.asarray(kernel, np.float64).ravel()
    counts, edges = np.histogram(values, HISTOGRAM_BINS)
    return tf.compat.v1.HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=values @ values,
        bucket_limit=edges[1:],
        bucket=counts,
    )


def _write_once(directory: Path, values: Sequence[tf.compat.v1.Summary.Value]) -> None:
    if not values:
        return
    shutil.rmtree(directory, ignore_errors=True)
    make_directory(directory)
    with _refusals_of_the_disk(directory), tf.io.TFRecordWriter(str(directory / _file_name())) as writer:
        writer.write(tf.compat.v1.Event(wall_time=time.time(), file_version=FILE_VERSION).SerializeToString())
        event = tf.compat.v1.Event(wall_time=time.time(), step=0, summary=tf.compat.v1.Summary(value=values))
        writer.write(event.SerializeToString())


@contextlib.contextmanager
def _refusals_of_the_disk(directory: Path) -> Iterator[None]:
    """Within it TensorFlow's own error of a disk that is full or must not be written becomes one clear RunError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise RunError(f"cannot write TensorBoard's events into {directory}: {first_line(error)}") from error


def _file_name() -> str:
    # TensorBoard reads the files of a directory in the order of their names: the time makes the newest the last.
    return f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
