"""What a search over a whole Keras model costs, in dense training steps of the same process.

    .venv/bin/python benchmarks/search_pruner.py                          # protocol dp
    .venv/bin/python benchmarks/search_pruner.py --protocol optimal --rollouts 40

keras.applications.MobileNetV2, 96x96 images, 10 classes, random weights and data. Dense training steps (batch 32, SGD
with momentum) are measured before and after the search; its time is that of `compress()`, all of it.
"""

import argparse
import os
import resource
import statistics
import time

from ratios_of_times import interleaved_seconds

BATCH, SIZE, CLASSES = 32, 96, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", default="dp")
    parser.add_argument("--ratio", type=float, default=0.8)
    parser.add_argument("--rollouts", type=int, default=40)
    parser.add_argument("--validation", type=int, default=500, help="validation images")
    parser.add_argument("--rounds", type=int, default=50, help="training steps, before and after")
    options = parser.parse_args()

    import keras
    import numpy as np
    import tensorflow as tf

    from learners.weight_sparsification.search_pruner import SearchPruner

    generator = np.random.default_rng(0)

    def examples(count: int):
        images = generator.normal(size=(count, SIZE, SIZE, 3)).astype(np.float32)
        return images, generator.integers(0, CLASSES, count).astype(np.int32)

    def network() -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.applications.MobileNetV2(weights=None, input_shape=(SIZE, SIZE, 3), classes=CLASSES)

    dense = network()
    dense.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    dense.make_train_function()  # which `fit` calls
    iterator = iter(tf.data.Dataset.from_tensors(examples(BATCH)).repeat())

    def step_seconds() -> list[float]:
        return interleaved_seconds({"dense": lambda: dense.train_function(iterator)}, options.rounds)["dense"]

    loads = [os.getloadavg()[0]]
    before = step_seconds()
    model, calibration, validation = network(), examples(320)[0], examples(options.validation)
    pruner = SearchPruner(
        model, calibration, validation, options.ratio, options.protocol, num_rollouts=options.rollouts, quiet=True
    )
    started = time.perf_counter()
    result = pruner.compress()
    seconds = time.perf_counter() - started
    loads.append(os.getloadavg()[0])
    after = step_seconds()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    dense_step = statistics.median(before + after)
    print(f"MobileNetV2, {SIZE}x{SIZE}, {options.ratio:.0%}, protocol {options.protocol}: {result}")
    print(
        f"dense step {dense_step * 1e3:.0f} ms (median before {statistics.median(before) * 1e3:.0f}, after "
        f"{statistics.median(after) * 1e3:.0f}); load average {loads[0]:.1f}, then {loads[1]:.1f}, "
        f"on {os.cpu_count()} processors"
    )
    goal = "  at most 150" if options.protocol == "dp" else ""
    print(f"{'search, in dense training steps':<44} {seconds / dense_step:8.0f}{goal}")
    if result.rollouts:
        rollout = statistics.median(record["seconds"] for record in result.rollouts)
        print(f"{'one roll-out (median), seconds':<44} {rollout:8.2f}")
        print(f"{'one roll-out (median), in training steps':<44} {rollout / dense_step:8.1f}")
    print(f"{'peak memory of the whole process, GB':<44} {peak:8.2f}  under 3")


if __name__ == "__main__":
    main()
