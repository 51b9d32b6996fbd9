"""Data-parallel training against one worker with the whole batch, which rank 0 trains by itself."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf
from reporting import DIRECTORY, main

from compressors.graph import prunable_kernels
from compressors.masks import MaskSet
from compressors.policies import DynamicPruning, Policy
from compressors.schedules import PolynomialSchedule
from datasets.digits32_cache import load_digits32
from datasets.pipeline import evaluation_batches, training_batches
from learners.evaluation import Evaluation
from learners.train_step import TrainStep
from learners.training import Monitor, train
from learners.variables import named_arrays
from nets.lenet import build_lenet
from nets.resnet import build_resnet
from utils.checkpoints import read_checkpoint
from utils.errors import RunError
from utils.workers import ALONE, digest

GLOBAL_BATCH = 128
STEPS = 20
RATE = 0.01
DATA = load_digits32(num_train=0, num_validation=0, num_test=101)


def cross_entropy(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def batches(workers, batch_size):
    return lambda start=0: training_batches(
        DATA.train,
        mean=DATA.mean,
        std=DATA.std,
        batch_size=batch_size,
        seed=3,
        start_step=start,
        rank=workers.rank,
        size=workers.size,
        crop_padding=0,
        flip=False,
    )


def trained(build, workers, *, rate=RATE, steps=STEPS, sync=False, calls=2):
    """The step after a training of `steps` in some calls, and its losses."""
    keras.utils.set_random_seed(1)
    model, optimizer = build(), keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(model, optimizer, cross_entropy, Policy(), 1e-4, workers=workers, sync_batch_norm=sync)
    iterator = iter(batches(workers, GLOBAL_BATCH // workers.size)())
    rates = np.full(steps // calls, rate, np.float32)
    losses = np.concatenate([step.run(iterator, rates, call * len(rates))[0] for call in range(calls)])
    return step, losses


def largest_difference(one, other):
    pairs = zip(one.trainable_variables, other.trainable_variables, strict=True)
    return max(float(np.abs(variable.numpy() - twin.numpy()).max()) for variable, twin in pairs)


def compared(build, workers, rate, sync=False):
    """Largest differences of losses and of weights between two workers with 64 and one with 128."""
    step, losses = trained(build, workers, rate=rate, sync=sync)
    found = {"hash": digest(named_arrays(step.model.variables)), "traces": step.trace_count, "loss": float(losses[-1])}
    if workers.is_first:
        alone, losses_alone = trained(build, ALONE, rate=rate)
        keras.utils.set_random_seed(1)
        found["losses_differ"] = float(np.abs(losses - losses_alone).max())
        found["weights_differ"] = largest_difference(step.model, alone.model)
        found["weights_moved"] = largest_difference(build(), alone.model)
    return found


def lenet(workers):
    return compared(lambda: build_lenet(10), workers, 0.001)


def resnet_with_synchronised_batch_norm(workers):
    # At larger rates rounding decides: one process alone drifts as far with Keras' batch norm in place of ours.
    return compared(lambda: build_resnet(20, 10), workers, 5e-5, sync=True)


def small_net():
    """With stock batch norm, as a network of the user's own has it."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, name="conv")(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(10, name="fc")(x))


def stock_batch_norm_synchronised(workers):
    return compared(small_net, workers, RATE, sync=True)


def statistics_of_batch_norm(workers):
    """After one step the moving mean is .99 * 0 + .01 * the batch's, and then the mean over the workers."""
    step, _ = trained(small_net, workers, steps=1, calls=1)
    keras.utils.set_random_seed(1)
    fresh = small_net()
    images, _ = next(iter(batches(workers, GLOBAL_BATCH // 2)()))
    own = 0.01 * np.asarray(fresh.get_layer("conv")(images)).mean((0, 1, 2))
    expected = np.mean(workers.all_gather(own), 0)
    moving = step.model.get_layer("bn").moving_mean.numpy()
    return [float(np.abs(moving - expected).max()), float(np.abs(own - expected).max())]


def uneven_shards(workers):
    """101 test images: 50 and 51; two of three validation images of a share of 2; and the same by one worker."""
    keras.utils.set_random_seed(1)
    model = build_lenet(10)

    def evaluate(who, count):
        arrays = type(DATA.test)(*(array[:count] for array in DATA.test))
        shard = evaluation_batches(arrays, mean=DATA.mean, std=DATA.std, batch_size=20, rank=who.rank, size=who.size)
        return Evaluation(model, shard, cross_entropy, workers=who)()

    return [[evaluate(workers, count), evaluate(ALONE, count)] for count in (101, 3, 1)]


def _train(workers, masks_of, name, die_at=None):
    keras.utils.set_random_seed(1)
    model, optimizer = build_lenet(10), keras.optimizers.SGD(0.0, momentum=0.9)
    optimizer.build(model.trainable_variables)
    masks = masks_of(prunable_kernels(model))
    ratios = {kernel.path: 0.5 for kernel in prunable_kernels(model)}
    policy = DynamicPruning(masks, PolynomialSchedule(2, 6, 2, 3.0), ratios, optimizer, 8)

    def die(row):
        if row["step"] == die_at:
            raise KeyboardInterrupt

    step = TrainStep(model, optimizer, cross_entropy, policy, workers=workers)
    result = train(
        step,
        policy,
        batches(workers, 16),
        np.full(8, RATE, np.float32),
        DIRECTORY / name / f"of_rank_{workers.rank}.npz",
        Monitor(2, 4, die, quiet=True),
        title="training",
        steps_per_epoch=5,
    )
    return step, policy, result


def masks_under_a_schedule(workers):
    """A whole training, one that dies at step 6 and goes on from rank 0's checkpoint at 4, and who wrote files."""
    step, policy, result = _train(workers, MaskSet, "whole")
    with contextlib.suppress(KeyboardInterrupt):
        _train(workers, MaskSet, "cut", die_at=6)
    again, resumed, _ = _train(workers, MaskSet, "cut")
    hashes = [digest(named_arrays(s.model.variables) | p.state()) for s, p in ((step, policy), (again, resumed))]
    is_there = (DIRECTORY / "whole" / f"of_rank_{workers.rank}.npz").exists()
    at = read_checkpoint(DIRECTORY / "cut" / "of_rank_0.npz").meta["step"]
    zeros = [int(np.sum(kernel.numpy() == 0)) / math.prod(kernel.shape) for kernel in prunable_kernels(step.model)]
    return [hashes, is_there, at, min(zeros), [row["loss"] for row in result.history]]


class OtherMasks(MaskSet):
    """What a broken machine would do: on rank 1 one more weight is masked."""

    rank = 0

    def update(self, *args, **kwargs):
        super().update(*args, **kwargs)
        if self.rank == 1:
            self.masks[0][0, 0, 0, 0].assign(1.0 - self.masks[0][0, 0, 0, 0])


def masks_that_differ(workers):
    def masks_of(kernels):
        masks = OtherMasks(kernels)
        masks.rank = workers.rank
        return masks

    try:
        _train(workers, masks_of, "broken")
    except RunError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    main(
        lenet,
        resnet_with_synchronised_batch_norm,
        stock_batch_norm_synchronised,
        statistics_of_batch_norm,
        uneven_shards,
        masks_under_a_schedule,
        masks_that_differ,
    )
