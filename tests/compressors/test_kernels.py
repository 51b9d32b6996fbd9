import keras
import pytest
from keras import layers

from compressors.kernels import find_kernels
from utils.errors import InputError


def names(model):
    return [name for layer in find_kernels(model).layers for name in layer.kernels]


def image_model(layer, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("layer", "shape", "kernels"),
    [
        (layers.Conv1D(4, 3, name="it"), (8, 3), {"it/kernel": (3, 3, 4)}),
        (layers.Conv2D(4, 3, name="it"), (8, 8, 3), {"it/kernel": (3, 3, 3, 4)}),
        (layers.Conv2D(4, 3, groups=2, name="it"), (8, 8, 2), {"it/kernel": (3, 3, 1, 4)}),
        (layers.Conv3D(4, 3, name="it"), (8, 8, 8, 3), {"it/kernel": (3, 3, 3, 3, 4)}),
        (layers.Conv1DTranspose(4, 3, name="it"), (8, 3), {"it/kernel": (3, 4, 3)}),
        (layers.Conv2DTranspose(4, 3, name="it"), (8, 8, 3), {"it/kernel": (3, 3, 4, 3)}),
        (layers.Conv3DTranspose(4, 3, name="it"), (8, 8, 8, 3), {"it/kernel": (3, 3, 3, 4, 3)}),
        (layers.DepthwiseConv1D(3, name="it"), (8, 3), {"it/kernel": (3, 3, 1)}),
        (layers.DepthwiseConv2D(3, name="it"), (8, 8, 3), {"it/kernel": (3, 3, 3, 1)}),
        (
            layers.SeparableConv1D(4, 3, name="it"),
            (8, 3),
            {"it/depthwise_kernel": (3, 3, 1), "it/pointwise_kernel": (1, 3, 4)},
        ),
        (
            layers.SeparableConv2D(4, 3, name="it"),
            (8, 8, 3),
            {"it/depthwise_kernel": (3, 3, 3, 1), "it/pointwise_kernel": (1, 1, 3, 4)},
        ),
        (layers.Dense(4, name="it"), (8,), {"it/kernel": (8, 4)}),
        (layers.EinsumDense("abc,cd->abd", (None, 4), name="it"), (8, 3), {"it/kernel": (3, 4)}),
        (layers.LSTM(4, name="it"), (8, 3), {"it/kernel": (3, 16), "it/recurrent_kernel": (4, 16)}),
    ],
)
def test_the_kernels_of_a_layer(layer, shape, kernels):
    (found,) = find_kernels(image_model(layer, shape)).layers
    assert {name: tuple(kernel.shape) for name, kernel in found.kernels.items()} == kernels
    assert (found.name, found.op_type, found.is_opt_in) == ("it", type(layer).__name__, False)


def test_an_embedding_is_there_for_those_who_ask():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="fc")(layers.Embedding(10, 3, name="words")(inputs)))
    found = {layer.name: layer for layer in find_kernels(model).layers}
    assert list(found["words"].kernels) == ["words/embeddings"]
    assert found["words"].is_opt_in
    assert not found["fc"].is_opt_in


def test_the_layers_inside_attention_are_found():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs))
    found = find_kernels(model).layers
    parts = ("query", "key", "value", "attention_output")
    assert {layer.nested_name for layer in found} == {f"attention/{part}" for part in parts}
    assert {layer.op_type for layer in found} == {"EinsumDense"}


def test_a_shared_layer_is_found_once():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    assert names(keras.Model(inputs, shared(shared(inputs)))) == ["shared/kernel"]


def test_layers_of_the_same_name_in_nested_models_have_different_names():
    def part():
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")])

    first, second = part(), part()
    first.name, second.name = "first", "second"
    inputs = keras.Input((4,))
    model = keras.Model(inputs, second(first(inputs)))
    found = find_kernels(model).layers
    assert [layer.nested_name for layer in found] == ["first/fc", "second/fc"]
    assert names(model) == ["first/fc/kernel", "second/fc/kernel"]


def test_names_do_not_depend_on_how_often_a_model_was_made_nor_on_a_file(tmp_path):
    def make():
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b")])

    models = [make(), make()]
    models[0].save(tmp_path / "model.keras")
    models.append(keras.models.load_model(tmp_path / "model.keras"))
    assert len({model.variables[0].path for model in models}) > 1  # as Keras names them
    assert [names(model) for model in models] == [["a/kernel", "b/kernel"]] * 3


class Block(keras.layers.Layer):
    """Two layers of the same name inside a layer that is no model."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [layers.Dense(4, name="fc"), layers.Dense(4, name="fc")]

    def call(self, x):
        return self.parts[1](self.parts[0](x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.block, self.unused, self.head = Block(name="block"), layers.Dense(3), layers.Dense(2, name="head")

    def call(self, x):
        return self.head(self.block(x))


def test_subclassed_models_and_layers_in_lists_are_looked_through():
    model = Subclassed()
    model(keras.ops.ones((1, 4)))
    found = [layer.nested_name for layer in find_kernels(model).layers]
    assert found == ["block/fc", "block/fc", "head"]
    assert names(model) == ["block/fc/kernel", "block/fc/kernel#2", "head/kernel"]


class Own(keras.layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 3))

    def call(self, x):
        return x @ self.table


def test_a_layer_with_weights_but_no_kernel_is_named_with_its_class():
    model = keras.Sequential([keras.Input((4,)), Own(name="mine"), layers.Dense(2), layers.BatchNormalization()])
    found = find_kernels(model)
    assert {name: (what.reason, what.has_matrix) for name, what in found.unprunable.items() if what.has_matrix} == {
        "mine": ("Own has no kernel", True)
    }
    assert found.op_types == ["Own", "Dense", "BatchNormalization"]


def test_a_layer_with_lora_has_no_kernel_of_its_own():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="low_rank"), layers.Dense(2, name="plain")])
    model.layers[0].enable_lora(2)
    found = find_kernels(model)
    assert [layer.name for layer in found.layers] == ["plain"]
    assert found.unprunable["low_rank"].reason == "Dense with LoRA"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "resnet", "must be a keras.Model. Received: str"),
        (lambda: keras.Sequential([layers.Dense(3)]), "must be built"),
        (Subclassed, "must be built"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.BatchNormalization()]), "must have a layer with a kernel"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.ReLU()]), "must have a layer with a kernel"),
    ],
)
def test_what_cannot_be_pruned_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        find_kernels(model())
