"""One worker alone, and what is made of the workers' few methods; tests/workers has the real ones."""

import numpy as np
import pytest
import tensorflow as tf

from tests.fake_workers import run_in_threads
from utils.checkpoints import read_checkpoint
from utils.errors import InputError, RunError
from utils.run_dir import RunDir
from utils.workers import (
    ALONE,
    check_same,
    difference,
    digest,
    from_all,
    from_first,
    make_workers,
    telling_of_lost_workers,
)


def test_one_worker_alone_is_the_first_and_changes_nothing():
    assert (ALONE.rank, ALONE.size, ALONE.local_rank, ALONE.is_first) == (0, 1, 0, True)
    tensors = [tf.ones(2), tf.zeros([], tf.int64)]
    assert [one is other for one, other in zip(ALONE.mean(tensors), tensors, strict=True)] == [True, True]
    assert [one is other for one, other in zip(ALONE.sum(tensors), tensors, strict=True)] == [True, True]
    assert ALONE.all_gather("a") == ["a"]
    assert ALONE.broadcast("a") == "a"


def test_alone_nothing_is_compared_and_nothing_hashed():
    check_same(ALONE, "the masks", lambda: pytest.fail("not even asked for"))
    assert difference(ALONE, object()) is None


def test_errors_of_one_worker_alone_are_its_own():
    def fail():
        raise InputError("wrong")

    for function in (from_first, from_all):
        with pytest.raises(InputError, match="^wrong$"):
            function(ALONE, fail)


def test_a_process_that_horovod_did_not_start_is_alone(monkeypatch):
    monkeypatch.delenv("HOROVOD_RANK", raising=False)
    monkeypatch.delenv("HOROVOD_SIZE", raising=False)
    assert make_workers(False, 300) is ALONE
    with pytest.raises(InputError, match="run_local.sh NET_SCRIPT -n=N"):
        make_workers(True, 300)


def test_a_single_process_of_horovod_does_without_it(monkeypatch):
    monkeypatch.setenv("HOROVOD_RANK", "0")
    monkeypatch.setenv("HOROVOD_SIZE", "1")
    assert make_workers(True, 300) is ALONE


def test_digests_see_every_bit_the_shape_the_type_and_the_name():
    arrays = {"a": np.arange(4.0), "b": np.zeros((0, 3))}
    others = [
        {"a": np.nextafter(np.arange(4.0), 9), "b": np.zeros((0, 3))},
        {"a": np.arange(4.0).reshape(2, 2), "b": np.zeros((0, 3))},
        {"a": np.arange(4.0).astype(np.float32), "b": np.zeros((0, 3))},
        {"c": np.arange(4.0), "b": np.zeros((0, 3))},
        {"a": np.array([-0.0, 1, 2, 3]), "b": np.zeros((0, 3))},
    ]
    assert digest(arrays) == digest(dict(reversed(arrays.items())))
    assert digest(arrays) == digest({name: np.asfortranarray(array) for name, array in arrays.items()})
    assert len({digest(arrays), *map(digest, others)}) == 6


def _broken(text):
    raise tf.errors.UnknownError(None, None, text)


def test_a_broken_collective_operation_is_one_clear_error():
    def of(workers):
        with telling_of_lost_workers(workers, 7):
            _broken("Horovod has been shut down. This was caused by an exception on one of the ranks")

    for error in run_in_threads(2, of):
        assert isinstance(error, RunError)
        assert "--worker_timeout is 7 s" in str(error)


def test_other_errors_of_tensorflow_stay_what_they_are():
    def of(workers):
        with telling_of_lost_workers(workers, 7):
            _broken("Input to reshape is a tensor with 3 values")

    assert {type(error) for error in run_in_threads(2, of)} == {tf.errors.UnknownError}
    with pytest.raises(tf.errors.UnknownError), telling_of_lost_workers(ALONE, 7):
        _broken("Horovod, of which there is none")


def test_a_run_directory_is_the_first_worker_s(tmp_path):
    """The others' path does not exist on their machines, and stays so; all know what is in it."""

    def of(workers):
        path = tmp_path / f"machine_{workers.rank}" / "run"
        run_dir = RunDir(path, workers)
        run_dir.open({"seed": 1})
        run_dir.file("dense", "model.keras")
        run_dir.finish_stage("dense", 1.0 + workers.rank, {"source": f"rank {workers.rank}"})
        return run_dir.stages()

    expected = {"dense": {"seconds": 1.0, "source": "rank 0"}}
    assert run_in_threads(3, of) == [expected] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["machine_0"]


def test_a_run_directory_of_another_configuration_is_refused_to_all(tmp_path):
    RunDir(tmp_path / "run").open({"seed": 1})
    found = run_in_threads(2, lambda workers: RunDir(tmp_path / "run", workers).open({"seed": 2}))
    assert [type(error) for error in found] == [InputError] * 2
    assert "--seed: 1 there, 2 now" in str(found[1])


def test_a_directory_that_cannot_go_is_emptied_all_the_same(tmp_path, monkeypatch):
    """Such as one that is mounted into a container."""
    run_dir = RunDir(tmp_path / "run")
    run_dir.open({"seed": 1})
    run_dir.file("dense", "model.keras").write_text("a network")

    def refuse(self):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(type(tmp_path), "rmdir", refuse)
    run_dir.open({"seed": 2}, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "run.lock"]
    run_dir.release()
    assert list((tmp_path / "run").iterdir()) == []
    assert read_checkpoint(tmp_path / "run" / "none.npz") is None
