import numpy as np
import pydantic
import pytest
import tensorflow as tf

from compressors.components import Target
from compressors.parameters import CONV, DENSE, Parameter
from compressors.regularizers.group_lasso import GroupLassoRegularizer, Regime
from utils.errors import InputError

# The weights of all groups of a type, as index expressions written out by hand from the published definitions.
CONV_GROUPS = {
    "2D": [(slice(None), slice(None), i, o) for i in range(3) for o in range(5)],
    "Channels": [(slice(None), slice(None), i, slice(None)) for i in range(3)],
    "Filters": [(slice(None), slice(None), slice(None), o) for o in range(5)],
    "3D": [(slice(None), slice(None), slice(None), o) for o in range(5)],
    "4D": [...],
}
DENSE_GROUPS = {"Rows": [(slice(None), o) for o in range(5)], "Cols": [(i, slice(None)) for i in range(4)]}
ALL_GROUPS = CONV_GROUPS | DENSE_GROUPS
COMPOSITE = {"Rows+Cols": ("Rows", "Cols"), "Channels+4D": ("Channels", "4D")}


def kernel_for(group, seed=0):
    shape = (4, 5) if group in ("Rows", "Cols", "Rows+Cols") else (2, 2, 3, 5)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def target_of(weights, strength, groups):
    kind = DENSE if weights.ndim == 2 else CONV
    return Target(Parameter("layer/kernel", weights.shape, kind, "layer", True), Regime(strength, groups))


def lasso(group="2D", **arguments):
    return GroupLassoRegularizer(reg_regims={"*": [0.1, group]}, **arguments)


def loss_and_gradient(weights, groups, strength=0.1):
    variable, strength_variable = tf.Variable(weights), tf.Variable(strength, dtype=tf.float32)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            loss = lasso().loss(target_of(weights, strength, groups), variable, strength_variable)
        return loss, tape.gradient(loss, variable)

    return [tensor.numpy() for tensor in both()]


def loss_and_gradient_in_numpy(weights, groups, strength=0.1):
    loss, gradient = 0.0, np.zeros(weights.shape)
    for index in [index for group in groups for index in ALL_GROUPS[group]]:
        norm = np.sqrt(np.sum(np.square(weights[index], dtype=np.float64)))
        loss += strength * norm
        if norm > 0:
            gradient[index] += strength * weights[index] / norm
    return loss, gradient


@pytest.mark.parametrize("groups", [(group,) for group in ALL_GROUPS] + list(COMPOSITE.values()))
def test_loss_and_gradient_are_those_of_the_sum_of_group_norms(groups):
    weights = kernel_for(groups[0])
    expected_loss, expected_gradient = loss_and_gradient_in_numpy(weights, groups)
    loss, gradient = loss_and_gradient(weights, groups)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("groups", [("2D",), ("Rows",), ("Channels", "4D")])
def test_the_gradient_at_groups_of_zeros_is_0(groups):
    loss, gradient = loss_and_gradient(np.zeros_like(kernel_for(groups[0])), groups)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    some_zero = kernel_for(groups[0])
    some_zero[..., 1:, :] = 0
    np.testing.assert_allclose(
        loss_and_gradient(some_zero, groups)[1], loss_and_gradient_in_numpy(some_zero, groups)[1], rtol=1e-4, atol=1e-7
    )


def test_a_change_of_the_strength_traces_nothing_anew():
    weights, strength = tf.constant(kernel_for("2D")), tf.Variable(0.1)
    loss = tf.function(lambda: lasso().loss(target_of(kernel_for("2D"), 0.1, ("2D",)), weights, strength))
    first = loss().numpy()
    strength.assign(0.2)
    assert loss().numpy() == pytest.approx(2 * first)
    assert loss.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(("criterion", "magnitude"), [("Mean_Abs", np.mean), ("Max", np.max)])
