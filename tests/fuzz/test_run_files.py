"""What a run reads of its own directory: checkpoints, the log of a search, configuration and finished stages."""

import hashlib
import json
import struct

import numpy as np
import pytest

from learners.weight_sparsification.ratio_search import SearchLog
from tests.fuzz.archives import damaged_npz
from tests.fuzz.driver import fuzz, put
from tests.fuzz.mutations import json_file, mutated
from utils.checkpoints import Checkpoint, previous_of, read_checkpoint, read_meta, write_checkpoint
from utils.run_dir import RunDir

ARRAYS = {
    "model/kernel": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "optimizer/0": np.array(7, np.int64),
    "policy/masks": np.array([True, False]),
    "none": np.zeros((0, 3), np.float16),
}
META = {"step": 5, "history": [{"step": 5, "loss": 0.25}], "divergence_sum": None}


class Agent:
    """All that a log asks of one."""

    def __init__(self):
        self.state = ARRAYS

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def assert_sound(checkpoint):
    assert checkpoint.meta == META
    assert checkpoint.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array, strict=True)


@pytest.fixture
def path(tmp_path):
    """Of a checkpoint with the same before it."""
    path = tmp_path / "checkpoint.npz"
    for _ in range(2):
        write_checkpoint(path, Checkpoint(ARRAYS, META))
    return path


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_alone_is_refused(path, capsys):
    sound, previous = path.read_bytes(), previous_of(path)

    def draw(rng):
        return mutated(rng, [sound]), rng.random() < 0.5

    def read(given):
        content, is_alone = given
        put(path, content)
        if is_alone:
            previous.unlink(missing_ok=True)
        else:
            put(previous, sound)
        found = read_checkpoint(path)
        assert_sound(found)
        assert (path.name in capsys.readouterr().err) == (content != sound)
        write_checkpoint(path, found)
        assert previous.read_bytes() == sound

    fuzz(draw, read, inputs=1000, names=str(path))


def test_a_checkpoint_that_is_wrong_inside_is_read_or_refused_though_its_checksum_is_right(path):
    previous_of(path).unlink()
    sound = path.read_bytes()[:-64][:-2] + b"\0\0"  # an archive without a comment

    def draw(rng):
        content = damaged_npz(rng, [sound])[:-2] + struct.pack("<H", 64)
        return content + hashlib.sha256(content).hexdigest().encode()

    def read(content):
        put(path, content)
        assert isinstance(read_meta(path), dict)
        found = read_checkpoint(path)
        assert isinstance(found.meta, dict)
        assert all(array.dtype.kind in "biufcSUV" for array in found.arrays.values())

    fuzz(draw, read, inputs=1000, names=str(path))


def test_a_log_of_roll_outs_is_taken_only_as_it_was_written(tmp_path):
    path = tmp_path / "search.jsonl"
    log = SearchLog(path, tmp_path / "agent.npz")
    log.resume(Agent())
    for index in range(3):
        log.append([{"index": index, "ratios": {"conv/kernel": 0.25 * index}, "reward": 0.5}], Agent())
    sound = path.read_bytes()
    longer = sound + b'{"index": 3, "rat'  # a kill came as the next line was written

    def read(content):
        put(path, content)
        again = SearchLog(path, tmp_path / "agent.npz")
        again.resume(Agent())
        assert again.records == log.records
        assert path.read_bytes() == sound

    fuzz(lambda rng: mutated(rng, [sound, longer]) if rng.random() < 0.9 else longer, read, names=str(path))


@pytest.mark.parametrize(("name", "inputs"), [("config.json", 2000), ("stages.json", 500)])
def test_configuration_and_stages_are_read_or_refused(tmp_path, name, inputs):
    config = {"net": "resnet_20_at_digits32", "seed": 0, "ws_prune_ratio": 0.75, "learner": "weight-sparse"}
    stages = {"dense": {"seconds": 1.5, "accuracy": 0.9, "source": "trained"}, "paths": {"seconds": 2.0}}
    sound = {"config.json": config, "stages.json": stages}

    def read(content):
        for other, value in sound.items():
            put(tmp_path / other, json.dumps(value).encode())
        put(tmp_path / name, content)
        run_dir = RunDir(tmp_path)
        try:
            run_dir.open(config)
            found = run_dir.stages()
        finally:
            run_dir.close()
            assert (tmp_path / name).read_bytes() == content
        assert all(stage["seconds"] * 0 == 0 for stage in found.values())

    fuzz(lambda rng: json_file(rng, sound[name]), read, inputs=inputs, names=str(tmp_path))
