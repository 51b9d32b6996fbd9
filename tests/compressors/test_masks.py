import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from compressors.masks import MaskSet, optimizer_slots, topk_mask
from compressors.ratios import num_removed
from utils.errors import InputError


def kernel(values, name="fc/kernel"):
    """A variable with the path of a layer's kernel."""
    layer, _, variable = name.rpartition("/")
    with keras.name_scope(layer):
        return keras.Variable(np.asarray(values, np.float32), name=variable)


def optimizers():
    return {
        "momentum": keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
        "nesterov": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "adam": keras.optimizers.Adam(0.1),
        "adamw": keras.optimizers.AdamW(0.1, weight_decay=0.01),
        "scaled": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1), initial_scale=1.0),
    }


def compiled_step(mask_set, optimizer, variables, gradient):
    """One training step as a learner makes it, of constant gradients."""

    @tf.function
    def step():
        grads = [tf.fill(variable.shape, gradient) for variable in variables]
        optimizer.apply(mask_set.mask_gradients(grads, variables), variables)
        mask_set.apply()

    return step


# topk_mask


@pytest.mark.parametrize(
    ("scores", "ratio", "mask"),
    [
        ([3, 1, 2, 4], 0.5, [1, 0, 0, 1]),
        ([3, 1, 2, 4], 0.25, [1, 0, 1, 1]),
        ([3, 1, 2, 4], 0.74, [1, 0, 0, 1]),  # floor(2.96)
        ([3, 1, 2, 4], 0.0, [1, 1, 1, 1]),
        ([3, 1, 2, 4], 1.0, [0, 0, 0, 0]),
        ([1, 1, 1, 1], 0.5, [0, 0, 1, 1]),  # ties by flat index, lowest first
        ([2, 1, 2, 1, 2], 0.6, [0, 0, 1, 0, 1]),
        ([2, 1, 2, 1, 2], 0.2, [1, 0, 1, 1, 1]),
        ([0, 0, 0], 0.0, [1, 1, 1]),  # ratio 0 removes no zero either
        ([0, 0, 0], 1.0, [0, 0, 0]),
        ([0, 5, 0, 0], 0.5, [0, 1, 0, 1]),
        ([7], 0.0, [1]),
        ([7], 0.99, [1]),
        ([7], 1.0, [0]),
        ([np.inf, 1, np.inf, -np.inf], 0.75, [0, 0, 1, 0]),
    ],
)
def test_mask_by_hand(scores, ratio, mask):
    result = topk_mask(tf.constant(scores, tf.float32), ratio)
    assert result.dtype == tf.float32
    assert result.numpy().tolist() == mask


def test_ties_of_a_matrix_go_by_flat_index():
    assert topk_mask(tf.ones([2, 3]), 0.5).numpy().tolist() == [[0, 0, 0], [1, 1, 1]]


def test_29_percent_of_100_removes_29():
    assert np.count_nonzero(topk_mask(tf.range(100.0), 0.29) == 0) == 29


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 1))
def test_mask_is_that_of_a_stable_sort(scores, ratio):
    expected = np.ones(len(scores))
    expected[np.argsort(scores, kind="stable")[: num_removed(ratio, len(scores))]] = 0
    assert topk_mask(tf.constant(scores, tf.float32), ratio).numpy().tolist() == expected.tolist()


def test_scores_that_are_not_numbers_are_an_error():
    with pytest.raises(InputError, match="scores must be numbers. Received: NaN"):
        topk_mask(tf.constant([1.0, np.nan]), 0.5)


def test_a_ratio_out_of_range_is_an_error():
    with pytest.raises(InputError, match="Received: 1.1"):
        topk_mask(tf.constant([1.0]), 1.1)


# MaskSet.update


def test_update_zeroes_the_smallest_weights_and_keeps_the_others():
    weights = kernel([[3, -1], [-2, 4]])
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.5})
    assert weights.numpy().tolist() == [[3, 0], [0, 4]]
    assert mask_set.masks[0].numpy().tolist() == [[1, 0], [0, 1]]
    assert mask_set.backups[0].numpy().tolist() == [[3, -1], [-2, 4]]


def test_a_masked_weight_is_revived_with_its_last_value():
    weights = kernel([3, -1, -2, 4])
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.5})
    weights.assign([0.5, 0, 0, 5])  # training moves the weights that are left
    mask_set.update({"fc/kernel": 0.5})
    assert mask_set.backups[0].numpy().tolist() == [0.5, -1, -2, 5]
    assert weights.numpy().tolist() == [0, 0, -2, 5]


def test_ratio_zero_gives_all_weights_back_and_one_takes_all():
    weights = kernel([3, -1, -2, 0])
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 1.0})
    assert weights.numpy().tolist() == [0, 0, 0, 0]
    mask_set.update({"fc/kernel": 0.0})
    assert weights.numpy().tolist() == [3, -1, -2, 0]
    assert mask_set.masks[0].numpy().tolist() == [1, 1, 1, 1]


