import math
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.path_table import PathTable
from compressors.ratios import num_removed
from compressors.regression import collect_grams
from learners.evaluation import Evaluation
from learners.train_step import Steps, TrainStep
from learners.weight_sparsification import rollout_eval
from learners.weight_sparsification.ratio_search import Score
from learners.weight_sparsification.rollout_eval import (
    FineTuner,
    PathPruner,
    ProgressivePruner,
    RolloutEvaluator,
    SgdPruner,
)
from nets.layers import FusedBatchNormalization

SIZES = {"conv1/kernel": 3 * 3 * 3 * 4, "conv2/kernel": 3 * 3 * 4 * 6, "fc/kernel": 6 * 3}
RATIOS = {"conv1/kernel": 0.25, "conv2/kernel": 0.7, "fc/kernel": 0.5}
OTHER_RATIOS = {"conv1/kernel": 0.6, "conv2/kernel": 0.1, "fc/kernel": 0.5}


def _model(seed):
    """Every variable is random: no beta, gamma or bias has the value that it starts with."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = keras.layers.ReLU(name="relu1")(FusedBatchNormalization(name="bn1")(x))
    x = keras.layers.Conv2D(6, 3, name="conv2", use_bias=False)(x)
    x = keras.layers.ReLU(name="relu2")(FusedBatchNormalization(name="bn2")(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="fc")(x))
    _disturb(model, seed)
    return model


def _disturb(model, seed):
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(generator.uniform(0.2, 1.5, variable.shape).astype(np.float32) * generator.choice([-1, 1]))
        if "variance" in variable.path:
            variable.assign(np.abs(variable))


def _values(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def _assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def _assert_zeros(model, ratios):
    for kernel in prunable_kernels(model):
        assert np.sum(np.asarray(kernel) == 0) == num_removed(ratios[kernel.path], SIZES[kernel.path]), kernel.path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).standard_normal((32, 8, 8, 3)).astype(np.float32)


class Pruning(NamedTuple):
    dense: keras.Model
    model: keras.Model
    prune: PathPruner


@pytest.fixture(scope="module")
def pruning(images):
    dense, model = _model(1), _model(2)
    table = PathTable.build(prunable_kernels(dense), collect_grams(dense, [images]), densities=(1, 0.7, 0.4, 0.2))
    return Pruning(dense, model, PathPruner(model, dense, table, images))


def _loss(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _batches(start):
    """Batch t is a function of t alone."""

    def batch(step):
        images = tf.random.stateless_normal([8, 8, 8, 3], [4, 0] + tf.cast(step, tf.int32))
        return images, tf.cast(tf.math.floormod(tf.reduce_sum(tf.cast(images > 0, tf.int32), [1, 2, 3]), 3), tf.int32)

    return tf.data.Dataset.range(start, 1000).map(batch)


def _fine_tuner(model, batches=_batches, rate=0.05):
    return FineTuner(model, batches, _loss, rate, 1e-3)


# PathPruner.


def test_a_pruned_network_is_dense_but_for_its_kernels_and_statistics(pruning):
    pruning.prune(RATIOS)
    _assert_zeros(pruning.model, RATIOS)
    found, dense = _values(pruning.model), _values(pruning.dense)
    for path in ("conv1/bias", "bn1/gamma", "bn1/beta", "bn2/gamma", "bn2/beta", "fc/bias"):
        np.testing.assert_array_equal(found[path], dense[path])


def test_the_first_statistics_are_those_of_the_pruned_layer_s_outputs(pruning, images):
    pruning.prune(RATIOS)
    found = _values(pruning.model)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # [B, 6, 6, C, 3, 3]
    outputs = np.einsum("bxycij,ijco->bxyo", windows, found["conv1/kernel"].astype(float)) + found["conv1/bias"]
    np.testing.assert_allclose(found["bn1/moving_mean"], outputs.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["bn1/moving_variance"], outputs.var((0, 1, 2)), rtol=1e-4)


def test_all_that_happened_to_the_network_before_is_forgotten(pruning):
    pruning.prune(RATIOS)
    expected = _values(pruning.model)
    _disturb(pruning.model, 9)
    pruning.prune(OTHER_RATIOS)
    _disturb(pruning.model, 10)
    pruning.prune(RATIOS)
    _assert_same(_values(pruning.model), expected)


def test_a_fine_tuning_leaves_no_trace_in_the_next_roll_out(pruning):
    pruning.prune(RATIOS)
    expected = _values(pruning.model)
    _fine_tuner(pruning.model).run(5)
    trained = _values(pruning.model)
    for path in ("bn1/gamma", "bn1/beta", "fc/bias", "conv1/kernel", "bn1/moving_mean"):
        assert not np.array_equal(trained[path], expected[path])
    pruning.prune(RATIOS)
    _assert_same(_values(pruning.model), expected)


def test_ratio_0_is_the_dense_network(pruning):
    pruning.prune(dict.fromkeys(RATIOS, 0.0))
    found = _values(pruning.model)
    for path, value in _values(pruning.dense).items():
        if "moving" not in path:
            np.testing.assert_array_equal(found[path], value)


# SgdPruner.


def test_the_sgd_solver_prunes_the_smallest_weights_whatever_was_there_before(pruning, images):
    before = _values(pruning.dense)
    keras.utils.set_random_seed(0)
    prune = SgdPruner(pruning.model, pruning.dense, images, iterations=2, learning_rate=0.01)
    _disturb(pruning.model, 11)
    prune(RATIOS)
    _assert_zeros(pruning.model, RATIOS)
    found = _values(pruning.model)
    for path, ratio in RATIOS.items():
        dense = np.abs(before[path])
        assert dense[found[path] == 0].max() <= dense[found[path] != 0].min(), path
        assert 0 < np.sum(found[path] == 0) == num_removed(ratio, SIZES[path])
    for path in ("conv1/bias", "bn1/gamma", "bn1/beta", "fc/bias"):
        np.testing.assert_array_equal(found[path], before[path])
    _assert_same(_values(pruning.dense), before)


# FineTuner.


def test_fine_tuning_holds_the_zeros_and_lowers_the_loss(pruning):
    pruning.prune(RATIOS)
    before = _values(pruning.model)
    one_batch = _batches(0).take(1)
    evaluation = Evaluation(pruning.model, one_batch, _loss)
    loss = evaluation()["loss"]
    _fine_tuner(pruning.model, lambda start: one_batch.repeat(), rate=0.01).run(30)
    assert evaluation()["loss"] < loss
    found = _values(pruning.model)
    for path in RATIOS:
        np.testing.assert_array_equal(found[path] == 0, before[path] == 0)
        assert not np.array_equal(found[path], before[path])


def test_fine_tuning_warms_up_to_its_rate_and_falls_to_nothing(pruning, monkeypatch):
    given = []

    def run(self, iterator, rates):
        given.append(rates)
        return Steps(np.zeros(len(rates)), 0.0)

    monkeypatch.setattr(TrainStep, "run", run)
    _fine_tuner(pruning.model, rate=0.5).run(20)
    expected = [0.25, 0.5, *(0.25 * (1 + math.cos(math.pi * step / 18)) for step in range(18))]
    assert given[0] == pytest.approx(expected)


def test_fine_tuning_does_not_depend_on_what_was_fine_tuned_before(pruning):
    tuner = _fine_tuner(pruning.model)
    pruning.prune(OTHER_RATIOS)
    tuner.run(7)  # other zeros, other moments, other backups, another place in the data
    pruning.prune(RATIOS)
    tuner.run(4)
    after_another = _values(pruning.model)

    pruning.prune(RATIOS)
    _fine_tuner(pruning.model).run(4)
    _assert_same(after_another, _values(pruning.model))
    _assert_zeros(pruning.model, RATIOS)


def test_each_fine_tuning_draws_the_same_random_numbers():
    def dropout_network():
        inputs = keras.Input([8, 8, 3])
        x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
        x = keras.layers.Dropout(0.5, seed=7)(keras.layers.Flatten()(x))
        return keras.Model(inputs, keras.layers.Dense(3, name="fc")(x))

    model = dropout_network()
    tuner, start = _fine_tuner(model), _values(model)
    found = []
    for _ in range(2):
        for variable in model.trainable_variables:
            variable.assign(start[variable.path])
        tuner.run(3)
        found.append(_values(model))
    _assert_same(*found)
    states = [path for path in start if "seed_generator_state" in path]
    assert len(states) == 1
    np.testing.assert_array_equal(found[0][states[0]], start[states[0]])  # what is trained next begins as ever


# RolloutEvaluator.


class FakeNetwork:
    """Counts what is done to it; its accuracy is 0.1 for each fine-tuning step."""

    def __init__(self):
        self.done, self.steps = [], 0

    def prune(self, ratios):
        self.done.append(("prune", ratios))
        self.steps = 0

    def run(self, iterations):
        self.done.append(("fine-tune", iterations))
        self.steps += iterations

    def __call__(self):
        return {"accuracy": 0.1 * self.steps, "loss": 1.0}


def test_a_roll_out_is_measured_before_and_after_its_fine_tuning():
    network = FakeNetwork()
    evaluator = RolloutEvaluator(network, network.prune, network, network)
    assert evaluator.score(RATIOS) == Score(0.0)
    assert network.done == [("prune", RATIOS)]
    assert evaluator.score(RATIOS, 3) == (0.0, pytest.approx(0.3))
    assert network.done[1:] == [("prune", RATIOS), ("fine-tune", 3)]


@pytest.mark.parametrize(("loss", "likelihood"), [(np.log(4), 0.25), (0.0, 1.0), (np.inf, 0.0), (np.nan, 0.0)])
def test_the_likelihood_is_the_mean_probability_of_the_right_class_and_0_without_one(loss, likelihood):
    evaluator = RolloutEvaluator(None, None, lambda: {"accuracy": 0.6, "loss": loss}, None)
    assert evaluator.measure() == (0.6, pytest.approx(likelihood))


def test_the_final_accuracy_is_that_after_fine_tuning_if_there_was_any():
    assert Score(0.4).final == 0.4
    assert Score(0.4, 0.3).final == 0.3
    assert Score(0.4, 0.0).final == 0.0


@pytest.mark.parametrize(("losses", "kept"), [((1.0, 0.5), "progressive"), ((0.5, 1.0), "plain")])
def test_a_finalist_gets_the_likelier_weights_and_says_how_good_they_are(pruning, images, losses, kept):
    losses = iter(losses)  # of the plain network, then of the progressive one
    evaluator = RolloutEvaluator(pruning.model, pruning.prune, lambda: {"accuracy": 0.5, "loss": next(losses)})
    assert ProgressivePruner(evaluator, pruning.dense, images)(RATIOS) == (0.5, pytest.approx(np.exp(-0.5)))
    found = _values(pruning.model)
    pruning.prune(RATIOS)
    plain = _values(pruning.model)
    assert np.array_equal(found["conv2/kernel"], plain["conv2/kernel"]) == (kept == "plain")


# Memory.


@pytest.mark.parametrize("solver", ["progressive", "sgd"])
def test_with_little_memory_a_finalist_is_solved_with_fewer_images(pruning, monkeypatch, solver):
    used = []
    for name in ("resolve_progressively", "resolve_by_adam"):
        solve = getattr(rollout_eval, name)

        def spy(model, ratios, images, *args, solve=solve, **options):
            used.append((len(images), options["max_positions"]))
            return solve(model, ratios, images, *args, **options)

        monkeypatch.setattr(rollout_eval, name, spy)
    images = np.random.default_rng(0).standard_normal((70, 8, 8, 3)).astype(np.float32)
    for memory in (4.0, 1e-6):
        if solver == "sgd":
            SgdPruner(pruning.model, pruning.dense, images, 1, 0.01, memory)(RATIOS)
        else:
            evaluator = RolloutEvaluator(pruning.model, pruning.prune, lambda: {"accuracy": 0.5, "loss": 1.0})
            ProgressivePruner(evaluator, pruning.dense, images, memory=memory)(RATIOS)
        _assert_zeros(pruning.model, RATIOS)
    assert [count for count, _ in used] == [70, 64]
    assert used[0][1] == 256 > used[1][1]
