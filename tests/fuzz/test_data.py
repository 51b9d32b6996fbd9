"""Data sets: CIFAR-10's files, TFRecord files of ImageNet and of one's own, pictures in folders and in records."""

import functools
import gzip
import io
import os
import random
import shutil

import fsspec
import numpy as np
import tensorflow as tf
from PIL import Image

from datasets.cifar10 import decode_records, encode_records, read_batches
from datasets.ilsvrc12.bad_images import BadImageError, jpeg_size, reencode
from datasets.ilsvrc12.index import index_of_lengths, masked_crc32c, scan_shard
from datasets.ilsvrc12.records import RecordFiles, parse_record
from datasets.ilsvrc12.shards import Shard
from datasets.images import ImageArrays
from datasets.own_folders import read_folders
from datasets.own_pictures import Picture, decode_pictures
from datasets.own_records import read_records
from tests.fuzz.driver import fuzz, put
from tests.fuzz.mutations import mutated

LOCAL = fsspec.filesystem("file")
LENGTHS = (0, 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def test_cifar10_files_are_read_or_refused(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, 32, 32, 3), np.uint8)
    sound = encode_records(ImageArrays(images, np.array([3, 9], np.int32)))
    path = tmp_path / "data_batch_1.bin"

    def draw(rng):
        content = bytearray(mutated(rng, [sound]) if rng.random() < 0.6 else sound)
        if rng.random() < 0.4 and len(content) > 3073:
            content[rng.choice((0, 3073))] = rng.randrange(256)
        return bytes(content)

    def read(content):
        put(path, content)
        found = read_batches(LOCAL, str(tmp_path), [path.name])
        assert found.images.shape[1:] == (32, 32, 3)
        assert len(found.images) == len(found.labels) == len(content) // 3073
        assert 0 <= found.labels.min() <= found.labels.max() < 10
        assert encode_records(decode_records(content, "it")) == content

    fuzz(draw, read, names=str(path))


def picture(form: str, shape=(5, 4, 3)) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def example(image: bytes, label: int) -> bytes:
    """A record in the schemas of both ImageNet and TensorFlow Datasets."""

    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    features = {"image/encoded": of_bytes(image), "image/class/label": label, "image/filename": of_bytes(b"n01.JPEG")}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def frame(content: bytes, length: int | None = None, checksum: bytes | None = None) -> bytes:
    """A record's frame; its length may be another than that of the content."""
    said = (len(content) if length is None else length).to_bytes(8, "little")
    return said + masked_crc32c(said) + content + (masked_crc32c(content) if checksum is None else checksum)


def record_file(rng: random.Random, examples) -> bytes:
    """A TFRecord file in which something is wrong: its bytes, a frame, or what is in a frame."""
    frames = [frame(content) for content in rng.choices(examples, k=rng.choice((0, 1, 2, 3)))]
    kind = rng.randrange(6)
    if kind == 0:
        return mutated(rng, [b"".join(frames)])
    if kind == 1:
        frames.insert(0, frame(rng.choice(examples), length=rng.choice(LENGTHS)))
    if kind == 2:
        frames.insert(rng.randrange(len(frames) + 1), frame(mutated(rng, examples)))
    if kind == 3:
        frames.append(frame(rng.choice(examples), checksum=rng.randbytes(4)))
    if kind == 4:
        frames.append(frame(b""))
    content = b"".join(frames)
    return gzip.compress(content) if kind == 5 else content


def test_imagenets_records_are_read_or_refused(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    examples = [example(picture("JPEG"), 1), example(picture("PNG"), 5), example(b"", 3)]

    def read(content):
        put(path, content)
        lengths = scan_shard(LOCAL, Shard(str(path), len(content), ""))
        assert lengths.sum() + 16 * len(lengths) == len(content)
        if len(lengths):
            files = RecordFiles(LOCAL, index_of_lengths([str(path)], [lengths]), num_classes=5)
            for number in range(len(files)):
                assert 0 <= files.read(number).label < 5

    fuzz(functools.partial(record_file, examples=examples), read, names=str(path))


def test_the_content_of_a_record_is_read_or_refused():
    samples = [example(picture("JPEG"), 1), example(b"x", 5), b""]

    def read(content):
        assert 0 <= parse_record(content, "record 7 of a file", 5).label < 5

    fuzz(functools.partial(mutated, samples=samples), read, names="record 7 of a file")


def test_own_records_are_read_or_refused(tmp_path):
    path = tmp_path / "train.tfrecord"
    examples = [example(picture("PNG"), 0), example(b"x", 4)]

    def read(content):
        put(path, content)
        source = read_records(str(tmp_path), {"train": [path.name]}, quiet=True)
        assert len(source.samples["train"]) == len(source.labels["train"]) > 0
        assert 0 <= source.labels["train"].min() <= source.labels["train"].max() < len(source.class_names)

    fuzz(functools.partial(record_file, examples=examples), read, inputs=300, names=str(tmp_path))


FORMS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")


def test_pictures_are_decoded_or_named(tmp_path):
    sound = [picture(form) for form in FORMS] + [picture("PNG", (5, 4)), picture("JPEG", (5, 4))]

    def read(content):
        images, kept = decode_pictures([Picture("the picture", content)], (3, 3, 3), quiet=True)
        assert images.shape == (1, 3, 3, 3)
        assert kept.tolist() == [0]

    # Pillow decodes up to 179 million pixels.
    fuzz(functools.partial(mutated, samples=sound), read, inputs=600, names="the picture", megabytes=1500)


def test_images_of_imagenet_are_mended_or_refused():
    sound = [picture(form) for form in FORMS]

    def read(content):
        size = jpeg_size(content)
        assert size is None or min(size) > 0
        assert jpeg_size(reencode(content)) is not None

    # Pillow decodes up to 179 million pixels.
    fuzz(functools.partial(mutated, samples=sound), read, inputs=600, errors=(BadImageError,), megabytes=1500)


def test_folders_of_any_names_are_read_or_refused(tmp_path):
    names = (
        "train",
        "Train",
        "val",
        "validation",
        "test",
        "a",
        "b",
        ".hidden",
        "é",
        "a\nb",
        "\udcff",
        "thumbs.db",
        "x.png",
    )

    def draw(rng):
        """Paths of files and folders, and of links from one to another."""
        steps = [[rng.choice(names) for _ in range(rng.randrange(1, 4))] for _ in range(rng.randrange(7))]
        kinds = ("file", "file", "folder", "link")
        return [("/".join(path) + rng.choice(("", ".png", ".JPG")), rng.choice(kinds)) for path in steps]

    def read(entries):
        root = tmp_path / "data"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, kind in entries:
            path = root / name
            if any(parent.is_file() or parent.is_symlink() for parent in path.parents) or os.path.lexists(path):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(root / entries[0][0])
            else:
                path.mkdir() if kind == "folder" else path.touch()
        source = read_folders(str(root), quiet=True)
        for part, pictures in source.samples.items():
            assert len(pictures) == len(source.labels[part])
        assert source.labels["train"].max() < len(source.class_names)

    fuzz(draw, read, inputs=1000, names="data")
