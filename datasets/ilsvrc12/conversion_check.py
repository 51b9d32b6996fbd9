"""ImageNet's record files read back: every checksum, every record, every picture; all that is wrong is said."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets.ilsvrc12.conversion_records import FEATURES, FRAME_BYTES, jpeg_shape
from datasets.ilsvrc12.conversion_state import read_finished
from datasets.ilsvrc12.conversion_threads import Tally, in_threads, thread_count
from utils.errors import InputError
from utils.progress import Progress

LABELS_FILE = "labels.txt"
_FEATURES_READ = ("image/encoded", "image/class/label")  # all that training needs
_SPLITS = ("train", "validation")
_RECORD_FILE = re.compile(r"(train|validation)-\d{5}-of-(\d{5})")


class Problem(NamedTuple):
    """What is wrong with a record file, and with which of its records, counted from 0; -1: with the whole."""

    file: str
    record: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}" if self.record < 0 else f"{self.file}: record {self.record}: {self.reason}"


class CheckedShard(NamedTuple):
    """What was found in a record file.

    Attributes:
        records: those that could be read.
        problems: all that is wrong.
        classes: each pair of synset (empty where there is none) and label, and the first record that has it.
    """

    records: int
    problems: list[Problem]
    classes: dict[tuple[str, int], int]


class Verification(NamedTuple):
    """What was found in a directory of records: records of train and of validation, classes, all that is wrong."""

    records: tuple[int, int]
    classes: int
    problems: list[Problem]


def verify_directory(directory: Path, *, workers: int = 0, quiet: bool = False) -> Verification:
    """Reads all record files in `directory`, whoever made them.

    Records of ours must have all features, and labels as `labels.txt` has them; of others those that training reads,
    and every synset must have one label.

    Raises:
        InputError: there are no record files.
    """
    threads = thread_count(workers)
    files = sorted(path for path in _entries(directory) if _RECORD_FILE.fullmatch(path.name))
    if not files:
        raise InputError(
            f"--verify must be a directory with files train-00000-of-01024 and so on. Received: {directory} without any"
        )
    finished = read_finished(directory)
    names = _FEATURES_READ if finished is None else tuple(FEATURES)
    classes = None if finished is None else _read_labels(directory)
    checked: dict[str, CheckedShard] = {}
    tally = Tally()
    with Progress("Verifying", len(files), "file", quiet=quiet) as progress:
        in_threads(
            lambda path: check_shard(path, classes, names, tally.count),
            files,
            threads,
            tally,
            lambda: progress.update(len(checked), images=tally.images, problems=tally.mishaps),
            lambda path, found: checked.__setitem__(path.name, found),
        )
    problems = _missing_files([path.name for path in files])
    for path in files:
        problems += checked[path.name].problems
        if finished is not None and path.name in finished[1]:
            problems += count_problems(path.name, finished[1][path.name]["records"], checked[path.name].records)
    if classes is None:
        problems += _ambiguous_classes(checked)
    labels = {label for found in checked.values() for _, label in found.classes}
    records = [sum(found.records for name, found in checked.items() if name.startswith(split)) for split in _SPLITS]
    return Verification((records[0], records[1]), len(labels), problems)


def check_shard(
    path: Path, classes: Sequence[str] | None, names: Sequence[str], count: Callable[[int, int], None]
) -> CheckedShard:
    """Reads a record file back, with its checksums: each record parsed, its picture decoded, its label compared.

    Args:
        classes: their names; None where they are not known.
        names: of the features that a record must have.
        count: is told of each record: 1, and the problems it has; what it raises ends the work.
    """
    problems: list[Problem] = []
    found: dict[Any, Any] = {}
    records = 0
    try:
        for record in _records(path):
            reasons, kind = _check_record(record, classes, names)
            problems += [Problem(path.name, records, reason) for reason in reasons]
            if kind is not None:
                found.setdefault(kind, records)
            records += 1
            count(1, len(reasons))
    except tf.errors.DataLossError:
        problems.append(Problem(path.name, records, "damaged (checksum or length); what follows was not read"))
    except EOFError:
        problems.append(Problem(path.name, records, "the file ends within it"))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        problems.append(Problem(path.name, -1, f"cannot be read ({reason})"))
    return CheckedShard(records, problems, found)


def count_problems(file: str, expected: int, received: int) -> list[Problem]:
    """A problem where a record file does not have as many records as it was written with."""
    return [] if expected == received else [Problem(file, -1, f"must hold {expected} records. Received: {received}")]


def _records(path: Path) -> Iterator[bytes]:
    """The contents of a file's records, in order; EOFError where the file ends within one."""
    options = tf.data.Options()
    # As in pipeline.py: its thread often misses that an iterator goes.
    options.autotune.enabled = False
    file_size, size = path.stat().st_size, 0
    for record in tf.data.TFRecordDataset(str(path)).with_options(options).as_numpy_iterator():
        yield record
        size += len(record) + FRAME_BYTES
    # A file cut within a record's frame ends for TensorFlow where that record would begin.
    if size != file_size:
        raise EOFError


