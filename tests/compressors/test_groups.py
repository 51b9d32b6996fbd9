import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from compressors.groups import check_group, group_values, num_groups, spread, threshold_mask
from compressors.parameters import CONV, DENSE, DEPTHWISE, OTHER, Parameter
from utils.errors import InputError

# An axis pattern for each group: "g" runs over the groups, "." inside of one.
PATTERNS = {
    "Filters": "...g",
    "3D": "...g",
    "Channels": "..g.",
    "2D": "..gg",
    "4D": "....",
    "Rows": ".g",
    "Cols": "g.",
}
NORMS = {
    "l1": lambda values: np.abs(values).sum(),
    "l2": lambda values: np.sqrt(np.square(values).sum()),
    "mean_abs": lambda values: np.abs(values).mean(),
    "max": lambda values: np.abs(values).max(),
    "sum": np.sum,
}


def parameter(kind, shape):
    return Parameter("conv/kernel", shape, kind, "conv", kind in (CONV, DENSE))


def shape_of(group):
    return (3, 2, 4, 5) if len(PATTERNS[group]) == 4 else (4, 5)


def selections(group, shape):
    """Index expressions of the groups, in the order of the groups."""
    lengths = [length if letter == "g" else 1 for length, letter in zip(shape, PATTERNS[group], strict=True)]
    for index in np.ndindex(*lengths):
        yield tuple(
            slice(at, at + 1) if letter == "g" else slice(None)
            for at, letter in zip(index, PATTERNS[group], strict=True)
        )


def block_selections(shape, block):
    starts = [range(0, length, part) for length, part in zip(shape, block, strict=True)]
    for index in np.ndindex(*map(len, starts)):
        yield tuple(slice(start[at], start[at] + part) for at, start, part in zip(index, starts, block, strict=True))


