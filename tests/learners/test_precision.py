"""--enbl_amp and --enbl_xla."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.policies import Policy
from datasets.config import DataConfig
from export import plots
from export.config import ExportConfig
from export.keras_model import save_plain_model
from learners.config import RunConfig, RunOptions
from learners.full_precision import FullPrecisionLearner
from learners.precision import FLOAT16, LossScale, set_precision
from learners.scheduled.config import ScheduleConfig
from learners.scheduled.learner import ScheduledLearner
from learners.train_step import TrainStep
from learners.training import Monitor, train
from learners.variables import named_arrays
from nets.config import NetConfig, OwnModelConfig, TrainingConfig
from nets.layers import FusedBatchNormalization
from tests.small_helper import SmallHelper
from tests.small_training import cross_entropy, image_batches, linear_model
from utils.checkpoints import read_checkpoint
from utils.errors import InputError, RunError
from utils.run_dir import RunDir
from utils.workers import ALONE, SingleWorker


def small_net(seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 2), name="images")
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(images)
    x = keras.layers.ReLU(name="relu")(FusedBatchNormalization(name="bn")(x))
    x = keras.layers.Dense(3, name="fc")(keras.layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(images, keras.layers.Reshape((3,), name="flat")(x))


def train_with(checkpoint, on_row=lambda row: None, seed=0, scale=None, **options):
    optimizer = keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(small_net(seed), optimizer, cross_entropy, Policy(), 1e-3, **options)
    if scale is not None:
        step.loss_scale = scale
    monitor = Monitor(2, 3, on_row, quiet=True)
    rates = np.full(8, 0.1, np.float32)
    return train(step, Policy(), image_batches, rates, checkpoint, monitor, title="t", steps_per_epoch=8), step


@functools.cache
def full_losses(directory):
    return [row["loss"] for row in train_with(directory / "full.npz")[0].history]


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_layers_compute_in_half_precision_but_for_the_outputs_and_keep_their_weights(kind):
    model, images = small_net(), np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype(np.float32)
    exact = model(images).numpy()
    set_precision(model, kind)
    outputs = model(images)
    assert outputs.dtype == tf.float32
    assert {variable.dtype for variable in model.variables} == {"float32"}
    computed = {layer.name: layer.compute_dtype for layer in model.layers if layer.name != "images"}
    assert computed == {"fc": "float32", "flat": "float32"} | dict.fromkeys(("conv", "bn", "relu", "pool"), kind)
    assert 0 < np.abs(outputs - exact).max() < 0.02
    set_precision(model, "float32")
    np.testing.assert_array_equal(model(images), exact)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_a_training_in_half_precision_is_close_and_leaves_a_network_of_full_precision(tmp_path, kind):
    policy = keras.config.dtype_policy().name
    result, step = train_with(tmp_path / "half.npz", precision=kind)
    found = [row["loss"] for row in result.history]
    np.testing.assert_allclose(found, full_losses(tmp_path), rtol=0.03)
    assert found != full_losses(tmp_path)
    assert step.trace_count == 1
    assert keras.config.dtype_policy().name == policy
    assert {array.dtype for name, array in named_arrays(step.model.variables).items()} == {np.dtype("float32")}
    save_plain_model(step.model, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert {layer.dtype_policy.name for layer in loaded.layers} == {"float32"}
    images = next(iter(image_batches()))[0]
    np.testing.assert_allclose(loaded(images), step.model(images), rtol=1e-5, atol=1e-6)


def test_the_scale_halves_at_a_bad_step_and_doubles_after_good_ones():
    scale = LossScale(first=8.0, patience=2)
    seen = []
    for is_good in (False, True, True, True, False, True, True):
        scale.update(tf.constant(is_good))
        seen.append(float(scale.scale))
    assert seen == [4, 4, 8, 8, 4, 4, 8]
    other = LossScale()
    other.restore(scale.state())
    assert other.state() == scale.state() == {"scale": 8.0, "good_steps": 0}
    np.testing.assert_array_equal(other.unscaled([tf.constant([8.0, -4.0])])[0], [1, -0.5])
    assert other.unscaled([None]) == [None]


def test_steps_without_finite_gradients_change_no_weights_and_slots():
    """Gradients of 1e35 are infinite in float32 at scales above 3,402: the steps at 2^15 to 2^12 are left out."""
    model, optimizer = linear_model(), keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(model, optimizer, lambda y, z: 1e35 * tf.reduce_mean(z), Policy(), precision=FLOAT16)
    data = tf.data.Dataset.from_tensors((tf.ones([1, 4]), tf.zeros([1], tf.int32))).repeat()
    before = model.get_weights()[0]
    step.run(iter(data), np.full(4, 1e-35))
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert int(optimizer.iterations) == 0
    assert not np.any(optimizer.variables[-1])
    assert float(step.loss_scale.scale) == 2.0**11
    step.run(iter(data), np.full(1, 1e-35))
    np.testing.assert_allclose(model.get_weights()[0], before - 1, rtol=1e-5)


def test_gradients_that_no_scale_makes_finite_end_the_training(tmp_path):
    step = TrainStep(
        linear_model(),
        keras.optimizers.SGD(0.0),
        lambda y, z: tf.reduce_mean(tf.sqrt(z - tf.stop_gradient(z))),  # 0, of infinite gradient
        Policy(),
        precision=FLOAT16,
    )
    data = tf.data.Dataset.from_tensors((tf.ones([1, 4]), tf.zeros([1], tf.int32))).repeat()
    rates, monitor = np.full(60, 0.1), Monitor(30, 30, quiet=True)
    with pytest.raises(RunError, match="gradients are not finite in float16 even with the loss scaled by .*bfloat16"):
        train(step, Policy(), lambda start: data, rates, tmp_path / "c", monitor, title="t", steps_per_epoch=60)


def test_a_killed_training_in_float16_goes_on_with_its_scale(tmp_path):
    def scale():
        return LossScale(first=4.0, patience=3)

    whole, step = train_with(tmp_path / "whole.npz", scale=scale(), precision=FLOAT16)
    assert step.loss_scale.state() == {"scale": 16.0, "good_steps": 2}

    def die(row):
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_with(tmp_path / "killed.npz", die, scale=scale(), precision=FLOAT16)
    assert read_checkpoint(tmp_path / "killed.npz").arrays["loss_scale/scale"] == 8.0
    resumed, other = train_with(tmp_path / "killed.npz", seed=1, scale=scale(), precision=FLOAT16)
    assert resumed.history == whole.history
    assert other.loss_scale.state() == step.loss_scale.state()


class FellowWithInfinities(SingleWorker):
    """One of two, whose fellow's tensors are all infinite."""

    size = 2

    def mean(self, tensors):
        return [tf.convert_to_tensor(tensor) + np.inf for tensor in tensors]


