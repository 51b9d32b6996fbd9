"""Whether workers are alike, which are threads here."""

import shutil
import types
from pathlib import Path

import numpy as np
import pytest

from datasets.images import ImageArrays, ImageDataset
from learners import agreement
from learners.agreement import check_agreement, code_digest
from tests.fake_workers import run_in_threads
from utils.errors import InputError
from utils.workers import ALONE

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = {"seed": 0, "resnet_size": 20}


def helper(num_train=6, shift=0):
    """Stands in for a ModelHelper, of which only the data set is looked at."""
    splits = {
        name: ImageArrays(np.zeros((count, 2, 2, 1), np.uint8), (np.arange(count) + shift).astype(np.int32))
        for name, count in (("train", num_train), ("validation", 3), ("test", 2))
    }
    mean, std = np.zeros(1, np.float32), np.ones(1, np.float32)
    dataset = ImageDataset("small", "small", 8, **splits, mean=mean, std=std, crop_padding=0, flip=False)
    return types.SimpleNamespace(dataset=dataset)


def told(of):
    """The error of each of two workers, where `of(workers)` are the arguments after the workers."""
    found = run_in_threads(2, lambda workers: check_agreement(workers, *of(workers)))
    return [str(error) if isinstance(error, InputError) else error for error in found]


def test_workers_that_are_alike_may_begin():
    assert told(lambda workers: (ROOT, helper(), IDENTITY)) == [None, None]


def test_one_worker_alone_is_not_looked_at():
    check_agreement(ALONE, Path("/nowhere"), None, IDENTITY)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_train", 7, ["the data", "small: train 7", "small: train 6"]),
        ("shift", 1, ["the data"]),
    ],
    ids=["another number of images", "other labels"],
)
def test_other_data_is_named_with_its_rank(name, value, words):
    for text in told(lambda workers: (ROOT, helper(**({name: value} if workers.rank else {})), IDENTITY)):
        assert all(word in text for word in [*words, "on rank 1", "on rank 0"])


def test_other_flags_are_told():
    for text in told(lambda workers: (ROOT, helper(), IDENTITY | {"seed": workers.rank})):
        assert text.startswith("the flags must be the same on all workers")


def test_other_versions_are_told(monkeypatch):
    versions = iter(["tensorflow 2.21.0", "tensorflow 2.20.0"])
    monkeypatch.setattr(agreement, "_versions", lambda: next(versions))
    for text in told(lambda workers: (ROOT, helper(), IDENTITY)):
        assert text.startswith("the versions of the packages must be the same on all workers")
        assert "tensorflow 2.20.0" in text


def test_other_code_is_told(tmp_path):
    copy = tmp_path / "copy"
    for name in ("learners", "utils"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "main.py", copy)
    other = shutil.copytree(copy, tmp_path / "other")
    assert code_digest(copy) == code_digest(other)
    (other / "utils" / "errors.py").write_text("# changed\n")
    for text in told(lambda workers: ((copy, other)[workers.rank], helper(), IDENTITY)):
        assert text.startswith("the program's code (its hash) must be the same on all workers")


def test_the_hash_of_the_code_sees_names_and_contents(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "main.py").write_text("a = 1\n")
    (tmp_path / "utils" / "one.py").write_text("b = 2\n")
    before = code_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert code_digest(tmp_path) == before
    (tmp_path / "utils" / "one.py").rename(tmp_path / "utils" / "two.py")
    assert code_digest(tmp_path) != before
