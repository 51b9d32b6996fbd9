"""Linear quantization: parameters, rounding, the gradient."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from compressors.quantizers.linear import (
    fake_quantize,
    integer_range,
    linear_parameters,
    multiply_and_shift,
)

MODES = ["SYMMETRIC", "SYMMETRIC_RESTRICTED", "ASYMMETRIC_UNSIGNED", "ASYMMETRIC_SIGNED"]
numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
ranges = st.tuples(numbers, numbers).map(sorted).filter(lambda ends: ends[0] == ends[1] or ends[1] - ends[0] > 1e-3)


def round_trip(x, low, high, bits, mode):
    return fake_quantize(np.asarray(x, np.float32), *linear_parameters(low, high, bits, mode), bits, mode).numpy()


@pytest.mark.parametrize(
    ("mode", "ends"),
    [
        ("SYMMETRIC", (-8, 7)),
        ("SYMMETRIC_RESTRICTED", (-7, 7)),
        ("ASYMMETRIC_UNSIGNED", (0, 15)),
        ("ASYMMETRIC_SIGNED", (-8, 7)),
    ],
)
def test_the_integers_of_four_bits(mode, ends):
    assert integer_range(4, mode) == ends


@pytest.mark.parametrize("bits", [0, 1, 25, 32])
def test_a_number_of_bits_that_float32_cannot_stand_for_is_refused(bits):
    with pytest.raises(ValueError, match=f"between 2 and 24. Received: {bits}"):
        integer_range(bits, "SYMMETRIC")


@pytest.mark.parametrize(
    ("mode", "scale", "zero_point", "values"),
    [
        # The larger end is 3: 3 / 1.5 steps, of which the topmost, 4, is out of the integers' range.
        ("SYMMETRIC", 2.0, 0, [-4.0, -2.0, 0.0, 2.0]),
        ("SYMMETRIC_RESTRICTED", 3.0, 0, [-3.0, 0.0, 3.0]),
        # 4 / 3 a step; -1 lies .75 steps below zero, so there is one step on that side.
        ("ASYMMETRIC_UNSIGNED", 4 / 3, 1, [-4 / 3, 0.0, 4 / 3, 8 / 3]),
        ("ASYMMETRIC_SIGNED", 4 / 3, -1, [-4 / 3, 0.0, 4 / 3, 8 / 3]),
    ],
)
def test_two_bits_over_a_range_from_minus_one_to_three(mode, scale, zero_point, values):
    parameters = linear_parameters(-1.0, 3.0, 2, mode)
    assert [float(each) for each in parameters] == pytest.approx([scale, zero_point])
    every = np.linspace(-9, 9, 2001, dtype=np.float32)
    assert np.unique(fake_quantize(every, *parameters, 2, mode)) == pytest.approx(values)


def test_halves_are_rounded_to_the_even_integer():
    x = tf.constant([0.5, 1.5, 2.5, -0.5])
    assert list(fake_quantize(x, 1.0, 0.0, 8, "SYMMETRIC").numpy()) == [0, 2, 2, 0]


@pytest.mark.parametrize("mode", MODES)
@hypothesis.given(ends=ranges, bits=st.integers(2, 12), share=st.floats(0, 1))
def test_within_the_range_the_error_is_at_most_half_a_step(mode, ends, bits, share):
    low, high = ends
    x = np.float32(np.clip(low + share * (high - low), low, high))
    scale, _ = linear_parameters(low, high, bits, mode)
    assert abs(round_trip(x, low, high, bits, mode) - x) <= 0.5 * float(scale) * (1 + 1e-4) + 1e-6 * abs(x)


@pytest.mark.parametrize("mode", MODES)
@hypothesis.given(ends=ranges, bits=st.integers(2, 16))
def test_zero_stays_exactly_zero(mode, ends, bits):
    assert round_trip(0.0, *ends, bits, mode) == 0.0


@pytest.mark.parametrize("mode", MODES)
@hypothesis.given(ends=ranges, bits=st.integers(2, 6))
def test_there_are_at_most_as_many_values_as_integers_and_they_stay_as_they_are(mode, ends, bits):
    x = np.linspace(ends[0] - 1, ends[1] + 1, 999, dtype=np.float32)
    once = round_trip(x, *ends, bits, mode)
    smallest, largest = integer_range(bits, mode)
    assert len(np.unique(once)) <= largest - smallest + 1
    assert np.array_equal(round_trip(once, *ends, bits, mode), once)
    assert np.all(np.diff(once) >= 0)


@pytest.mark.parametrize("mode", MODES)
@hypothesis.given(ends=ranges, bits=st.integers(2, 8), x=numbers)
def test_values_are_those_of_distillers_convention(mode, ends, bits, x):
    # There q = clip(round(S x - Z)) stands for (q + Z) / S, with S the number of steps in 1.
    low, high = ends
    smallest, largest = integer_range(bits, mode)
    if mode.startswith("SYMMETRIC"):
        reach = max(abs(low), abs(high))
        steps, offset = (largest - smallest) / 2 / reach if reach else 1.0, 0.0
    else:
        low, high = min(low, 0.0), max(high, 0.0)
        steps = (2**bits - 1) / (high - low) if high > low else 1.0
        offset = np.round(steps * low) - smallest
    exact = steps * x - offset
    hypothesis.assume(abs(exact - np.floor(exact) - 0.5) > 1e-2)
    hypothesis.assume(abs(steps * low - np.floor(steps * low) - 0.5) > 1e-2)
    theirs = (np.clip(np.round(exact), smallest, largest) + offset) / steps
    assert round_trip(x, *ends, bits, mode) == pytest.approx(theirs, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_range_that_is_only_zero_gives_zeros(mode):
    scale, _ = linear_parameters(0.0, 0.0, 8, mode)
    assert float(scale) == 1.0
    assert np.all(round_trip([0.0, 0.2, -0.4], 0.0, 0.0, 8, mode) == 0.0)


def test_ranges_of_channels_are_quantized_each_on_its_own():
    low, high = np.float32([-1, -10]), np.float32([1, 10])
    scale, _ = linear_parameters(low, high, 8, "SYMMETRIC_RESTRICTED")
    assert scale.numpy() == pytest.approx([1 / 127, 10 / 127])
    assert round_trip([[1.0, 1.0], [0.5, 10.0]], low, high, 8, "SYMMETRIC_RESTRICTED") == pytest.approx(
        np.array([[1.0, 130 / 127], [64 / 127, 10.0]])
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_is_one_within_the_range_and_zero_outside(mode):
    x = tf.constant([-5.0, -1.0, -0.3, 0.0, 0.7, 2.0, 5.0])
    parameters = linear_parameters(-1.0, 2.0, 4, mode)
    with tf.GradientTape() as tape:
        tape.watch([x, *parameters])
        y = tf.reduce_sum(fake_quantize(x, *parameters, 4, mode))
    by_x, *by_parameters = tape.gradient(y, [x, *parameters])
    assert by_x.numpy() == pytest.approx([0, 1, 1, 1, 1, 1, 0])
    assert by_parameters == [None, None]


def test_a_multiplier_of_three_bits():
    # 7 / .3 = 23.3 lies between 2**4 and 2**5; .3 * 16 = 4.8.
    assert multiply_and_shift(0.3, 3) == 4 / 16


@hypothesis.given(factor=st.floats(1e-6, 1e6), bits=st.integers(2, 31))
def test_a_multiplier_is_an_integer_over_a_power_of_two_just_below_the_factor(factor, bits):
    approximation = float(multiply_and_shift(factor, bits))
    assert (1 - 2.0 ** (1 - bits)) * factor <= approximation <= factor
    mantissa, _ = np.frexp(approximation)
    assert mantissa * 2**bits == int(mantissa * 2**bits)


@pytest.mark.parametrize("mode", MODES)
def test_a_range_too_small_for_its_steps_gives_next_to_nothing(mode):
    assert abs(round_trip(1.0, 0.0, 2e-38, 3, mode)) < 1e-30