def test_a_worker_leaves_out_a_step_whose_gradients_are_infinite_on_another():
    model = linear_model()
    step = TrainStep(
        model,
        keras.optimizers.SGD(0.0),
        lambda y, z: tf.reduce_mean(z),
        Policy(),
        workers=FellowWithInfinities(),
        precision=FLOAT16,
    )
    data = tf.data.Dataset.from_tensors((tf.ones([1, 4]), tf.zeros([1], tf.int32))).repeat()
    step.run(iter(data), np.full(1, 0.1))
    assert float(step.loss_scale.scale) == 2.0**14
    np.testing.assert_array_equal(model.get_weights()[0], linear_model().get_weights()[0])


def test_xla_gives_the_same_losses(tmp_path):
    result, step = train_with(tmp_path / "xla.npz", xla=True)
    np.testing.assert_allclose([row["loss"] for row in result.history], full_losses(tmp_path), rtol=1e-4)
    assert step.trace_count == 1


def test_what_xla_cannot_compile_ends_the_run_with_one_clear_line():
    def loss(labels, logits):
        return tf.py_function(lambda z: tf.reduce_mean(z), [logits], tf.float32)

    step = TrainStep(linear_model(), keras.optimizers.SGD(0.0), loss, Policy(), xla=True)
    data = tf.data.Dataset.from_tensors((tf.ones([1, 4]), tf.zeros([1], tf.int32))).repeat()
    with pytest.raises(RunError, match="--enbl_xla cannot compile the training step .*EagerPyFunc") as error:
        step.run(iter(data), np.full(1, 0.1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("net", "workers", "message"),
    [
        (dict(own_model=OwnModelConfig(source="m.keras")), ALONE, "--enbl_amp must be left out with --own_model"),
        (
            dict(training=TrainingConfig(xla=True, sync_batch_norm=True)),
            FellowWithInfinities(),
            "--enbl_xla must be left out with --enbl_s",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, net, workers, message):
    config = RunConfig(RunOptions(), NetConfig(**{"training": TrainingConfig(mixed_precision=True), **net}))
    with pytest.raises(InputError, match=message):
        FullPrecisionLearner(config, SmallHelper(config.net), RunDir(tmp_path / "run"), workers).check_flags()


def learner(directory, **training):
    net = NetConfig(DataConfig(batch_size=8), training=TrainingConfig(**training))
    return FullPrecisionLearner(
        RunConfig(RunOptions(quiet=True), net, export=ExportConfig(formats="none")), SmallHelper(net), RunDir(directory)
    )


@pytest.mark.parametrize(
    ("training", "reached"),
    [
        ({}, ("float32", False)),
        (dict(mixed_precision_type="float16"), ("float32", False)),
        (dict(mixed_precision=True, mixed_precision_type="float16"), ("float16", False)),
        (dict(mixed_precision=True, xla=True), ("bfloat16", True)),
    ],
)
def test_the_flags_reach_the_training(tmp_path, monkeypatch, training, reached):
    monkeypatch.setattr("learners.trainer.TrainStep", lambda *arguments: arguments[-2:])
    assert learner(tmp_path, **training).trainer.step(None, Policy(), None) == reached


def test_a_run_in_half_precision_reports_the_network_that_it_saves(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "plot_training", lambda *args: None)
    run = learner(tmp_path / "run", mixed_precision=True)
    run.run_dir.open({})
    report = run.run()
    kept = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in kept.layers} == {"float32"}
    assert run.test(kept)["accuracy"] == report["dense"]["accuracy"]


def test_half_precision_is_refused_with_a_schedule_that_quantizes(tmp_path):
    schedule = tmp_path / "schedule.yaml"
    schedule.write_text(
        "quantizers: {q: {class: WRPNQuantizer, bits_activations: 8, bits_weights: 8}}\n"
        "policies: [{quantizer: {instance_name: q}, epochs: [0]}]\n"
    )
    net = NetConfig(DataConfig(batch_size=8), training=TrainingConfig(mixed_precision=True))
    config = RunConfig(
        RunOptions(learner="scheduled", quiet=True),
        net,
        schedule=ScheduleConfig(str(schedule)),
        export=ExportConfig(formats="none"),
    )
    with pytest.raises(InputError, match="--enbl_amp must be left out with a schedule that has quantizers"):
        ScheduledLearner(config, SmallHelper(net), RunDir(tmp_path / "run")).check()
