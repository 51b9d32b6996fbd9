import keras
import numpy as np
import pytest
import tensorflow as tf

from compressors.graph import infer, is_prunable, prunable_kernels, run_graph
from utils.errors import InputError

layers = keras.layers


def plain_call(layer, args, kwargs):
    return layer(*args, **kwargs)


@pytest.fixture(scope="module")
def residual_model():
    keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    y = layers.BatchNormalization(name="bn1")(x)
    y = layers.Conv2D(4, 3, padding="same", name="layer1.0.conv1")(layers.ReLU()(y))
    x = layers.Add()([x, y])
    x = layers.Concatenate()([x, x * 2.0])  # a bare operation, not a layer
    return keras.Model(inputs, layers.Dense(5, name="fc")(layers.GlobalAveragePooling2D()(x)))


def images(count=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 8, 8, 3)).astype(np.float32)


def test_plain_calls_give_the_models_output(residual_model):
    x = tf.constant(images())
    np.testing.assert_allclose(run_graph(residual_model, x, plain_call), residual_model(x, training=False), rtol=1e-6)


def test_works_inside_a_tf_function(residual_model):
    compiled = tf.function(lambda x: run_graph(residual_model, x, plain_call))
    x = tf.constant(images())
    np.testing.assert_allclose(compiled(x), residual_model(x, training=False), rtol=1e-5, atol=1e-6)


def test_the_call_sees_each_layer_once_in_an_order_of_the_graph(residual_model):
    seen = []

    def call(layer, args, kwargs):
        seen.append(layer.name)
        return layer(*args, **kwargs)

    run_graph(residual_model, tf.constant(images()), call)
    assert len(seen) == len(set(seen)) == 9
    assert seen[0] == "conv1"
    assert seen.index("bn1") < seen.index("layer1.0.conv1") < seen.index("fc") == 8


def test_plain_objects_pass_from_call_to_call(residual_model):
    class Box:
        def __init__(self, value):
            self.value = value

    def call(layer, args, kwargs):
        args, kwargs = keras.tree.map_structure(lambda v: v.value if isinstance(v, Box) else v, (args, kwargs))
        return Box(layer(*args, **kwargs))

    x = tf.constant(images())
    outputs = run_graph(residual_model, Box(x), call)
    assert isinstance(outputs, Box)
    np.testing.assert_allclose(outputs.value, residual_model(x), rtol=1e-6)


def test_the_result_of_the_call_replaces_the_layers_output(residual_model):
    def call(layer, args, kwargs):
        return tf.zeros([2, 5]) if layer.name == "fc" else layer(*args, **kwargs)

    assert not np.any(run_graph(residual_model, tf.constant(images()), call))


def test_a_value_is_dropped_after_its_last_use(residual_model):
    class Box:
        alive = most = 0

        def __init__(self, value):
            self.value = value
            Box.alive += 1
            Box.most = max(Box.most, Box.alive)

        def __del__(self):
            Box.alive -= 1

    def call(layer, args, kwargs):
        args, kwargs = keras.tree.map_structure(lambda v: v.value if isinstance(v, Box) else v, (args, kwargs))
        return Box(layer(*args, **kwargs))

    run_graph(residual_model, Box(tf.constant(images())), call)
    assert Box.most <= 4  # of 10 values: the shortcut, an input, an output and the one just replaced
    assert Box.alive == 0


def test_several_inputs_and_outputs_and_a_value_used_twice_by_one_layer():
    one, two = layers.Input((3,)), layers.Input((3,))
    total = layers.Add()([one, two])
    model = keras.Model([one, two], [layers.Multiply()([total, total]), total])
    outputs = run_graph(model, [tf.constant([[1.0, 2.0, 3.0]]), tf.constant([[1.0, 0.0, -1.0]])], plain_call)
    np.testing.assert_allclose(outputs[0], [[4, 4, 4]])
    np.testing.assert_allclose(outputs[1], [[2, 2, 2]])


def test_models_inside_models_are_walked():
    inner_inputs = layers.Input((4,))
    inner = keras.Model(inner_inputs, layers.Dense(3, name="inner")(inner_inputs))
    sequence = keras.Sequential([layers.Input((3,)), layers.Dense(2, name="first"), layers.Dense(2, name="second")])
    inputs = layers.Input((4,))
    model = keras.Model(inputs, sequence(inner(inputs)))
    seen = []

    def call(layer, args, kwargs):
        seen.append(layer.name)
        return layer(*args, **kwargs)

    x = tf.ones([1, 4])
    np.testing.assert_allclose(run_graph(model, x, call), model(x), rtol=1e-6)
    assert seen == ["inner", "first", "second"]
    assert [kernel.shape for kernel in prunable_kernels(model)] == [(4, 3), (3, 2), (2, 2)]


def test_a_subclassed_model_is_an_input_error():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(InputError, match="functional.*Received: 'sub'"):
        run_graph(Subclassed(name="sub"), tf.ones([1, 2]), plain_call)
    with pytest.raises(InputError, match="functional"):
        prunable_kernels(Subclassed())


def test_prunable_kernels_are_those_of_convolutions_and_dense_layers_in_order(residual_model):
    assert [kernel.path for kernel in prunable_kernels(residual_model)] == [
        "conv1/kernel", "layer1.0.conv1/kernel", "fc/kernel",
    ]  # fmt: skip


def test_depthwise_and_grouped_kernels_are_left_out_and_a_shared_one_counted_once():
    inputs = layers.Input((8, 8, 4))
    shared = layers.Conv2D(4, 1, name="shared")
    x = layers.DepthwiseConv2D(3)(shared(shared(inputs)))
    x = layers.Conv2D(4, 3, groups=2, name="grouped")(layers.Conv2DTranspose(4, 2)(x))
    model = keras.Model(inputs, layers.SeparableConv2D(2, 2)(x))
    assert [kernel.path for kernel in prunable_kernels(model)] == ["shared/kernel"]


def test_channels_first_and_quantized_layers_are_not_prunable():
    quantized = layers.Dense(3)
    quantized.build((None, 4))
    quantized.quantize("int8")
    low_rank = layers.Dense(3)
    low_rank.build((None, 4))
    low_rank.enable_lora(1)
    assert not any(map(is_prunable, (layers.Conv2D(4, 3, data_format="channels_first"), quantized, low_rank)))
    assert is_prunable(layers.Dense(3))
    assert is_prunable(layers.Conv2D(4, 3))


def test_random_layers_rest_in_inference():
    x = tf.constant(images())
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomTranslation(0.5, 0.5), layers.Dropout(0.5)])
    np.testing.assert_array_equal(run_graph(model, x, infer), x)
