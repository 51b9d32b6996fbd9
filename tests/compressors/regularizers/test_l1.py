import numpy as np
import pydantic
import pytest
import tensorflow as tf

from compressors.components import Target
from compressors.parameters import DENSE, Parameter
from compressors.regularizers.group_lasso import Regime
from compressors.regularizers.l1 import L1Regularizer
from utils.errors import InputError

WEIGHTS = np.array([[0.5, -2.0], [0.0, 0.25]], np.float32)


def target_of(regime):
    return Target(Parameter("fc/kernel", WEIGHTS.shape, DENSE, "fc", True), regime)


def loss_and_gradient(regularizer, target, weights, strength):
    variable, strength = tf.Variable(weights, dtype=tf.float32), tf.Variable(strength, dtype=tf.float32)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            loss = regularizer.loss(target, variable, strength)
        return loss, tape.gradient(loss, variable)

    return [tensor.numpy() for tensor in both()]


def test_the_loss_is_the_strength_times_the_sum_of_magnitudes():
    loss, gradient = loss_and_gradient(L1Regularizer(reg_regims={"*": 0.1}), target_of(Regime(0.1)), WEIGHTS, 0.1)
    assert loss == pytest.approx(0.1 * 2.75)
    np.testing.assert_allclose(gradient, [[0.1, -0.1], [0.0, 0.1]])


def test_a_group_regime_is_group_lasso_for_that_parameter_alone(parameters):
    regularizer = L1Regularizer(reg_regims={"conv1/kernel": 0.1, "fc/kernel": [0.2, "Rows"]})
    assert {target.path: target.setting for target in regularizer.targets(parameters)} == {
        "conv1/kernel": Regime(0.1),
        "fc/kernel": Regime(0.2, ("Rows",)),
    }
    target = target_of(Regime(0.2, ("Rows",)))
    loss, gradient = loss_and_gradient(regularizer, target, WEIGHTS, 0.2)
    norms = np.sqrt([0.25, 4.0625])  # a row is one output unit, [:, o]
    assert loss == pytest.approx(0.2 * norms.sum())
    np.testing.assert_allclose(gradient, 0.2 * WEIGHTS / norms, rtol=1e-6)


def test_with_a_criterion_weights_up_to_and_with_the_strength_are_zeroed():
    for criterion in ("Mean_Abs", "Max"):
        regularizer = L1Regularizer(reg_regims={"*": 0.5}, threshold_criteria=criterion)
        mask = tf.function(regularizer.mask)(target_of(Regime(0.5)), tf.constant(WEIGHTS), tf.constant(0.5))
        np.testing.assert_array_equal(mask, [[0, 1], [0, 0]])


def test_with_a_criterion_a_group_regime_zeroes_groups():
    regularizer = L1Regularizer(reg_regims={"*": 0.5}, threshold_criteria="Max")
    mask = regularizer.mask(target_of(Regime(0.5, ("Rows",))), tf.constant(WEIGHTS), tf.constant(0.5))
    np.testing.assert_array_equal(mask, [[0, 1], [0, 1]])


def test_the_star_is_every_prunable_kernel_that_is_not_named(parameters):
    regularizer = L1Regularizer(reg_regims={"*": 0.1, "module.fc.weight": 0.3, "conv1/bias": 0.2})
    strengths = {target.path: regularizer.strength(target) for target in regularizer.targets(parameters)}
    assert strengths == {
        "conv1/kernel": 0.1,
        "conv2/kernel": 0.1,
        "fc/kernel": 0.3,
        "conv1/bias": 0.2,
    }


def test_wrong_names_and_groups_are_told(parameters):
    with pytest.raises(InputError, match="conv9.weight"):
        L1Regularizer(reg_regims={"conv9.weight": 0.1}).targets(parameters)
    with pytest.raises(InputError, match="fc/kernel.*Received: '2D'"):
        L1Regularizer(reg_regims={"fc.weight": [0.1, "2D"]}).targets(parameters)


@pytest.mark.parametrize("regime", [-0.1, True, None, "strong", [0.1], [0.1, "Blocks"], [-0.1, "2D"], [0.1, "2D", 3]])
def test_a_regime_is_a_strength_of_at_least_0_or_one_with_a_group(regime):
    with pytest.raises(pydantic.ValidationError, match="reg_regims"):
        L1Regularizer(reg_regims={"fc.weight": regime})


def test_other_wrong_arguments_are_errors():
    with pytest.raises(pydantic.ValidationError, match="Mean_Abs"):
        L1Regularizer(reg_regims={"*": 0.1}, threshold_criteria="Mean")
    with pytest.raises(pydantic.ValidationError, match="at least 1 item"):
        L1Regularizer(reg_regims={})


def test_the_arguments_are_those_that_were_given():
    arguments = {"reg_regims": {"conv1/kernel": 0.1, "fc/kernel": [0.2, "Rows"]}, "threshold_criteria": "Max"}
    assert L1Regularizer(**arguments).arguments() == arguments
    assert L1Regularizer(reg_regims={"*": "1e-4"}).arguments() == {"reg_regims": {"*": 1e-4}}
