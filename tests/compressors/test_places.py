import keras
import pytest

from compressors.places import kernel_places
from utils.errors import InputError

layers = keras.layers


def test_the_calls_of_a_layer_add_up_with_the_sizes_that_they_really_have():
    images = keras.Input((8, 8, 3))
    of_block = keras.Input((None, None, 4))
    block = keras.Model(of_block, layers.Conv2D(4, 3, name="inner")(of_block), name="block")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first")(images)  # 4 x 4
    x = block(x)  # 2 x 2
    x = block(layers.UpSampling2D(2)(x))  # 4 x 4 again, then 2 x 2
    x = layers.Flatten()(layers.Conv2DTranspose(2, 2, name="up")(x))  # 3 x 3
    shared = layers.Dense(18, name="shared")
    model = keras.Model(images, layers.Dense(5, name="last")(shared(shared(x))))
    assert kernel_places(model) == {
        "first/kernel": 16, "inner/kernel": 4 + 4, "up/kernel": 9, "shared/kernel": 2, "last/kernel": 1,
    }  # fmt: skip


def test_layers_without_images_count_their_positions():
    words = keras.Input((7,), dtype="int32")
    x = layers.Dense(3, name="each")(layers.Embedding(10, 2)(words))
    model = keras.Model(words, layers.Dense(2, name="all")(layers.Flatten()(x)))
    assert kernel_places(model) == {"each/kernel": 7, "all/kernel": 1}


def test_an_input_without_a_fixed_size_is_refused():
    images = keras.Input((None, None, 3))
    with pytest.raises(InputError, match="input must have a fixed size"):
        kernel_places(keras.Model(images, layers.Conv2D(2, 3)(images)))
