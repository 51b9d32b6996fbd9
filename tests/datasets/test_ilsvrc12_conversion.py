"""ImageNet's record files from class folders: what is in them, what is left out, resuming, reading back."""

import fcntl
import io
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.ilsvrc12 import conversion, conversion_state
from datasets.ilsvrc12.conversion import convert
from datasets.ilsvrc12.conversion_check import Problem, verify_directory
from datasets.ilsvrc12.conversion_records import Jpeg, UnreadableImageError, as_jpeg, make_record
from datasets.ilsvrc12.conversion_source import RawSplit, list_pictures, plan_shards
from tests.raw_ilsvrc12 import BAD, HEIGHT, SPECIAL, WIDTH, content, damaged, encoded, examples, pixels, write_raw
from utils.errors import InputError, RunError

NUMBERS = dict(train_shards=3, validation_shards=2, workers=1, quiet=True)
TRAIN = [f"train-0000{number}-of-00003" for number in range(3)]
VALIDATION = [f"validation-0000{number}-of-00002" for number in range(2)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory):
    """Directory and summary of an undisturbed conversion of `raw`."""
    out = tmp_path_factory.mktemp("records") / "out"
    return out, convert(raw, out, **NUMBERS)


@pytest.fixture
def copy(converted, tmp_path):
    return Path(shutil.copytree(converted[0], tmp_path / "copy"))


def rewrite(path: Path, change) -> None:
    """Writes a record file anew, with `change(number, record)` in place of each record; None leaves it out."""
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, record in enumerate(records):
            changed = change(number, record)
            if changed is not None:
                writer.write(changed)


def with_feature(record: bytes, name: str, value: int | bytes | None) -> bytes:
    example = tf.train.Example.FromString(record)
    del example.features.feature[name]
    if isinstance(value, int):
        example.features.feature[name].int64_list.value.append(value)
    elif value is not None:
        example.features.feature[name].bytes_list.value.append(value)
    return example.SerializeToString()


# What is written


def test_every_readable_picture_is_in_one_record_in_the_schema_with_labels_from_1(converted, raw):
    out, summary = converted
    assert (out / "labels.txt").read_text() == "n01\nn02\nn03\n"
    found = {"train": set(), "val": set()}
    for name in TRAIN + VALIDATION:
        for example in examples(out / name):
            synset = example["image/class/synset"].decode()
            assert example["image/class/label"] == {"n01": 1, "n02": 2, "n03": 3}[synset]
            assert example["image/class/text"] == example["image/class/synset"]
            assert (example["image/height"], example["image/width"], example["image/channels"]) == (HEIGHT, WIDTH, 3)
            assert (example["image/colorspace"], example["image/format"]) == (b"RGB", b"JPEG")
            found["train" if name in TRAIN else "val"].add(f"{synset}/{example['image/filename'].decode()}")
    for split, names in found.items():
        pictures = {path.relative_to(raw / split).as_posix() for path in (raw / split).glob("*/[!.]*")}
        assert names == pictures - {path.partition("/")[2] for path in BAD}
    assert summary.records == (28, 6)
    assert (summary.classes, summary.files, summary.unreadable) == (3, (3, 2), 3)
    assert summary.bytes == sum((out / name).stat().st_size for name in TRAIN + VALIDATION)


def test_rgb_and_grey_jpegs_go_in_byte_for_byte(converted, raw):
    out, _ = converted
    converted_names = {os.path.basename(path) for path in SPECIAL} - {"grey.JPEG"}
    seen = 0
    for name in TRAIN:
        for example in examples(out / name):
            path = raw / "train" / example["image/class/synset"].decode() / example["image/filename"].decode()
            if path.name not in converted_names:
                assert example["image/encoded"] == path.read_bytes()
                seen += 1
    assert seen == 25


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG")])
def test_another_kind_of_picture_becomes_an_rgb_jpeg_of_the_same_colours(mode, kind):
    jpeg = as_jpeg(encoded(7, mode, kind))
    image = Image.open(io.BytesIO(jpeg.content))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))
    assert (jpeg.height, jpeg.width) == (HEIGHT, WIDTH)
    difference = np.abs(tf.io.decode_jpeg(jpeg.content).numpy().astype(int) - pixels(7))
    assert difference.mean() < 3


