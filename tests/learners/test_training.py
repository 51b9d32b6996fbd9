import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.masks import MaskSet
from compressors.policies import DynamicPruning, Policy
from compressors.schedules import PolynomialSchedule
from learners import training
from learners.evaluation import Evaluation
from learners.train_step import TrainStep
from learners.training import Monitor, train
from learners.variables import named_arrays, restore_variables
from nets.layers import FusedBatchNormalization
from utils.checkpoints import read_checkpoint
from utils.errors import InputError, RunError
from utils.interruption import Terminated, heeded


def _loss(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1", use_bias=False)(inputs)
    x = FusedBatchNormalization(name="bn1")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="fc")(x))


def _batches(start, batch_size=8):
    """Batch t is a function of t alone."""

    def batch(step):
        images = tf.random.stateless_normal([batch_size, 6, 6, 3], [1, 0] + tf.cast(step, tf.int32))
        labels = tf.cast(tf.math.floormod(tf.reduce_sum(tf.cast(images > 0, tf.int32), [1, 2, 3]), 3), tf.int32)
        return images, labels

    return tf.data.Dataset.range(start, 10**6).map(batch)


def _kernels(model):
    return [model.get_layer("conv1").kernel, model.get_layer("fc").kernel]


def _pruning(model, optimizer, total=20):
    masks = MaskSet(_kernels(model))
    ratios = {kernel.path: 0.5 for kernel in masks.kernels}
    return DynamicPruning(masks, PolynomialSchedule(2, 12, 3), ratios, optimizer, total)


def _train(model, checkpoint, *, total=20, monitor=None, policy=None, optimizer=None, rate=0.1):
    optimizer = optimizer or keras.optimizers.SGD(0.0, momentum=0.9)
    policy = policy or _pruning(model, optimizer, total)
    step = TrainStep(model, optimizer, _loss, policy, weight_decay=1e-2)
    rates = np.linspace(rate, rate / 2, total)
    monitor = monitor or Monitor(4, 5, quiet=True)
    result = train(step, policy, _batches, rates, checkpoint, monitor, title="t", steps_per_epoch=7)
    return result, step, policy


def test_momentum_and_weight_decay_follow_the_formula():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="fc")(inputs))
    model.layers[1].kernel.assign([[1.0], [-2.0]])
    data = tf.data.Dataset.from_tensors((tf.constant([[3.0, 1.0]]), tf.constant([0]))).repeat()
    step = TrainStep(model, keras.optimizers.SGD(0.0, momentum=0.5), lambda y, z: tf.reduce_sum(z), Policy(), 0.1)
    losses, *_ = step.run(iter(data), np.array([0.1, 0.2]))
    # gradient = [3, 1] + 0.1 w; velocity = 0.5 velocity - rate * gradient; w += velocity
    w, velocity, expected = np.array([1.0, -2.0]), np.zeros(2), []
    for rate in (0.1, 0.2):
        expected.append(3 * w[0] + w[1])
        velocity = 0.5 * velocity - rate * (np.array([3.0, 1.0]) + 0.1 * w)
        w = w + velocity
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(model.layers[1].kernel), w, rtol=1e-6)


def test_batch_norm_is_not_decayed():
    model = _model()
    step = TrainStep(model, keras.optimizers.SGD(0.0), lambda y, z: 0.0 * tf.reduce_sum(z), Policy(), 0.5)
    before = named_arrays(model.trainable_variables)
    step.run(iter(_batches(0)), np.array([0.1]))
    after = named_arrays(model.trainable_variables)
    for path in ("bn1/gamma", "bn1/beta"):
        np.testing.assert_array_equal(after[path], before[path])
    for path in ("conv1/kernel", "fc/kernel"):
        np.testing.assert_allclose(after[path], 0.95 * before[path], rtol=1e-6)


def test_nothing_is_traced_twice_when_chunks_rates_and_masks_change(tmp_path):
    result, step, policy = _train(_model(), tmp_path / "c.npz")
    assert step.trace_count == 1
    assert policy.masks.trace_count == 1
    assert result.iterations == 20


