"""Which layers the weight-sparse learner leaves dense by itself."""

import keras
import numpy as np
import pytest

from datasets.images import ImageArrays, ImageDataset
from learners.config import RunConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from nets.config import NetConfig
from nets.model_helper import ModelHelper
from utils.run_dir import RunDir


class Helper(ModelHelper):
    """Three layers for inputs of a shape."""

    model_name, num_epochs = "three", 1
    shape, middle = (8, 8, 1), 64

    def build_model(self):
        inputs = keras.Input(self.shape)
        x = keras.layers.Dense(self.middle)(keras.layers.Dense(self.middle)(keras.layers.Flatten()(inputs)))
        return keras.Model(inputs, keras.layers.Dense(2)(x))

    def load_data(self):
        arrays = ImageArrays(np.zeros((4, *self.shape), np.uint8), np.zeros(4, np.int32))
        mean, std = np.float32(0), np.float32(1)
        return ImageDataset("zeros", "zeros", 2, arrays, arrays, arrays, mean, std, crop_padding=0, flip=False)

    def learning_rate_at(self, step):
        return np.zeros(len(step))


# Weights: height * width * middle, middle ** 2, middle * 2. With 2x2 images and 64: 256 + 128 of 4,480, less than a
# tenth; with 8x8 images 4,096 of them are in the first layer; 65x1 pixels are no small image.
@pytest.mark.parametrize(
    ("shape", "middle", "are_dense"),
    [
        ((2, 2, 1), 64, True),
        ((8, 8, 1), 64, False),
        ((65, 1, 1), 1000, False),
        ((64, 1, 1), 1000, True),
        ((4,), 64, False),
    ],
)
def test_the_ends_stay_dense_for_small_images_where_they_hold_little(tmp_path, shape, middle, are_dense):
    helper_class = type("Sized", (Helper,), {"shape": shape, "middle": middle})
    learner = WeightSparseLearner(RunConfig(), helper_class(NetConfig()), RunDir(tmp_path))
    assert learner.ratio_config.keep_ends_dense == are_dense