def test_each_kernel_has_its_own_ratio():
    kernels = [kernel([3, 1, 2, 4], "a/kernel"), kernel([[1], [2]], "b/kernel"), kernel([5], "c/kernel")]
    mask_set = MaskSet(kernels)
    mask_set.update({"c/kernel": 1.0, "a/kernel": 0.25, "b/kernel": 0.5})
    assert [variable.numpy().ravel().tolist() for variable in kernels] == [[3, 0, 2, 4], [0, 2], [0]]
    assert mask_set.ratios() == {"a/kernel": 0.25, "b/kernel": 0.5, "c/kernel": 1.0}
    assert mask_set.sparsity() == pytest.approx(3 / 7)


def test_weights_are_selected_by_the_given_score():
    weights = kernel([3, -1, -2, 4])
    MaskSet([weights]).update({"fc/kernel": 0.5}, score_fn=lambda values: values)
    assert weights.numpy().tolist() == [3, 0, 0, 4]
    MaskSet([weights]).update({"fc/kernel": 0.25}, score_fn=tf.negative)
    assert weights.numpy().tolist() == [3, 0, 0, 0]


def test_update_is_traced_once_whatever_the_ratios():
    kernels = [kernel([3, 1, 2, 4], "a/kernel"), kernel([[1], [2]], "b/kernel")]
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(kernels)
    mask_set = MaskSet(kernels)
    for ratio in (0.1, 0.5, 1.0, 0.0):
        mask_set.update({"a/kernel": ratio, "b/kernel": 1 - ratio}, optimizer=optimizer)
    assert mask_set.trace_count == 1


def test_update_sees_the_slots_of_an_optimizer_built_after_the_first_update():
    weights = kernel([3, 1, 2, 4])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.25}, optimizer=optimizer)
    optimizer.build([weights])
    optimizer.momentums[0].assign([1, 1, 1, 1])
    mask_set.update({"fc/kernel": 0.5}, optimizer=optimizer)
    assert optimizer.momentums[0].numpy()[2] == 0


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ({"a/kernel": 0.5}, "b/kernel"),
        ({"a/kernel": 0.5, "b/kernel": 0.5, "c/kernel": 0.5}, "c/kernel"),
        ({"a/kernel": 0.5, "b/kernel": 1.5}, "1.5"),
    ],
)
def test_wrong_ratios_are_an_error(ratios, message):
    mask_set = MaskSet([kernel([1, 2], "a/kernel"), kernel([1, 2], "b/kernel")])
    with pytest.raises(InputError, match=message):
        mask_set.update(ratios)


def test_nan_weights_are_an_error_that_names_the_kernel_and_change_nothing():
    kernels = [kernel([1, 2], "a/kernel"), kernel([1, np.nan], "b/kernel")]
    mask_set = MaskSet(kernels)
    with pytest.raises(InputError, match="Received: NaN in b/kernel"):
        mask_set.update({"a/kernel": 0.5, "b/kernel": 0.5})
    assert kernels[0].numpy().tolist() == [1, 2]
    assert mask_set.sparsity() == 0


def test_kernels_of_one_path_are_an_error():
    with pytest.raises(InputError, match="distinct paths"):
        MaskSet([kernel([1]), kernel([2])])


# Training


@pytest.mark.parametrize("name", optimizers())
def test_masked_weights_stay_exactly_zero_and_the_others_train(name):
    weights, bias = kernel([30, -1, -2, 40]), kernel([1, 1], "fc/bias")
    optimizer, mask_set = optimizers()[name], MaskSet([weights])
    optimizer.build([weights, bias])
    step = compiled_step(mask_set, optimizer, [weights, bias], 1.0)
    for _ in range(3):  # fills the momenta of every weight
        step()
    mask_set.update({"fc/kernel": 0.5}, optimizer=optimizer)
    before = weights.numpy()
    for _ in range(5):
        step()
        assert np.all(weights.numpy()[[1, 2]] == 0)
    assert np.all(weights.numpy()[[0, 3]] < before[[0, 3]])
    assert np.all(bias.numpy() < 0.5)
    assert step.experimental_get_tracing_count() == 1


def test_the_step_is_not_traced_again_when_masks_change():
    weights = kernel([3, -1, -2, 4])
    optimizer, mask_set = keras.optimizers.SGD(0.1, momentum=0.9), MaskSet([weights])
    optimizer.build([weights])
    step = compiled_step(mask_set, optimizer, [weights], 0.1)
    for ratio, zeros in ((0.25, 1), (0.75, 3), (0.5, 2)):
        mask_set.update({"fc/kernel": ratio}, optimizer=optimizer)
        step()
        assert np.count_nonzero(weights.numpy() == 0) == zeros
    assert step.experimental_get_tracing_count() == 1


def test_apply_undoes_what_weight_decay_and_momentum_leak_into_masked_weights():
    weights = kernel([3, -1, -2, 4])
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.5})
    weights.assign_add([1, 1, 1, 1])
    mask_set.apply()
    assert weights.numpy().tolist() == [4, 0, 0, 5]


