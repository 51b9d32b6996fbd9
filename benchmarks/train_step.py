"""What a training step costs: ours against stock Keras, masked against dense, and one mask update.

    .venv/bin/python benchmarks/train_step.py
    .venv/bin/python benchmarks/train_step.py --net resnet50 --image_size 96 --batch 32 --rounds 10

ResNet-20, batch 128, 32x32 images held in memory, or another network. Prints ratios of times measured in turn in one
process.
"""

import argparse
import statistics

from ratios_of_times import interleaved_seconds, ratio_line

STEPS = 5  # in one call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="resnet_20", help="a name of nets/architectures.py")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    shape, rounds = (options.image_size, options.image_size, 3), options.rounds

    import keras
    import numpy as np
    from synthetic import mean_cross_entropy, random_batches

    from compressors.graph import prunable_kernels
    from compressors.masks import MaskSet
    from compressors.policies import FixedMasks, Policy
    from export.keras_model import plain_model
    from learners.train_step import TrainStep
    from nets.architectures import ARCHITECTURES

    build = ARCHITECTURES[options.net]
    batches = random_batches(options.batch, options.image_size)
    rates = np.full(STEPS, 0.01)

    def ours(masked: bool):
        keras.utils.set_random_seed(0)
        model = build(10, shape)
        optimizer = keras.optimizers.SGD(0.0, momentum=0.9)
        masks = MaskSet(prunable_kernels(model))
        step = TrainStep(
            model, optimizer, mean_cross_entropy, FixedMasks(masks) if masked else Policy(), weight_decay=2e-4
        )
        iterator = iter(batches)
        return lambda: step.run(iterator, rates), masks, optimizer

    def stock():
        keras.utils.set_random_seed(0)
        model = plain_model(build(10, shape))
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return lambda: model.fit(batches, steps_per_epoch=STEPS, verbose=0)

    dense, _, _ = ours(masked=False)
    masked, masks, optimizer = ours(masked=True)
    halves = {kernel.path: 0.5 for kernel in masks.kernels}
    masks.update(halves, optimizer=optimizer)
    seconds = interleaved_seconds(
        {
            "dense": dense,
            "stock": stock(),
            "masked": masked,
            "update": lambda: masks.update(halves, optimizer=optimizer),
        },
        rounds,
        warm_up=2,
    )
    per_step = [value / STEPS for value in seconds["dense"]]
    print(
        f"{options.net}, batch {options.batch}, {options.image_size} px, {rounds} rounds of {STEPS} steps; "
        f"dense step {statistics.median(per_step) * 1e3:.0f} ms"
    )
    print(f"{'ratio of times':<44} median (min to max)")
    print(ratio_line("dense step / stock Keras fit step", seconds["dense"], seconds["stock"], 0.72))
    print(ratio_line("masked step / dense step", seconds["masked"], seconds["dense"], 1.02))
    print(ratio_line("mask update of all layers / dense step", seconds["update"], per_step, 0.07))


if __name__ == "__main__":
    main()
