"""The layers of a network that was quantized after training."""

import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers.linear import fake_quantize, linear_parameters
from compressors.quantizers.ranges import AccumulatorLimit, BatchRange, FixedRange

X = np.random.default_rng(0).normal(0.5, 1.0, (40, 25)).astype(np.float32)
MODES = ["SYMMETRIC", "SYMMETRIC_RESTRICTED", "ASYMMETRIC_UNSIGNED", "ASYMMETRIC_SIGNED"]


def quantized(x, low, high, bits, mode):
    return fake_quantize(x, *linear_parameters(low, high, bits, mode), bits, mode).numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 8, 16, 20])
def test_a_fixed_range_gives_the_values_of_linear_quantization(mode, bits):
    scale, zero_point = map(float, linear_parameters(-0.7, 1.9, bits, mode))
    x = X[np.abs(X / scale % 1 - 0.5) > 0.02]  # float32 may round values next to a half either way
    found = FixedRange(bits, mode, scale, zero_point)(x).numpy()
    assert found == pytest.approx(quantized(x, -0.7, 1.9, bits, mode), abs=1e-6)
    assert FixedRange(bits, mode, scale, zero_point)(tf.zeros(3)).numpy().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_quantized_for_its_own_range(mode):
    for x in (X, 10 * X):
        found = BatchRange(8, mode, "NONE", None, (-np.inf, np.inf))(x).numpy()
        assert found == pytest.approx(quantized(x, x.min(), x.max(), 8, mode), abs=1e-5)


def test_the_range_of_a_batch_stays_within_limits():
    found = BatchRange(8, "ASYMMETRIC_UNSIGNED", "NONE", None, (0.0, 1.5))(X).numpy()
    assert found == pytest.approx(quantized(X, 0.0, 1.5, 8, "ASYMMETRIC_UNSIGNED"), abs=1e-5)


def test_a_batch_is_clipped_at_the_mean_extremes_of_its_samples():
    found = BatchRange(8, "SYMMETRIC_RESTRICTED", "AVG", None, (-np.inf, np.inf))(X).numpy()
    reach = max(-X.min(1).mean(), X.max(1).mean())
    assert found.max() == pytest.approx(reach, rel=1e-5)


def test_an_accumulator_saturates():
    limit = AccumulatorLimit(4)
    limit.build((None, 2))
    limit.steps.assign([1.0, 0.5])
    # Its integers are -8 to 7.
    assert limit(np.float32([[-9, -9], [6, 6], [9, 3]])).numpy().tolist() == [[-8, -4], [6, 3.5], [7, 3]]