def _check_record(
    record: bytes, classes: Sequence[str] | None, names: Sequence[str]
) -> tuple[list[str], tuple[str, int] | None]:
    """What is wrong with a record; its synset and label, where it has a label."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return ["it is no tf.train.Example"], None
    values = {}
    for name, kind in FEATURES.items():
        found = getattr(features[name], kind).value if name in features else []
        if len(found) == 1:
            values[name] = found[0]
    reasons = [f"{name} must be one value ({FEATURES[name]})" for name in names if name not in values]
    if "image/encoded" in values:
        reasons += _picture_problems(values)
    if "image/class/label" not in values:
        return reasons, None
    label, synset = values["image/class/label"], os.fsdecode(values.get("image/class/synset", b""))
    return reasons + _label_problems(label, synset, classes), (synset, label)


def _picture_problems(values: Mapping[str, Any]) -> list[str]:
    shape = jpeg_shape(values["image/encoded"])
    if shape is None:
        return ["the picture is no JPEG that TensorFlow decodes"]
    told = tuple(values.get(f"image/{side}", real) for side, real in zip(("height", "width"), shape[:2], strict=True))
    if told != shape[:2]:
        return [f"the picture is {shape[0]}x{shape[1]}. Received: {told[0]}x{told[1]} as its height and width"]
    return []


def _label_problems(label: int, synset: str, classes: Sequence[str] | None) -> list[str]:
    if label < 1 or (classes is not None and label > len(classes)):
        return [f"the label must be {'at least 1' if classes is None else f'1 to {len(classes)}'}. Received: {label}"]
    if classes is not None and synset and classes[label - 1] != synset:
        return [f"label {label} is that of {classes[label - 1]}. Received: a picture of {synset}"]
    return []


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError as error:
        raise InputError(f"--verify must be a directory. Received: {directory} ({error.strerror})") from error


def _read_labels(directory: Path) -> list[str]:
    path = directory / LABELS_FILE
    try:
        return os.fsdecode(path.read_bytes()).split("\n")[:-1]
    except OSError as error:
        raise InputError(f"{path} must be there beside the records. Received: {error.strerror}") from error


def _missing_files(files: Sequence[str]) -> list[Problem]:
    """A problem for each file that is missing or too many, of each split by itself."""
    problems = []
    for split in _SPLITS:
        there = [name for name in files if name.startswith(f"{split}-")]
        totals = sorted({int(name[-5:]) for name in there})
        if not there:
            problems.append(Problem(f"{split}-*", -1, "there are no such files"))
        if len(totals) > 1:
            problems.append(Problem(f"{split}-*", -1, f"there are files of {', '.join(map(str, totals))} in all"))
        expected = {f"{split}-{number:05}-of-{total:05}" for total in totals for number in range(total)}
        problems += [Problem(name, -1, "the file is missing") for name in sorted(expected - set(there))]
        problems += [Problem(name, -1, "its number is too high") for name in there if name not in expected]
    return problems


def _ambiguous_classes(checked: Mapping[str, CheckedShard]) -> list[Problem]:
    """A problem for each second label of a synset, and for each second synset of a label, once for each file."""
    problems: list[Problem] = []
    label_of: dict[Any, Any] = {}
    synset_of: dict[Any, Any] = {}
    for name, found in sorted(checked.items()):
        for (synset, label), record in found.classes.items():
            if not synset:
                continue
            if label_of.setdefault(synset, label) != label:
                reason = f"{synset} has label {label} here and {label_of[synset]} before"
                problems.append(Problem(name, record, reason))
            elif synset_of.setdefault(label, synset) != synset:
                reason = f"label {label} is that of {synset} here and of {synset_of[label]} before"
                problems.append(Problem(name, record, reason))
    return problems
