"""A network and its data small enough that a whole run of a learner takes a second."""

import keras
import numpy as np

from datasets.config import DataConfig
from datasets.images import ImageArrays, ImageDataset
from export.config import ExportConfig
from learners.config import RunConfig, RunOptions
from learners.lottery_ticket.config import LotteryTicketConfig
from nets.config import NetConfig
from nets.layers import FusedBatchNormalization
from nets.model_helper import ModelHelper

STEPS_PER_EPOCH, NUM_EPOCHS = 3, 3


class SmallHelper(ModelHelper):
    """Three epochs of three steps on noise; kernels of 108 and 12 weights, batch norm and dropout."""

    model_name = "small"
    num_epochs = NUM_EPOCHS

    def build_model(self) -> keras.Model:
        images = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(images)
        x = keras.layers.ReLU(name="relu")(FusedBatchNormalization(name="bn")(x))
        x = keras.layers.Dropout(0.25, name="dropout")(keras.layers.GlobalAveragePooling2D(name="pool")(x))
        return keras.Model(images, keras.layers.Dense(3, name="fc")(x))

    def load_data(self) -> ImageDataset:
        generator = np.random.default_rng(0)

        def noise(count: int) -> ImageArrays:
            images = generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
            return ImageArrays(images, (np.arange(count) % 3).astype(np.int32))

        splits = [noise(count) for count in (8 * STEPS_PER_EPOCH, 6, 7)]
        mean, std = np.full(3, 127.5, np.float32), np.full(3, 64, np.float32)
        return ImageDataset("noise", "noise", 3, *splits, mean=mean, std=std, crop_padding=0, flip=False)

    def learning_rate_at(self, step: np.ndarray) -> np.ndarray:
        return 0.1 / (1 + np.asarray(step, float))


def lottery_config(*, rounds: int = 3, rewind_epoch: int = 0, ratio: float = 0.8, **options) -> RunConfig:
    """A lottery-ticket run of SmallHelper that looks at every step and saves every other one."""
    run = {"learner": "lottery-ticket", "quiet": True, "summary_interval": 1, "save_interval": 2, **options}
    ticket = LotteryTicketConfig(prune_ratio=ratio, num_rounds=rounds, rewind_epoch=rewind_epoch)
    return RunConfig(
        RunOptions(**run),
        NetConfig(DataConfig(batch_size=8)),
        lottery_ticket=ticket,
        export=ExportConfig(formats="none"),
    )
