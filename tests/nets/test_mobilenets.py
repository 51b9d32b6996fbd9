"""MobileNet v1 in the form of TF-Slim, and v2."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import infer, prunable_kernels, run_graph
from export.keras_model import plain_model
from nets.blocks import divisible
from nets.mobilenet import build_mobilenet_v1
from nets.mobilenet_v2 import build_mobilenet_v2
from utils.errors import InputError

SMALL = (32, 32, 3)


@functools.cache
def _v1():
    return build_mobilenet_v1(3, SMALL, width=0.25)


@functools.cache
def _v2():
    return build_mobilenet_v2(3, SMALL, width=0.35)


def _images():
    return np.random.default_rng(0).normal(size=(4, *SMALL)).astype("float32")


@pytest.mark.parametrize(
    ("build", "width", "parameters"),
    [  # trainable ones of keras.applications
        (build_mobilenet_v1, 0.25, 470_072),
        (build_mobilenet_v2, 1.0, 3_504_872),
        (build_mobilenet_v2, 1.4, 6_108_776),
    ],
)
def test_there_are_as_many_parameters_as_published(build, width, parameters):
    variables = build(1000, SMALL, width=width).trainable_variables
    assert sum(int(np.prod(variable.shape)) for variable in variables) == parameters


def test_channels_are_multiples_of_eight_that_lose_a_tenth_at_most():
    assert [divisible(channels) for channels in (3, 8.4, 11.2, 16 * 1.3, 22.4, 33.6, 12, 11)] == [
        *(8, 8, 16, 24, 24, 32, 16, 16),
    ]


def test_version_2_has_the_blocks_of_the_papers_table():
    model = _v2()
    added = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert added == [f"features.{block}.conv.add" for block in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    halving = [layer.name for layer in model.layers if getattr(layer, "strides", None) == (2, 2)]
    assert halving == ["features.0.0", *(f"features.{block}.conv.1.0" for block in (2, 4, 7, 14))]
    assert model.get_layer("features.18.0").output.shape == (None, 1, 1, 1280)  # which does not shrink with the width
    narrow = [model.get_layer(f"features.{block}.conv.3") for block in range(2, 18)]
    assert not any(isinstance(layer._outbound_nodes[0].operation, keras.layers.ReLU) for layer in narrow)


@pytest.mark.parametrize("network", [_v1, _v2])
def test_rectifiers_stop_at_six(network):
    rectifiers = [layer for layer in network().layers if isinstance(layer, keras.layers.ReLU)]
    assert len(rectifiers) in (27, 35)
    assert {float(layer.max_value) for layer in rectifiers} == {6.0}


@pytest.mark.parametrize("network", [_v1, _v2])
def test_depthwise_kernels_stay_dense_pointwise_ones_and_the_classifier_do_not(network):
    model = network()
    kernels = prunable_kernels(model)
    depthwise = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    assert len(depthwise) in (13, 17)
    assert not {id(kernel) for kernel in depthwise} & {id(kernel) for kernel in kernels}
    pruned = [tuple(kernel.shape) for kernel in kernels]
    assert pruned[0][:3] == (3, 3, 3)
    assert all(shape[:2] == (1, 1) for shape in pruned[1:-1])
    assert pruned[-1] == (model.layers[-1].input.shape[-1], 3)
    assert len(pruned) == {13: 1 + 13 + 1, 17: 1 + 16 + 17 + 1 + 1}[len(depthwise)]


@pytest.mark.parametrize("network", [_v1, _v2])
def test_a_walk_through_the_layers_gives_the_outputs(network):
    np.testing.assert_allclose(run_graph(network(), _images(), infer), network()(_images()), atol=1e-5)


def test_one_training_step_of_version_2_has_a_finite_loss_and_moves_every_kernel():
    model, labels = keras.models.clone_model(_v2()), np.array([0, 1, 2, 0])
    before = [variable.numpy() for variable in model.weights]
    with tf.GradientTape() as tape:
        logits = model(_images(), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    assert np.isfinite(loss)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert variable.name != "kernel" or np.any(gradient), variable.path
    for variable, old in zip(model.weights, before, strict=True):
        assert variable.name != "moving_mean" or np.any(old != variable.numpy()), variable.path


def test_version_2_is_saved_without_classes_of_ours(tmp_path):
    model = plain_model(_v2())
    assert "trimflow" not in model.to_json()
    np.testing.assert_allclose(model(_images()), _v2()(_images()), atol=1e-5)


@pytest.mark.parametrize("build", [build_mobilenet_v1, build_mobilenet_v2])
def test_a_width_of_nothing_is_an_error(build):
    with pytest.raises(InputError, match="width of MobileNet must be above 0. Received: 0"):
        build(10, SMALL, width=0)
