import numpy as np
import pydantic
import pytest
import tensorflow as tf

from compressors.components import Target
from compressors.parameters import CONV, Parameter
from compressors.regularizers.group_lasso import Regime
from compressors.regularizers.group_variance import GroupVarianceRegularizer
from utils.errors import InputError

REGULARIZER = GroupVarianceRegularizer(reg_regims={"*": [0.1, "Filters"]})


def loss_and_gradient(weights, group, strength=0.1):
    target = Target(Parameter("conv/kernel", weights.shape, CONV, "conv", True), Regime(strength, (group,)))
    variable = tf.Variable(weights, dtype=tf.float32)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            loss = REGULARIZER.loss(target, variable, tf.constant(strength))
        return loss, tape.gradient(loss, variable)

    return [tensor.numpy() for tensor in both()]


def test_the_loss_is_the_strength_over_the_variance_of_the_norms():
    weights = np.zeros((1, 1, 2, 2))
    weights[0, 0, :, 0], weights[0, 0, :, 1] = (3, 4), (6, 8)  # norms 5 and 10: variance 2 * 2.5**2 / 1
    loss, _ = loss_and_gradient(weights, "Filters", 0.1)
    assert loss == pytest.approx(0.1 / 12.5)


@pytest.mark.parametrize(("group", "inside"), [("Filters", (0, 1, 2)), ("3D", (0, 1, 2)), ("Channels", (0, 1, 3))])
def test_loss_and_gradient_are_those_of_numpy(group, inside):
    weights = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    norms = np.sqrt((weights**2).sum(inside, keepdims=True))
    variance = norms.var(ddof=1)
    # d(1 / var) = -1 / var**2 * 2 * (norm - mean) / (G - 1) * w / norm
    expected = -0.1 / variance**2 * 2 * (norms - norms.mean()) / (norms.size - 1) * weights / norms
    loss, gradient = loss_and_gradient(weights, group)
    assert loss == pytest.approx(0.1 / variance, rel=1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weights", [np.zeros((3, 3, 4, 5)), np.ones((3, 3, 4, 5))])
def test_equal_norms_give_a_finite_loss_and_no_gradient(weights):
    loss, gradient = loss_and_gradient(weights, "Filters", 0.1)
    assert loss == pytest.approx(0.1 / 1e-8)
    np.testing.assert_array_equal(gradient, np.zeros_like(weights))


def test_a_group_of_zeros_beside_others_has_no_gradient():
    weights = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    weights[..., 2] = 0
    _, gradient = loss_and_gradient(weights, "Filters")
    assert np.isfinite(gradient).all()
    assert not gradient[..., 2].any()


def test_the_star_is_every_prunable_kernel_with_two_such_groups(parameters):
    def paths(group):
        regularizer = GroupVarianceRegularizer(reg_regims={"*": [0.1, group]})
        return [target.path for target in regularizer.targets(parameters)]

    assert paths("Filters") == ["conv1/kernel", "conv2/kernel"]
    assert paths("Channels") == ["conv2/kernel"]  # conv1 has one input channel


def test_a_named_kernel_with_one_group_is_told(parameters):
    with pytest.raises(InputError, match=r"conv1/kernel must have at least two groups 'Channels'. Received: shape"):
        GroupVarianceRegularizer(reg_regims={"conv1.weight": [0.1, "Channels"]}).targets(parameters)


@pytest.mark.parametrize("regime", [0.1, [0.1, "2D"], [-0.1, "Channels"]])
def test_a_regime_is_a_strength_of_at_least_0_and_one_of_its_groups(regime):
    with pytest.raises(pydantic.ValidationError, match="reg_regims"):
        GroupVarianceRegularizer(reg_regims={"conv1.weight": regime})


def test_it_has_no_threshold():
    with pytest.raises(pydantic.ValidationError, match="threshold_criteria"):
        GroupVarianceRegularizer(reg_regims={"*": [0.1, "Channels"]}, threshold_criteria="Max")
    assert REGULARIZER.threshold_criteria is None