def test_sixteen_bits_keep_their_brightness():
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6), 0x4000, np.uint16)).save(file, "PNG")
    assert tf.io.decode_jpeg(as_jpeg(file.getvalue()).content).numpy().mean() == 0x40


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"hello", damaged(1), encoded(1)[:99], encoded(2, kind="PNG")[:99]]
)
def test_what_cannot_be_decoded_is_told_without_addresses(content):
    with pytest.raises(UnreadableImageError) as error:
        as_jpeg(content)
    assert str(error.value)
    assert "0x" not in str(error.value)


def test_unreadable_pictures_are_listed_with_reasons_sorted(converted):
    out, _ = converted
    lines = [line.split("\t") for line in (out / "unreadable.txt").read_text().splitlines()]
    assert [path for path, _ in lines] == sorted(BAD)
    assert dict(lines)["val/n01/empty.JPEG"] == "the file is empty"
    assert dict(lines)["train/n03/text.jpeg"] == "not a picture"
    assert "truncated" in dict(lines)["train/n02/cut.JPEG"]


def test_without_unreadable_pictures_there_is_no_list_of_them(tmp_path):
    raw = write_raw(tmp_path / "raw", special=False)
    assert convert(raw, tmp_path / "out", **NUMBERS).unreadable == 0
    assert not (tmp_path / "out" / "unreadable.txt").exists()


def test_a_split_with_nothing_readable_is_an_error(tmp_path):
    raw = write_raw(tmp_path / "raw", special=False)
    for path in (raw / "val").glob("*/*"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="val must hold pictures that can be decoded. Received: 6, none"):
        convert(raw, tmp_path / "out", **NUMBERS)


def test_several_workers_write_the_same(converted, raw, tmp_path):
    convert(raw, tmp_path / "out", **NUMBERS | {"workers": 3})
    assert content(tmp_path / "out") == content(converted[0])


# How pictures are spread


