import keras
import numpy as np
import pytest

from compressors.graph import prunable_kernels
from compressors.working_copy import working_copy
from utils.errors import InputError

layers = keras.layers


def nested_model():
    """Names twice, a shared layer, bare operations, a Lambda, and an inner model that Keras could not compile again."""
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, layers.BatchNormalization(name="bn")(layers.Dense(6, name="fc")(inner_input)))
    inner.compile("sgd", loss=lambda labels, outputs: 0.0)
    shared = layers.Dense(6, activation="relu", name="shared")
    inputs = keras.Input((6,))
    x = keras.ops.relu(shared(inner(shared(inputs)))) * 2.0 + 1.0
    first, second = keras.ops.split(layers.Lambda(lambda values: values - 1.0)(x), 2, axis=-1)
    x = layers.BatchNormalization(name="bn")(keras.ops.concatenate([second, first], axis=-1))
    model = keras.Model(inputs, layers.Dense(3, name="fc")(layers.Dropout(0.5)(x)))
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    return model


def inputs(size=6):
    return np.random.default_rng(1).normal(size=(5, size)).astype(np.float32)


def test_it_computes_what_the_original_does_with_a_name_for_each_layer():
    model = nested_model()
    copy = working_copy(model)
    np.testing.assert_array_equal(copy.model(inputs(), training=False), model(inputs(), training=False))
    assert [kernel.path for kernel in prunable_kernels(copy.model)] == ["shared/kernel", "fc/kernel", "fc.2/kernel"]
    assert {id(kernel) for kernel in copy.kernels().values()} == {id(kernel) for kernel in prunable_kernels(model)}
    assert {layer.name for layer in copy.model.layers} >= {"bn", "bn.2", "fc", "fc.2"}


def test_it_shares_nothing_with_the_original():
    model = nested_model()
    before = model.get_weights()
    copy = working_copy(model)
    for variable in copy.model.variables:
        variable.assign(variable.value + 1)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not any(layer in model.layers for layer in copy.model.layers)
    assert all(len(layer._inbound_nodes) <= 2 for layer in model.layers)


def test_kernels_and_statistics_are_given_back_and_nothing_else():
    model = nested_model()
    before = {id(variable): variable.numpy() for variable in model.variables}
    copy = working_copy(model)
    for variable in copy.model.trainable_variables + copy.model.non_trainable_variables:
        variable.assign(variable.value + 1)
    copy.give_back()
    for variable in model.variables:
        is_changed = "kernel" in variable.path or "moving" in variable.path
        np.testing.assert_array_equal(variable.numpy(), before[id(variable)] + is_changed, err_msg=variable.path)


def test_an_interrupt_while_giving_back_leaves_the_original_as_it_was(monkeypatch):
    model = nested_model()
    before = model.get_weights()
    copy = working_copy(model)
    for variable in copy.model.variables:
        variable.assign(variable.value + 1)
    assign, calls = type(model.variables[0]).assign, []

    def interrupted(variable, value):
        calls.append(variable)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return assign(variable, value)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.variables[0]), "assign", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy.give_back()
    assert len(calls) > 3
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_normalization_that_was_adapted_is_copied():
    normalise = layers.Normalization()
    normalise.adapt(inputs(4) * 3 + 7)
    model = keras.Sequential([keras.Input((4,)), normalise, layers.Dense(2)])
    np.testing.assert_array_equal(working_copy(model).model(inputs(4)), model(inputs(4)))


def test_half_precision_becomes_float32():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, dtype="mixed_bfloat16"), layers.Dense(2, dtype="float16")]
    )
    copy = working_copy(model)
    assert {layer.compute_dtype for layer in copy.model.layers} == {"float32"}
    assert {variable.dtype for variable in copy.model.variables} == {"float32"}
    copy.give_back()
    assert model.layers[-1].kernel.dtype == "float16"


class WithoutConfiguration(layers.Layer):
    def __init__(self, factor):
        super().__init__(name="mine")
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_a_layer_that_cannot_be_made_again_is_named():
    model = keras.Sequential([keras.Input((4,)), WithoutConfiguration(2.0), layers.Dense(2)])
    with pytest.raises(InputError, match="layer 'mine' of class WithoutConfiguration cannot be copied: its get_config"):
        working_copy(model)