def test_masked_weights_are_exactly_zero_and_the_target_is_reached(tmp_path):
    model = _model()
    _, _, policy = _train(model, tmp_path / "c.npz")
    assert policy.sparsity() == pytest.approx(0.5, abs=1e-12)
    for kernel in _kernels(model):
        assert np.count_nonzero(kernel) == kernel.value.shape.num_elements() - int(
            0.5 * kernel.value.shape.num_elements()
        )


def test_history_rows_fall_on_the_summary_interval_and_the_end(tmp_path):
    rows = []
    result, _, _ = _train(_model(), tmp_path / "c.npz", monitor=Monitor(8, 100, on_row=rows.append, quiet=True))
    assert [row["step"] for row in result.history] == [8, 16, 20]
    assert rows == result.history
    assert [row["sparsity"] for row in rows] == sorted(row["sparsity"] for row in rows)


class _PullThePlug(Exception):
    pass


@pytest.mark.parametrize("row_to_die_at", [0, 1, 2, 3])
def test_a_killed_training_ends_bit_for_bit_like_one_that_was_not(tmp_path, row_to_die_at):
    whole_model = _model()
    whole, _, whole_policy = _train(whole_model, tmp_path / "whole.npz")

    seen = []

    def die(row):
        if len(seen) == row_to_die_at:
            raise _PullThePlug
        seen.append(row)

    with pytest.raises(_PullThePlug):
        _train(_model(), tmp_path / "killed.npz", monitor=Monitor(4, 5, on_row=die, quiet=True))
    was_saved = row_to_die_at > 0  # then a resume must not depend on the fresh weights
    model = _model(seed=int(was_saved))
    resumed, _, policy = _train(model, tmp_path / "killed.npz")
    assert resumed.history == whole.history
    for name, array in (named_arrays(whole_model.variables) | whole_policy.state()).items():
        found = (named_arrays(model.variables) | policy.state())[name]
        np.testing.assert_array_equal(found, array, err_msg=name)