@pytest.mark.parametrize("group", ALL_GROUPS)
def test_groups_whose_magnitude_is_at_most_the_strength_are_zeroed(group, criterion, magnitude):
    weights = kernel_for(group)
    magnitudes = [magnitude(np.abs(weights[index])) for index in ALL_GROUPS[group]]
    threshold = np.sort(magnitudes)[len(magnitudes) // 2] * np.float32(1.0001)
    expected = np.zeros(weights.shape)
    for index, value in zip(ALL_GROUPS[group], magnitudes, strict=True):
        expected[index] = value > threshold
    regularizer, target = lasso(threshold_criteria=criterion), target_of(weights, 0.1, (group,))
    mask = tf.function(regularizer.mask)(target, tf.constant(weights), tf.constant(threshold))
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("criterion", "strength"), [("Mean_Abs", 2.0), ("Max", 3.0)])
def test_a_magnitude_equal_to_the_strength_is_zeroed(criterion, strength):
    weights = np.array([[1.0, 1.0], [-3.0, 3.5]], np.float32)
    mask = lasso(threshold_criteria=criterion).mask(
        target_of(weights, strength, ("Rows",)), tf.constant(weights), tf.constant(strength)
    )
    np.testing.assert_array_equal(mask, [[0, 1], [0, 1]])


def test_of_two_group_types_the_groups_of_either_are_zeroed():
    weights = np.array([[3.0, 0.1, 3.0], [0.1, 0.1, 0.1], [3.0, 0.1, 3.0]], np.float32)
    target = target_of(weights, 0.5, ("Rows", "Cols"))
    mask = lasso(threshold_criteria="Max").mask(target, tf.constant(weights), tf.constant(0.5))
    np.testing.assert_array_equal(mask, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


def settings(regimes, parameters):
    regularizer = GroupLassoRegularizer(reg_regims=regimes)
    return {target.path: target.setting for target in regularizer.targets(parameters)}


@pytest.mark.parametrize(
    ("group", "parts"), [("Rows+Cols", ("Rows", "Cols")), ("Cols+Rows", ("Cols", "Rows")), ("Rows", ("Rows",))]
)
def test_a_group_of_two_types_is_both(group, parts, parameters):
    assert settings({"module.fc.weight": [0.1, group]}, parameters) == {"fc/kernel": Regime(0.1, parts)}


def test_the_star_is_every_prunable_kernel_that_has_such_groups(parameters):
    assert settings({"*": [0.1, "2D"], "conv1.weight": [0.2, "Channels+4D"]}, parameters) == {
        "conv1/kernel": Regime(0.2, ("Channels", "4D")),
        "conv2/kernel": Regime(0.1, ("2D",)),
    }
    assert settings({"*": [0.1, "Rows"]}, parameters) == {"fc/kernel": Regime(0.1, ("Rows",))}


def test_a_named_parameter_without_such_groups_is_told(parameters):
    with pytest.raises(InputError, match="conv1/kernel.*Received: 'Rows'"):
        settings({"conv1/kernel": [0.1, "Rows"]}, parameters)
    with pytest.raises(InputError, match="conv1/bias.*Received: '4D'"):
        settings({"conv1/bias": [0.1, "4D"]}, parameters)


def test_a_star_that_suits_no_kernel_is_told(parameters):
    with pytest.raises(InputError, match="Received: 'Rows'"):
        settings({"fc/kernel": [0.1, "Cols"], "*": [0.1, "Rows"]}, parameters)


def test_the_strength_is_the_regimes(parameters):
    regularizer = lasso("Rows")
    assert [regularizer.strength(target) for target in regularizer.targets(parameters)] == [0.1]


@pytest.mark.parametrize("regime", [0.1, [0.1], [-0.1, "2D"], [0.1, "2d"], [0.1, "2D+3D"], [True, "2D"], None])
def test_a_regime_is_a_strength_of_at_least_0_and_a_group(regime):
    with pytest.raises(pydantic.ValidationError, match="reg_regims") as caught:
        GroupLassoRegularizer(reg_regims={"fc.weight": regime})
    is_pair = isinstance(regime, list) and len(regime) == 2
    assert ("must be [strength, group]" in str(caught.value)) == (not is_pair)


def test_other_wrong_arguments_are_errors():
    with pytest.raises(pydantic.ValidationError, match="threshold_criteria"):
        lasso(threshold_criteria="L2")
    with pytest.raises(pydantic.ValidationError, match="strength\n"):
        lasso(strength=0.1)
