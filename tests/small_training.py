"""A training small enough to be followed by hand, for tests of policies and the scheduler."""

import keras
import numpy as np
import tensorflow as tf

from compressors.scheduled_policies import Training
from compressors.scheduler import CompressionScheduler
from learners.evaluation import Evaluation
from learners.train_step import TrainStep
from learners.training import Monitor, train

WEIGHTS = np.array([1.0, -2.0, 3.0, -4.0], np.float32)
GRADIENT = np.array([0.1, 0.2, 0.3, 0.4], np.float32)  # of the linear model's loss by its weights, at all times
STEPS_PER_EPOCH = 2


def linear_model() -> keras.Model:
    """`logits = images @ w` with w = WEIGHTS; its loss is the mean logit."""
    images = keras.Input((4,), name="images")
    model = keras.Model(images, keras.layers.Dense(1, use_bias=False, name="fc")(images))
    model.set_weights([WEIGHTS[:, None]])
    return model


def mean_logit(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(logits)


def conv_net() -> keras.Model:
    """Two convolutions with batch norm and a dense layer, on 6 x 6 images of 2 channels."""
    images = keras.Input((6, 6, 2), name="images")
    x = images
    for index, filters in enumerate((4, 6), start=1):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(3, name="fc")(x), name="conv_net")


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def constant_batches(start: int = 0) -> tf.data.Dataset:
    """GRADIENT as the only image, for ever."""
    return tf.data.Dataset.from_tensors((GRADIENT[None], np.zeros(1, np.int32))).repeat()


def image_batches(start: int = 0) -> tf.data.Dataset:
    """Batch t of random images depends on t alone."""

    def batch(t):
        images = tf.random.stateless_normal([8, 6, 6, 2], [t, 7])
        return images, tf.random.stateless_uniform([8], [t, 8], 0, 3, tf.int32)

    return tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(batch)


def run(
    scheduler: CompressionScheduler,
    epochs: int,
    checkpoint,
    *,
    rate: float = 1.0,
    momentum: float = 0.0,
    batches=constant_batches,
    loss=mean_logit,
    steps_per_epoch: int = STEPS_PER_EPOCH,
    on_row=lambda row: None,
    save_interval: int = 1,
) -> TrainStep:
    """Trains the scheduler's network as a learner does; returns the step, whose `model` is the trained one."""
    model = scheduler.prepare(lambda: batches().take(2))
    optimizer = keras.optimizers.SGD(0.0, momentum=momentum)
    optimizer.build(model.trainable_variables)
    scheduler.attach(optimizer, Training(steps_per_epoch, rate, lambda: batches().take(2), loss))
    step = TrainStep(model, optimizer, loss, scheduler)
    train(
        step,
        scheduler,
        batches,
        np.full(epochs * steps_per_epoch, rate, np.float32),
        checkpoint,
        Monitor(1, save_interval, on_row, quiet=True),
        title="training",
        steps_per_epoch=steps_per_epoch,
        validation=Evaluation(model, batches().take(2), loss),
    )
    return step