def _interrupt_at(step, monitor):
    """The monitor of a training that is interrupted as it tells of this step."""

    def on_row(row):
        if row["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return monitor._replace(on_row=on_row)


def test_an_interrupted_training_saves_where_it_is_and_ends_like_one_that_was_not(tmp_path):
    whole_model, path = _model(), tmp_path / "interrupted.npz"
    whole, _, _ = _train(whole_model, tmp_path / "whole.npz")
    with pytest.raises(Terminated), heeded(None):
        _train(_model(), path, monitor=_interrupt_at(8, Monitor(4, 100, quiet=True)))
    assert read_checkpoint(path).meta["step"] == 8
    model = _model(seed=1)
    resumed, _, _ = _train(model, path)
    assert resumed.history == whole.history
    for name, array in named_arrays(whole_model.variables).items():
        np.testing.assert_array_equal(named_arrays(model.variables)[name], array, err_msg=name)


def test_the_first_call_is_interrupted_at_once_for_there_is_nothing_to_save(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Terminated), heeded(None):
        _train(_model(), path, monitor=_interrupt_at(2, Monitor(2, 100, quiet=True)))
    assert not path.exists()


def _recorded(monkeypatch):
    """The losses of each call of the compiled loop."""
    calls, run = [], TrainStep.run

    def recorded(self, iterator, rates, first_step=0):
        done = run(self, iterator, rates, first_step)
        calls.append(done.losses.tolist())
        return done

    monkeypatch.setattr(TrainStep, "run", recorded)
    return calls


def test_slow_steps_are_taken_few_at_a_time_which_changes_no_bit(tmp_path, monkeypatch):
    whole_model, model = _model(), _model()
    whole, _, _ = _train(whole_model, tmp_path / "whole.npz", monitor=Monitor(20, 20, quiet=True), policy=Policy())
    monkeypatch.setattr(training, "SECONDS_IN_A_CALL", 0.0)
    calls = _recorded(monkeypatch)
    slow, _, _ = _train(model, tmp_path / "slow.npz", monitor=Monitor(20, 20, quiet=True), policy=Policy())
    assert [len(losses) for losses in calls] == [7, *[1] * 13]  # an epoch has 7 steps; how long one takes was not known
    assert slow.history == whole.history
    for one, other in zip(model.variables, whole_model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("monitor", [Monitor(20, 20, quiet=True), Monitor(3, 2, quiet=True)], ids=["few", "many"])
def test_policies_are_told_the_mean_loss_of_the_whole_epoch(tmp_path, monkeypatch, monitor):
    told, calls = [], _recorded(monkeypatch)

    class Listening(Policy):
        def on_epoch_end(self, epoch, logs):
            told.append((epoch, logs["loss"]))

    _train(_model(), tmp_path / "c.npz", monitor=monitor, policy=Listening())
    losses = np.concatenate(calls)
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    for (_, loss), first in zip(told, (0, 7, 14), strict=True):
        assert loss == pytest.approx(losses[first : first + 7].mean(), rel=1e-6)


@pytest.mark.parametrize(("before", "after", "resumed_at"), [(20, 10, 5), (10, 20, 10), (20, 7, 4)])
def test_with_other_workers_a_training_goes_on_at_the_same_share_of_its_steps(tmp_path, before, after, resumed_at):
    """As many epochs have fewer steps where more workers take part: killed half way, it has the other half to do."""
    path = tmp_path / "checkpoint.npz"

    def die(row):
        if row["step"] > before // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(_model(), path, total=before, monitor=Monitor(1, before // 2, die, quiet=True), policy=Policy())
    asked = []
    optimizer = keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(_model(1), optimizer, _loss, Policy())

    def batches(start):
        asked.append(start)
        return _batches(start)

    rates, monitor = np.full(after, 0.1), Monitor(1, 5, quiet=True)
    result = train(step, Policy(), batches, rates, path, monitor, title="t", steps_per_epoch=7)
    assert asked == [resumed_at]
    assert int(optimizer.iterations) == before // 2 + after - resumed_at
    steps = [row["step"] for row in result.history]
    assert steps == sorted(steps)
    assert steps[-1] == after


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _, _ = _train(_model(), tmp_path / "c.npz")
    again, step, _ = _train(_model(seed=1), tmp_path / "c.npz")
    assert step.trace_count == 0
    assert again.history == first.history


def test_a_loss_that_is_not_finite_names_step_rate_and_checkpoint(tmp_path):
    bad_step = 13

    def batches(start):
        def poison(step, batch):
            images, labels = batch
            return tf.where(step + start == bad_step, np.nan, 1.0) * images, labels

        return _batches(start).enumerate().map(poison)

    model, policy = _model(), Policy()
    step = TrainStep(model, keras.optimizers.SGD(0.0), _loss, policy)
    checkpoint = tmp_path / "c.npz"
    with pytest.raises(RunError, match=r"the loss is nan at step 13 with learning rate 0\.25; the last good .*c\.npz"):
        train(
            step,
            policy,
            batches,
            np.full(20, 0.25),
            checkpoint,
            Monitor(4, 5, quiet=True),
            title="t",
            steps_per_epoch=9,
        )
    found = read_checkpoint(checkpoint)
    assert found.meta["step"] == 10
    assert all(np.isfinite(array).all() for array in found.arrays.values())


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_evaluation_counts_the_last_odd_batch(batch_size, in_memory):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    logits = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    data = tf.data.Dataset.from_tensor_slices((logits, np.array([0, 1, 0, 0, 0], np.int32))).batch(batch_size)
    result = Evaluation(model, data, _loss, in_memory)()
    right, wrong = -np.log(np.e / (np.e + 1)), -np.log(1 / (np.e + 1))
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["loss"] == pytest.approx((3 * right + 2 * wrong) / 5, rel=1e-5)


def test_weights_of_another_network_name_the_first_differences_and_change_nothing():
    model = _model()
    before = named_arrays(model.variables)
    wrong = {**before, "fc/kernel": np.zeros((4, 5), np.float32), "extra/kernel": np.zeros(1)}
    del wrong["conv1/kernel"]
    with pytest.raises(InputError) as error:
        restore_variables(model.variables, wrong, "old.keras")
    for part in (
        "old.keras holds another network",
        "conv1/kernel: missing there",
        "(4, 5) there, (4, 3) here",
        "extra",
    ):
        assert part in str(error.value)
    for path, array in named_arrays(model.variables).items():
        np.testing.assert_array_equal(array, before[path])
