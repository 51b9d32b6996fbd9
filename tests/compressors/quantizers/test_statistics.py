"""Statistics of activations: measured, written and read."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from compressors.quantizers.statistics import (
    LayerStatistics,
    Statistics,
    collect,
    read_statistics,
    statistics_of,
    write_statistics,
)
from utils.errors import InputError

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(1.0, 2.0, (5, 4)).astype(np.float32), RNG.normal(-3.0, 1.0, (2, 4)).astype(np.float32)]


def expected(*batches):
    """Of the batches of one tensor, with NumPy in float64."""
    batches = [np.asarray(batch, np.float64).reshape(len(batch), -1) for batch in batches]
    values = np.concatenate(batches)
    if values.shape[1] == 1:
        lows = np.concatenate([np.full(len(batch), batch.min()) for batch in batches])
        highs = np.concatenate([np.full(len(batch), batch.max()) for batch in batches])
    else:
        lows, highs = values.min(1), values.max(1)
    mean = values.mean()
    distance = np.abs(values - mean).mean()
    return Statistics(values.min(), values.max(), lows.mean(), highs.mean(), mean, values.std(), distance)


def assert_equal(found, wanted):
    assert found._asdict() == pytest.approx(wanted._asdict(), rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def network():
    images = keras.Input((4,), name="images")
    dense = keras.layers.Dense(3, name="dense")
    shared = keras.layers.ReLU(name="shared")
    x = shared(dense(images))
    y = shared(keras.layers.Dense(3, name="other")(images))
    total = keras.layers.Add(name="add")([x, y])
    return keras.Model(images, keras.layers.Dense(1, name="score")(total))


@pytest.fixture(scope="module")
def found(network):
    return collect(network, lambda: [(batch, np.zeros(len(batch))) for batch in BATCHES])


def outputs_of(network, name):
    return [keras.Model(network.input, network.get_layer(name).output)(batch).numpy() for batch in BATCHES]


def test_statistics_are_numpys_over_batches_of_different_sizes(network, found):
    assert_equal(found["dense"].inputs[0], expected(*BATCHES))
    assert_equal(found["dense"].output, expected(*outputs_of(network, "dense")))


def test_every_input_is_measured(network, found):
    relu = [[np.maximum(batch, 0) for batch in outputs_of(network, name)] for name in ("dense", "other")]
    assert_equal(found["add"].inputs[0], expected(*relu[0]))
    assert_equal(found["add"].inputs[1], expected(*relu[1]))
    assert_equal(found["add"].output, expected(*map(np.add, *relu)))


def test_a_layer_that_is_used_twice_has_the_statistics_of_both_uses(network, found):
    inputs = outputs_of(network, "dense") + outputs_of(network, "other")
    assert_equal(found["shared"].inputs[0], expected(*inputs))
    assert_equal(found["shared"].output, expected(*[np.maximum(batch, 0) for batch in inputs]))


def test_where_a_sample_is_one_number_the_extremes_are_those_of_the_batch(network, found):
    assert_equal(found["score"].output, expected(*outputs_of(network, "score")))
    assert found["score"].output.avg_min < found["score"].output.avg_max


def test_layers_come_in_the_order_of_the_model(network, found):
    assert list(found) == ["dense", "other", "shared", "add", "score"]


def test_a_large_mean_does_not_spoil_the_deviation():
    images = keras.Input((64,))
    network = keras.Model(images, keras.layers.Activation("linear", name="same")(images))
    batches = [1e4 + RNG.normal(size=(50, 64)).astype(np.float32) for _ in range(3)]
    found = collect(network, lambda: batches)["same"].output
    assert found.std == pytest.approx(np.std(batches), rel=1e-2)
    assert found.b == pytest.approx(np.mean(np.abs(np.concatenate(batches) - np.mean(batches))), rel=1e-2)


def test_statistics_of_one_batch_are_the_same(network):
    x = tf.constant(BATCHES[0])
    assert_equal(Statistics(*map(float, tf.function(statistics_of)(x))), expected(BATCHES[0]))


def test_there_must_be_a_batch(network):
    with pytest.raises(InputError, match="at least one batch"):
        collect(network, list)


def test_a_written_file_is_read_back(found, tmp_path):
    write_statistics(found, tmp_path / "stats.yaml")
    assert read_statistics(tmp_path / "stats.yaml") == found


def test_the_file_has_the_published_format(found, tmp_path):
    write_statistics(found, tmp_path / "stats.yaml")
    content = yaml.safe_load((tmp_path / "stats.yaml").read_text())
    assert list(content["add"]) == ["inputs", "output"]
    assert list(content["add"]["inputs"]) == [0, 1]
    assert list(content["add"]["output"]) == ["min", "max", "avg_min", "avg_max", "mean", "std", "b"]


def test_a_published_file_is_read(tmp_path):
    file = tmp_path / "stats.yaml"
    file.write_text("""
        # made by another program
        module.layer1.0.conv1:
          inputs:
            0: {min: 0.0, max: 7.5, avg_min: 0, avg_max: 3.25, mean: 0.375, shape: "(256, 64, 56, 56)"}
          output: {min: -17.0, max: 1e1, avg_min: -1e-5, avg_max: 4.5, mean: -1.0, std: 2.0, b: 1.5, total_numel: 9}
    """)
    assert read_statistics(file) == {
        "layer1.0.conv1": LayerStatistics(
            {0: Statistics(0.0, 7.5, 0.0, 3.25, 0.375)}, Statistics(-17.0, 10.0, -1e-5, 4.5, -1.0, 2.0, 1.5)
        )
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "must map layer names to statistics"),
        ("a: [", "not YAML"),
        ("conv1: 3", "conv1: must have `inputs` and `output`. Received: 3"),
        ("conv1: {output: {max: 1}}", "conv1, output: must have min and max"),
        ("conv1: {output: {min: 1, max: 0}}", "min must not exceed max. Received: 1.0 and 0.0"),
        ("conv1: {output: {min: low, max: 0}}", "conv1, output: min must be a number. Received: 'low'"),
        (
            "conv1: {output: {min: .nan, max: 0}}",
            "conv1 > output > min: must be a finite number. Received: .nan",
        ),
        ("conv1: {inputs: {x: 1}, output: {min: 0, max: 1}}", "`inputs` must map 0, 1, ... to statistics"),
        ("conv1: {output: {min: 0, max: 1}, output: {min: 0, max: 1}}", "is given twice"),
        ("a: &a [1]\nb: &b [*a, *a]\nc: [" + ", ".join(["*b"] * 60_000) + "]", "at most 200,000 values"),
        ("[" * 60 + "]" * 60, "nested at most 50 deep"),
        ("!!python/object/apply:os.system [touch canary]", "must be plain"),
        ("conv1: {inputs: {1: 5}, output: {min: 0, max: 1}}", "conv1, input 1: must have min and max"),
    ],
)
def test_a_file_of_another_format_is_an_error_that_says_where(tmp_path, content, message):
    file = tmp_path / "stats.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as error:
        read_statistics(file)
    assert message in str(error.value)
    assert "stats.yaml" in str(error.value)


def test_a_missing_file_is_an_error():
    with pytest.raises(InputError, match=r"no/such\.yaml cannot be read: No such file"):
        read_statistics("no/such.yaml")


def test_extremes_can_be_moved_within_limits():
    moved = Statistics(-4.0, 9.0, None, 5.0, 1.0, 2.0).within(0.0, 6.0)
    assert [float(moved.min), float(moved.max), float(moved.avg_max)] == [0.0, 6.0, 5.0]
    assert moved[2] is None
    assert moved[4:] == (1.0, 2.0, None)