def split_of(count: int, num_classes: int) -> RawSplit:
    labels = np.repeat(np.arange(1, num_classes + 1, dtype=np.int32), count // num_classes)
    return RawSplit("train", Path("raw/train"), [f"{label}/{n}" for n, label in enumerate(labels)], labels, labels)


def test_the_shards_are_a_permutation_in_parts_of_equal_size_but_for_one():
    shards = plan_shards(split_of(1000, 10), 7, seed=0)
    assert [shard.name for shard in shards] == [f"train-{number:05}-of-00007" for number in range(7)]
    assert sorted(len(shard.indices) for shard in shards) == [142, 143, 143, 143, 143, 143, 143]
    np.testing.assert_array_equal(np.sort(np.concatenate([shard.indices for shard in shards])), np.arange(1000))


def test_each_shard_is_a_fair_mixture_of_classes():
    split = split_of(2000, 10)
    for shard in plan_shards(split, 4, seed=0):
        counts = np.bincount(split.labels[shard.indices], minlength=11)[1:]
        # 50 expected of each class; drawn without replacement, the standard deviation is 5.8.
        assert np.abs(counts - 50).max() < 4 * 5.8
        assert np.count_nonzero(np.diff(split.labels[shard.indices])) > 400


def test_another_seed_is_another_order():
    first, again, other = (plan_shards(split_of(100, 10), 2, seed)[0].indices for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# Resuming


class Interruption:
    """In place of `os.replace`: Ctrl-C at its n-th call, before or after the file is in its place."""

    def __init__(self, call: int, after: bool):
        self.calls, self.call, self.after, self.replace = itertools.count(1), call, after, os.replace

    def __call__(self, source, target):
        is_time = next(self.calls) == self.call
        if is_time and not self.after:
            raise KeyboardInterrupt
        self.replace(source, target)
        if is_time:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
def test_interrupted_at_any_step_it_ends_with_the_same_bytes(raw, tmp_path, monkeypatch, after):
    numbers = NUMBERS | {"train_shards": 1, "validation_shards": 1}
    convert(raw, tmp_path / "undisturbed", **numbers)
    # At least: conversion.json, labels.txt, two files, a note of them, unreadable.txt, a note of what was read.
    steps = 7
    for step in range(1, steps + 1):
        out = tmp_path / str(step)
        with monkeypatch.context() as patch:
            patch.setattr(conversion_state, "SECONDS_BETWEEN_SAVES", 0.0)
            patch.setattr(os, "replace", Interruption(step, after))
            with pytest.raises(KeyboardInterrupt):
                convert(raw, out, **numbers)
        convert(raw, out, **numbers)
        assert content(out) == content(tmp_path / "undisturbed"), step


def test_finished_files_are_neither_written_nor_read_back_again(raw, tmp_path, monkeypatch):
    written, read = [], []

    def write_shard(path, *rest):
        written.append(path.name)
        return real_write(path, *rest)

    def check_shard(path, *rest):
        if len(read) == 3 and not is_resumed:
            raise KeyboardInterrupt
        read.append(path.name)
        return real_check(path, *rest)

    real_write, real_check = conversion.write_shard, conversion.check_shard
    monkeypatch.setattr(conversion, "write_shard", write_shard)
    monkeypatch.setattr(conversion, "check_shard", check_shard)
    is_resumed = False
    with pytest.raises(KeyboardInterrupt):
        convert(raw, tmp_path / "out", **NUMBERS)
    assert len(read) == 3
    is_resumed = True
    convert(raw, tmp_path / "out", **NUMBERS)
    summary = convert(raw, tmp_path / "out", **NUMBERS)
    assert sorted(written) == sorted(read) == sorted(TRAIN + VALIDATION)
    assert (summary.records, summary.unreadable) == ((28, 6), 3)


def test_what_a_kill_leaves_of_a_first_step_is_no_obstacle(converted, raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".conversion.partial.json").write_text('{"settin')
    convert(raw, out, **NUMBERS)
    assert content(out) == content(converted[0])


def test_a_finished_file_that_is_lost_or_cut_is_made_again(converted, raw, copy, capsys):
    (copy / TRAIN[0]).unlink()
    (copy / VALIDATION[1]).write_bytes(b"")
    convert(raw, copy, **NUMBERS)
    assert content(copy) == content(converted[0])
    assert f"2 finished files are missing or have another size: {TRAIN[0]}, {VALIDATION[1]}" in capsys.readouterr().err


def test_another_command_is_an_error_that_names_each_difference_and_changes_nothing(raw, copy, tmp_path):
    before = content(copy)
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    (other / "train/n01/n01_0.JPEG").unlink()
    with pytest.raises(InputError) as error:
        convert(other, copy, **NUMBERS | {"train_shards": 2, "seed": 5})
    told = str(error.value)
    for difference in ("--seed was 0 and is 5", "--train_shards was 3 and is 2", "train pictures was 30 and is 29"):
        assert difference in told
    assert "validation" not in told.partition("(")[2]
    assert "\n" not in told
    assert content(copy) == before


def test_a_picture_of_the_same_name_and_another_size_is_another_conversion(raw, copy, tmp_path):
    other = Path(shutil.copytree(raw, tmp_path / "other"))
    (other / "val/n01/n01_0.JPEG").write_bytes(encoded(5) + b"\0")
    with pytest.raises(InputError, match="validation names and sizes was"):
        convert(other, copy, **NUMBERS)


def test_pictures_that_moved_as_they_are_go_on(raw, copy, tmp_path):
    shutil.copytree(raw, tmp_path / "moved")
    assert convert(tmp_path / "moved", copy, **NUMBERS).records == (28, 6)


def test_a_damaged_state_is_an_error(raw, copy):
    (copy / "conversion.json").write_text("{")
    with pytest.raises(InputError, match="conversion.json must be what a conversion left"):
        convert(raw, copy, **NUMBERS)


# Reading back


def test_what_was_written_wrongly_is_found_at_once_and_made_again_by_the_same_command(
    converted, raw, tmp_path, monkeypatch
):
    def write_shard(path, *rest):
        written = real_write(path, *rest)
        if path.name == TRAIN[1]:
            path.write_bytes(path.read_bytes()[:-20] + bytes(20))
        return written

    real_write = conversion.write_shard
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "write_shard", write_shard)
        with pytest.raises(RunError, match=f"{TRAIN[1]}: record .: damaged .*the same command makes these files again"):
            convert(raw, tmp_path / "out", **NUMBERS)
    state = json.loads((tmp_path / "out/conversion.json").read_text())
    assert TRAIN[1] not in state["shards"]
    assert len(state["shards"]) == 4
    convert(raw, tmp_path / "out", **NUMBERS)
    assert content(tmp_path / "out") == content(converted[0])


def test_good_records_have_no_problems(converted):
    found = verify_directory(converted[0], quiet=True)
    assert (found.records, found.classes, found.problems) == ((28, 6), 3, [])


def flip_a_byte(out: Path) -> None:
    data = bytearray((out / TRAIN[0]).read_bytes())
    first = int.from_bytes(data[:8], "little") + 16
    data[first + 100] ^= 1
    (out / TRAIN[0]).write_bytes(data)


def cut_a_file(out: Path) -> None:
    data = (out / TRAIN[0]).read_bytes()
    first = int.from_bytes(data[:8], "little") + 16
    (out / TRAIN[0]).write_bytes(data[: first + 5])


def change(name: str, value: int | bytes | None):
    """Another value in record 2 of the first file."""
    return lambda out: rewrite(
        out / TRAIN[0], lambda number, record: with_feature(record, name, value) if number == 2 else record
    )


@pytest.mark.parametrize(
    ("damage", "record", "reason"),
    [
        (flip_a_byte, 1, "damaged"),
        (cut_a_file, 1, "the file ends within it"),
        (change("image/class/label", 0), 2, "the label must be 1 to 3. Received: 0"),
        (change("image/class/label", 4), 2, "the label must be 1 to 3. Received: 4"),
        (change("image/class/synset", b"n99"), 2, "Received: a picture of n99"),
        (change("image/class/label", None), 2, "image/class/label must be one value (int64_list)"),
        (change("image/filename", None), 2, "image/filename must be one value (bytes_list)"),
        (change("image/encoded", damaged(3)), 2, "the picture is no JPEG that TensorFlow decodes"),
        (change("image/encoded", encoded(3, kind="PNG")), 2, "the picture is no JPEG that TensorFlow decodes"),
        (change("image/height", 17), 2, "the picture is 16x20. Received: 17x20 as its height and width"),
        (lambda out: (out / TRAIN[0]).unlink(), -1, "the file is missing"),
        (lambda out: rewrite(out / TRAIN[0], lambda n, r: b"junk" if n == 2 else r), 2, "it is no tf.train.Example"),
    ],
)
def test_verification_names_file_record_and_reason(copy, damage, record, reason):
    damage(copy)
    problem, *others = verify_directory(copy, workers=1, quiet=True).problems
    assert (problem.file, problem.record) == (TRAIN[0], record)
    assert reason in problem.reason
    assert all(other.file == TRAIN[0] and "must hold" in other.reason for other in others)


def test_a_record_too_few_is_found(copy):
    count = len(examples(copy / VALIDATION[0]))
    rewrite(copy / VALIDATION[0], lambda number, record: record if number else None)
    reason = f"must hold {count} records. Received: {count - 1}"
    assert verify_directory(copy, quiet=True).problems == [Problem(VALIDATION[0], -1, reason)]


def test_all_problems_are_told(copy):
    rewrite(copy / TRAIN[2], lambda number, record: with_feature(record, "image/class/label", 7))
    (copy / VALIDATION[0]).unlink()
    problems = verify_directory(copy, quiet=True).problems
    assert [problem.record for problem in problems if problem.file == TRAIN[2]] == list(
        range(len(examples(copy / TRAIN[2])))
    )
    assert Problem(VALIDATION[0], -1, "the file is missing") in problems


def write_foreign(path: Path, examples_of_file: list[tuple[int, str]]) -> None:
    """Records with the features that training reads, and a synset, as other programs may leave them."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label, synset in examples_of_file:
            record = make_record(Jpeg(encoded(label), HEIGHT, WIDTH), label, synset, "x.JPEG")
            for name in ("image/height", "image/filename", "image/class/text"):
                record = with_feature(record, name, None)
            writer.write(record)


def test_records_made_elsewhere_need_only_what_training_reads(tmp_path):
    write_foreign(tmp_path / "train-00000-of-00001", [(1, "cat"), (2, "dog"), (1, "cat")])
    write_foreign(tmp_path / "validation-00000-of-00001", [(2, "dog")])
    found = verify_directory(tmp_path, quiet=True)
    assert (found.records, found.classes, found.problems) == ((3, 1), 2, [])


def test_of_records_made_elsewhere_a_class_must_have_one_label_and_no_file_may_be_missing(tmp_path):
    write_foreign(tmp_path / "train-00001-of-00002", [(1, "cat"), (2, "dog"), (3, "dog"), (0, "owl")])
    write_foreign(tmp_path / "train-00000-of-00001", [(1, "cow")])
    assert sorted(str(problem) for problem in verify_directory(tmp_path, quiet=True).problems) == [
        "train-*: there are files of 1, 2 in all",
        "train-00000-of-00002: the file is missing",
        "train-00001-of-00002: record 0: label 1 is that of cat here and of cow before",
        "train-00001-of-00002: record 2: dog has label 3 here and 2 before",
        "train-00001-of-00002: record 3: the label must be at least 1. Received: 0",
        "validation-*: there are no such files",
    ]


# Bad input


def without(path: str):
    return lambda raw: shutil.rmtree(raw / path)


def flat_validation(raw: Path) -> None:
    for path in list((raw / "val").glob("*/*.JPEG")):
        path.rename(raw / "val" / path.name)
    for directory in (raw / "val").glob("n??"):
        shutil.rmtree(directory)


def emptied(path: str):
    return lambda raw: [file.unlink() for file in (raw / path).iterdir()]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "RAW must be a directory that holds train/<class>/"),
        (without("train"), "without a directory train"),
        (without("val"), "with neither val nor validation"),
        (lambda raw: (raw / "validation").mkdir(), "with both val and validation"),
        (flat_validation, "val must hold class folders like those of train: .*Received: 6 pictures and no folders"),
        (lambda raw: (raw / "val/n09").mkdir(), "must be classes of train. Received: n09, not among the 3 folders"),
        (emptied("train/n02"), "every class folder must hold pictures .* none in .*train/n02"),
        (emptied("val/n03"), "every class folder must hold pictures .* none in .*val/n03"),
        (lambda raw: [shutil.rmtree(path) for path in (raw / "train").iterdir()], "no class folders in .*train"),
        (lambda raw: (raw / "train/n01/gone.JPEG").symlink_to("nowhere"), "RAW must be readable. .*gone.JPEG"),
    ],
)
def test_another_layout_is_an_error_before_anything_is_made(tmp_path, damage, message):
    raw = write_raw(tmp_path / "raw", special=False)
    damage(raw)
    with pytest.raises(InputError, match=message) as error:
        convert(raw, tmp_path / "out", **NUMBERS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"train_shards": 32}, "--train_shards must be at most 30, the pictures in .*train. Received: 32"),
        ({"validation_shards": 8}, "--validation_shards must be at most 7, .*Received: 8"),
        ({"train_shards": 0}, "--train_shards must be 1 to 99999. Received: 0"),
        ({"seed": -1}, "--seed must be at least 0. Received: -1"),
        ({"workers": -1}, "--workers must be at least 0. Received: -1"),
    ],
)
def test_numbers_out_of_range_are_errors(raw, tmp_path, numbers, message):
    with pytest.raises(InputError, match=message):
        convert(raw, tmp_path / "out", **NUMBERS | numbers)
    assert not (tmp_path / "out").exists()


def test_a_directory_of_other_things_is_left_alone(raw, tmp_path):
    (tmp_path / "train-00000-of-00003").write_bytes(b"somebody's")
    with pytest.raises(InputError, match="OUT must be new, empty or .* with train-00000-of-00003"):
        convert(raw, tmp_path, **NUMBERS)
    assert content(tmp_path) == {"train-00000-of-00003": b"somebody's"}


def test_records_never_lie_among_the_pictures(raw):
    for out in (raw / "train", raw / "val" / "n01", raw / "train" / "records", raw / "train" / "n01" / ".." / "x"):
        with pytest.raises(InputError, match="OUT must be outside of"):
            convert(raw, out, **NUMBERS)
    with pytest.raises(InputError, match="OUT must be new, empty"):
        convert(raw, raw, **NUMBERS)


def test_a_file_in_the_place_of_the_directory_is_an_error(raw, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="OUT must be a directory to write to. Received: .*out"):
        convert(raw, tmp_path / "out", **NUMBERS)


def test_two_conversions_at_once_are_one_too_many(raw, copy):
    directory = os.open(copy, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        with pytest.raises(InputError, match="where another conversion is running"):
            convert(raw, copy, **NUMBERS)
    finally:
        os.close(directory)
    convert(raw, copy, **NUMBERS)


def test_a_disk_with_too_little_room_is_told_before_any_work(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 2500, 2500))
    sizes = sum(path.stat().st_size for path in raw.glob("*/*/[!.]*"))
    needed = (sizes + 512 * 37) / 1000
    with pytest.raises(InputError, match=re.escape(f"must have {needed:.1f} kB free. Received: 2.5 kB at")):
        convert(raw, tmp_path / "out", **NUMBERS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(5, "Input/output error"), "Input/output error"), (None, "stay")]
)
def test_a_picture_that_the_disk_refuses_or_that_changed_ends_the_run(tmp_path, monkeypatch, error, reason):
    raw = write_raw(tmp_path / "raw", special=False)
    real = Path.read_bytes

    def read_bytes(path):
        if path.name != "n02_3.JPEG":
            return real(path)
        if error:
            raise error
        return real(path)[1:]

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(RunError, match=f"n02_3.JPEG.*{reason}"):
        convert(raw, tmp_path / "out", **NUMBERS)
    monkeypatch.undo()
    assert convert(raw, tmp_path / "out", **NUMBERS).records == (24, 6)


def test_what_is_no_picture_and_classes_without_validation_are_told(tmp_path, capsys):
    raw = write_raw(tmp_path / "raw", special=False)
    (raw / "train/n01/boxes.txt").write_text("0 0 1 1")
    shutil.rmtree(raw / "val/n02")
    images = list_pictures(raw)
    told = capsys.readouterr().err
    assert images.classes == ("n01", "n02", "n03")
    assert images.splits[1].labels.tolist() == [1, 1, 3, 3]
    assert "1 files or folders in class folders are no pictures" in told
    assert "1 classes have no validation folder: n02" in told