def test_gradients_of_masked_weights_only_are_masked():
    weights, bias = kernel([3, -1]), kernel([1], "fc/bias")
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.5})
    grads = mask_set.mask_gradients([tf.constant([5.0]), None, tf.constant([6.0, 7.0])], [bias, bias, weights])
    assert grads[1] is None
    assert [grads[0].numpy().tolist(), grads[2].numpy().tolist()] == [[5], [6, 0]]


def test_the_slots_of_newly_masked_weights_are_zeroed_and_no_others():
    weights = kernel([3, -1, -2, 4])
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([weights])
    slots = [variable for variable in optimizer.variables if variable.shape == weights.shape]
    assert len(slots) == 2
    mask_set = MaskSet([weights])
    mask_set.update({"fc/kernel": 0.25}, optimizer=optimizer)
    for slot in slots:
        slot.assign([1, 2, 3, 4])  # 2 belongs to a weight that was masked before: its gradient is masked already
    mask_set.update({"fc/kernel": 0.5}, optimizer=optimizer)
    assert [slot.numpy().tolist() for slot in slots] == [[1, 2, 0, 4]] * 2


def test_slots_are_those_of_the_kernel_itself_where_names_begin_alike():
    kernels = [
        kernel(np.ones((2, 2)), "conv1/kernel"),
        kernel(np.ones((2, 2)), "layer1.0.conv1/kernel"),
        kernel(np.ones((2, 2)), "conv1_kernel_extra/kernel"),
        kernel(np.ones((2, 2)), "conv10/kernel"),
    ]
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([kernel([1, 2], "conv1/bias"), *kernels])
    slots = optimizer_slots(optimizer, kernels)
    for momentum, own in zip(optimizer.momentums[1:], slots, strict=True):
        assert len(own) == 1
        assert own[0] is momentum.value


def test_slots_of_a_real_model_are_found():
    inputs = keras.Input((8, 8, 3))
    hidden = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    hidden = keras.layers.Conv2D(4, 3, name="layer1.0.conv1", use_bias=False)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(10, name="fc")(keras.layers.Flatten()(hidden)))
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    slots = optimizer_slots(optimizer, kernels)
    assert [[tuple(slot.shape) for slot in own] for own in slots] == [[tuple(k.shape)] * 2 for k in kernels]
    assert MaskSet(kernels).layers[1].path == "layer1.0.conv1/kernel"


# Fixed masks


def test_adopted_kernels_are_masked_where_they_are_zero_and_forget_what_they_were():
    weights = kernel([1.0, 2.0, 3.0, 4.0])
    masks = MaskSet([weights])
    masks.update({weights.path: 0.5})
    weights.assign([5.0, 0.0, 0.0, 6.0])  # another network's weights
    masks.adopt_kernels()
    np.testing.assert_array_equal(masks.masks[0], [1, 0, 0, 1])
    masks.apply()
    np.testing.assert_array_equal(weights, [5, 0, 0, 6])
    masks.update({weights.path: 0.0})
    np.testing.assert_array_equal(weights, [5, 0, 0, 6])


def test_a_restored_set_goes_on_as_the_first_would():
    first, second = kernel([3, -1, -2, 4]), kernel([9, 9, 9, 9])
    one, other = MaskSet([first]), MaskSet([second])
    one.update({"fc/kernel": 0.5})
    second.assign(first.value)
    other.restore(one.state())
    for mask_set, weights in ((one, first), (other, second)):
        weights.assign([0.5, 0, 0, 4])
        mask_set.update({"fc/kernel": 0.5})
    assert second.numpy().tolist() == first.numpy().tolist() == [0, 0, -2, 4]
    assert other.state().keys() == {"fc/kernel/mask", "fc/kernel/backup"}


def test_state_is_a_copy():
    mask_set = MaskSet([kernel([3, -1])])
    state = mask_set.state()
    mask_set.update({"fc/kernel": 0.5})
    assert state["fc/kernel/mask"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([("a/kernel", (2, 2)), ("c/kernel", (3,))], r"^b/kernel/mask must be \(3,\). Received: no such variable"),
        ([("a/kernel", (2, 1)), ("b/kernel", (3,))], r"^a/kernel/mask must be \(2, 2\). Received: \(2, 1\)"),
        ([("a/kernel", (2, 2)), ("b/kernel", (3,)), ("c/kernel", (1,))], "^c/kernel/mask must be no such variable"),
    ],
)
def test_the_state_of_another_network_is_an_error_that_names_the_first_difference(other, message):
    mask_set = MaskSet([kernel(np.ones((2, 2)), "a/kernel"), kernel(np.ones(3), "b/kernel")])
    with pytest.raises(InputError, match=message):
        mask_set.restore(MaskSet([kernel(np.ones(shape), path) for path, shape in other]).state())
