import io

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from export.run_record import KernelPair
from export.tensorboard import ScalarLog, log_pictures


def scalars(directory):
    """Name -> [(step, value)] as TensorBoard reads them."""
    events = EventAccumulator(str(directory))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_reads_what_was_logged(tmp_path):
    with ScalarLog(tmp_path / "events") as log:
        log.log(10, {"loss": 0.5, "accuracy": 0.25})
        log.log(20, {"loss": 0.25})
    assert scalars(tmp_path / "events") == {"loss": [(10, 0.5), (20, 0.25)], "accuracy": [(10, 0.25)]}


def test_flushed_values_are_there_when_the_process_is_killed(tmp_path):
    log = ScalarLog(tmp_path)
    log.log(1, {"loss": 2.0})
    log.flush()
    assert scalars(tmp_path) == {"loss": [(1, 2.0)]}
    log.close()


def test_steps_after_the_checkpoint_do_not_show_twice_after_a_resume(tmp_path):
    killed = ScalarLog(tmp_path)
    for step in (10, 20, 30, 40):
        killed.log(step, {"loss": 1.0})
    killed.log(40, {"validation_accuracy": 0.5})
    killed.flush()
    with ScalarLog(tmp_path) as resumed:
        resumed.log(30, {"loss": 2.0})
    assert scalars(tmp_path)["loss"] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert scalars(tmp_path)["validation_accuracy"] == []
    assert len(list(tmp_path.iterdir())) == 2
    killed.close()


def test_a_start_that_logs_nothing_leaves_what_was_logged_alone(tmp_path):
    with ScalarLog(tmp_path) as log:
        log.log(10, {"loss": 1.0})
    with ScalarLog(tmp_path) as finished:
        finished.flush()
    assert scalars(tmp_path) == {"loss": [(10, 1.0)]}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_value_that_is_no_number_is_refused(tmp_path):
    log = ScalarLog(tmp_path)
    with pytest.raises(ValueError, match="could not convert"):
        log.log(1, {"loss": "low"})
    log.close()


def test_pictures_and_histograms_are_written_in_place_of_the_last_ones(tmp_path):
    png = io.BytesIO()
    PIL.Image.new("RGB", (30, 20)).save(png, "png")
    kernels = {"conv/kernel": KernelPair(np.array([[-1.0, 0.5], [1.0, 1.0]]), np.array([[0.0, 0.0], [0.0, 2.0]]))}
    for _ in range(2):
        log_pictures(tmp_path, {"search": png.getvalue()}, kernels)
    (image,) = _loaded(tmp_path / "report").Images("search")
    assert (image.width, image.height, image.encoded_image_string) == (30, 20, png.getvalue())
    before, after = (
        _loaded(tmp_path / name).Histograms("conv/kernel")[0].histogram_value
        for name in ("weights_before", "weights_after")
    )
    assert (before.min, before.max, before.num, before.sum, before.sum_squares) == (-1.0, 1.0, 4.0, 1.5, 3.25)
    assert sum(before.bucket) == 4
    assert [count for count in after.bucket if count] == [3.0, 1.0]
    assert after.bucket_limit[-1] == 2.0


def test_a_run_without_kernels_has_no_histograms(tmp_path):
    log_pictures(tmp_path, {}, {})
    assert list(tmp_path.iterdir()) == []


def _loaded(directory):
    events = EventAccumulator(str(directory))
    events.Reload()
    return events