def random_kernel(shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("group", PATTERNS)
@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_those_of_numpy(group, norm):
    kernel = random_kernel(shape_of(group))
    expected = [NORMS[norm](kernel[selection]) for selection in selections(group, kernel.shape)]
    values = group_values(tf.constant(kernel), group, norm)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    assert num_groups(kernel.shape, group) == len(expected)


@pytest.mark.parametrize("group", PATTERNS)
def test_spread_gives_each_weight_the_value_of_its_group(group):
    shape = shape_of(group)
    expected = np.zeros(shape, np.float32)
    for index, selection in enumerate(selections(group, shape)):
        expected[selection] = index
    indices = tf.range(num_groups(shape, group), dtype=tf.float32)
    np.testing.assert_array_equal(spread(indices, shape, group), expected)


@pytest.mark.parametrize("block_shape", [(1, 2, 1, 1), (2, 1, 1, 1), (3, 4, 2, 1), (6, 4, 2, 3), (1, 1, 1, 1)])
def test_blocks_are_made_of_repetitions_depth_height_and_width(block_shape):
    repetitions, depth, height, width = block_shape
    kernel = random_kernel((2, 3, 4, 6))
    found = list(block_selections(kernel.shape, (height, width, depth, repetitions)))
    values = group_values(tf.constant(kernel), "Blocks", "l1", block_shape)
    np.testing.assert_allclose(values, [np.abs(kernel[block]).sum() for block in found], rtol=1e-5)
    assert num_groups(kernel.shape, "Blocks", block_shape) == len(found)
    owners = spread(tf.range(len(found)), kernel.shape, "Blocks", block_shape).numpy()
    assert all((owners[block] == index).all() for index, block in enumerate(found))


def test_groups_of_a_small_kernel_by_hand():
    kernel = tf.constant([[[[1.0, -2.0], [3.0, 4.0]]]])  # 1x1, two inputs, two outputs
    assert group_values(kernel, "Filters", "l1").numpy().tolist() == [4, 6]
    assert group_values(kernel, "Channels", "l1").numpy().tolist() == [3, 7]
    assert group_values(kernel, "2D", "max").numpy().tolist() == [1, 2, 3, 4]
    assert group_values(kernel, "4D", "mean_abs").numpy().tolist() == [2.5]
    dense = tf.constant([[3.0, 0.0], [4.0, 1.0]])  # two inputs, two outputs
    assert group_values(dense, "Rows", "l2").numpy().tolist() == [5, 1]
    assert group_values(dense, "Cols", "l1").numpy().tolist() == [3, 5]


@given(st.tuples(*[st.integers(1, 3)] * 4), st.sampled_from(["Filters", "Channels", "2D", "4D"]))
def test_spread_is_undone_by_the_maximum_whatever_the_shape(shape, group):
    values = tf.range(1.0, num_groups(shape, group) + 1)
    np.testing.assert_array_equal(group_values(spread(values, shape, group), group, "max"), values)


def test_the_gradient_of_l2_is_the_unit_vector_and_zero_at_a_group_of_zeros():
    kernel = tf.Variable([[3.0, 0.0], [4.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(group_values(kernel.value(), "Rows", "l2"))
    np.testing.assert_allclose(tape.gradient(loss, kernel), [[0.6, 0.0], [0.8, 0.0]], rtol=1e-6)


def test_norms_are_the_same_when_traced():
    kernel = tf.constant(random_kernel((3, 3, 2, 4)))
    traced = tf.function(lambda weights: group_values(weights, "2D", "l2"))
    np.testing.assert_allclose(traced(kernel), group_values(kernel, "2D", "l2"), rtol=1e-6)


def test_a_threshold_removes_the_groups_that_are_not_above_it():
    kernel = tf.constant([[1.0, 0.5, 2.0], [0.0, 0.5, 0.0]])  # mean |w| of the units: 0.5, 0.5, 1
    assert threshold_mask(kernel, "Rows", 0.5).numpy().tolist() == [[0, 0, 1], [0, 0, 1]]
    assert threshold_mask(kernel, "Rows", 0.5, "Max").numpy().tolist() == [[1, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("kind", "shape", "groups"),
    [
        (CONV, (3, 3, 2, 4), ["Rows", "Cols"]),
        (DEPTHWISE, (3, 3, 2, 1), ["Rows", "Cols", "Blocks"]),
        (DENSE, (4, 3), ["2D", "3D", "Filters", "Channels", "Blocks"]),
        (OTHER, (4,), ["2D", "3D", "4D", "Filters", "Channels", "Rows", "Cols", "Blocks"]),
    ],
)
def test_groups_that_a_parameter_does_not_have_are_errors(kind, shape, groups):
    for group in groups:
        with pytest.raises(InputError, match=rf"conv/kernel.*Received: '{group}'"):
            check_group(parameter(kind, shape), group)


@pytest.mark.parametrize("group", ["Filters", "3D", "Channels", "2D", "4D"])
def test_groups_that_a_convolution_has_keep_their_names(group):
    assert check_group(parameter(CONV, (3, 3, 2, 4)), group) == group


def test_a_depthwise_filter_is_one_spatial_kernel():
    shape = (3, 3, 4, 1)
    group = check_group(parameter(DEPTHWISE, shape), "Filters")
    assert num_groups(shape, group) == 4
    kernel = random_kernel(shape)
    np.testing.assert_allclose(group_values(tf.constant(kernel), group, "l1"), np.abs(kernel).sum((0, 1, 3)), rtol=1e-5)


@pytest.mark.parametrize("block_shape", [None, (3, 1, 1, 1), (1, 3, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (8, 1, 1, 1)])
def test_blocks_must_divide_the_kernel(block_shape):
    with pytest.raises(InputError, match="block_shape .* must divide .*conv/kernel"):
        check_group(parameter(CONV, (3, 3, 2, 4)), "Blocks", block_shape)


def test_blocks_that_divide_the_kernel_are_fine():
    assert check_group(parameter(CONV, (3, 3, 2, 4)), "Blocks", (2, 2, 3, 1)) == "Blocks"
