"""Rebuilt models: structure, names, weights."""

import keras
import numpy as np
import pytest

from compressors.quantizers.rebuild import copied, rebuild
from utils.errors import InputError

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@keras.saving.register_keras_serializable(package="trimflow_tests")
class Double(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def double_after(name):
    return lambda layer: [copied(layer), Double(name=f"{name}.double")] if layer.name == name else [copied(layer)]


def functional():
    inputs = keras.Input((4,), name="images")
    shared = keras.layers.Dense(4, name="shared")
    x = keras.layers.Add(name="add")([shared(inputs), keras.layers.Dense(4, name="other")(inputs)])
    x = keras.layers.BatchNormalization(name="bn")(shared(x))
    return keras.Model(inputs, keras.ops.tanh(x), name="net")


def nested():
    block_inputs = keras.Input((4,))
    block = keras.Model(block_inputs, keras.layers.Dense(4, name="a")(block_inputs) + block_inputs, name="block")
    tail = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="b"), keras.layers.ReLU(name="r")], name="tail"
    )
    inputs = keras.Input((4,))
    return keras.Model(inputs, tail(block(block(inputs))), name="nested")


def sequential():
    layers = [keras.Input((4,), name="images"), keras.layers.Dense(4, name="a"), keras.layers.Dropout(0.5, seed=1)]
    return keras.Sequential(layers, name="seq")


MODELS = pytest.mark.parametrize("build", [functional, nested, sequential])


@MODELS
def test_a_copy_has_the_same_names_paths_values_and_outputs(build):
    model = build()
    model.set_weights([np.random.default_rng(1).uniform(0.1, 1, value.shape) for value in model.get_weights()])
    copy = rebuild(model, lambda layer: [copied(layer)])
    assert type(copy) is type(model)
    assert [layer.name for layer in copy.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert [variable.path for variable in copy.weights] == [variable.path for variable in model.weights]
    assert not {id(variable) for variable in copy.variables} & {id(variable) for variable in model.variables}
    np.testing.assert_array_equal(copy(X), model(X))


@MODELS
def test_trainable_flags_stay(build):
    model = build()
    model.layers[1].trainable = False
    copy = rebuild(model, lambda layer: [copied(layer)])
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]


def test_a_layer_that_is_used_twice_is_replaced_once():
    model = functional()
    new = rebuild(model, double_after("shared"))
    shared, other, bn = (model.get_layer(name) for name in ("shared", "other", "bn"))
    np.testing.assert_allclose(new(X), np.tanh(bn(2 * shared(2 * shared(X) + other(X)))), rtol=1e-5)
    assert sum(isinstance(layer, Double) for layer in new.layers) == 1


@pytest.mark.parametrize("name", ["a", "b"])
def test_layers_of_inner_models_are_replaced(name):
    model = nested()
    new = rebuild(model, double_after(name))
    block, tail = model.get_layer("block"), model.get_layer("tail")
    factor_a, factor_b = (2 if name == which else 1 for which in ("a", "b"))
    a, b = block.get_layer("a"), tail.get_layer("b")
    x = X
    for _ in range(2):
        x = factor_a * a(x) + x
    np.testing.assert_allclose(new(X), np.maximum(factor_b * b(x), 0), rtol=1e-5)


@pytest.mark.parametrize("build", [functional, sequential])
def test_a_layer_for_the_inputs(build):
    model = build()
    new = rebuild(model, lambda layer: [copied(layer)], on_input=lambda name: Double(name=f"{name}.double"))
    assert "images.double" in [layer.name for layer in new.layers]
    np.testing.assert_allclose(new(X), model(2 * X), rtol=1e-5)
    assert [tensor.name for tensor in new.inputs] == ["images"]


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        pass

    for model in (Own(name="own"), keras.Sequential([keras.layers.Dense(2)], name="own")):
        with pytest.raises(InputError, match="must be functional, or Sequential and built. Received: 'own'"):
            rebuild(model, lambda layer: [copied(layer)])
