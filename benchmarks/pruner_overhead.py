"""What a pruner adds to `model.fit`: ratios over plain `fit` of the same network, and the same for TF-MOT's wrapper.

    .venv/bin/python benchmarks/pruner_overhead.py

ResNet-20, batch 128, 32x32 images held in memory; the functions take turns. TF-MOT works with Keras 2 only: it is
installed with tf-keras into a directory of its own and measured by a second process, against plain `fit` of Keras 2.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ratios_of_times import ROOT, asked_rounds, interleaved_seconds, ratio_line

STEPS = 5  # of one fit
SPARSITY = 0.8
GOAL = 1.03
PACKAGES = ("tensorflow-model-optimization==0.8.1", "tf-keras==2.21.0", "dm-tree==0.1.10")
DIRECTORY = ROOT / "runs" / "benchmarks" / "tfmot_packages"
THIS_IS_THE_SECOND_PROCESS = "TRIMFLOW_BENCHMARK_TFMOT"


def main() -> None:
    rounds = asked_rounds(__doc__)
    if THIS_IS_THE_SECOND_PROCESS in os.environ:
        print(json.dumps(interleaved_seconds(keras2_functions(), rounds, warm_up=2)))
        return
    seconds = interleaved_seconds(our_functions(), rounds, warm_up=2)
    print(f"ResNet-20, batch 128, {rounds} rounds of {STEPS} steps under model.fit, {SPARSITY:.0%} removed")
    print_ratios(seconds, GOAL)
    theirs = tfmot_seconds(rounds)
    if theirs is not None:
        print_ratios(theirs, None)


def print_ratios(seconds: Mapping[str, list[float]], goal: float | None) -> None:
    plain, *pruned = seconds
    print(
        f"{plain}: {statistics.median(seconds[plain]) / STEPS * 1e3:.0f} ms a step; ratios to it: median (min to max)"
    )
    for name in pruned:
        print(ratio_line(name, seconds[name], seconds[plain], goal))


def our_functions() -> dict[str, Callable[[], object]]:
    """`fit` of some steps: plain, and with each pruner attached."""
    import keras
    from synthetic import random_batches

    from compressors.pruner_api import AGP_Pruner, LevelPruner
    from nets.resnet import build_resnet

    batches = random_batches()

    def fit(attach: Callable[[keras.Model], list]) -> Callable[[], object]:
        keras.utils.set_random_seed(0)
        model = build_resnet(20, 10)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        callbacks = attach(model)
        return lambda: model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=callbacks)

    def level(model: keras.Model) -> list:
        LevelPruner(model, [{"sparsity": SPARSITY}]).compress()
        return []

    def gradual(model: keras.Model) -> list:
        pruner = AGP_Pruner(model, [{"final_sparsity": SPARSITY, "end_epoch": 10}])
        pruner.compress()
        return [pruner.callback()]

    return {
        "plain fit": fit(lambda model: []),
        "LevelPruner": fit(level),
        "AGP_Pruner, new masks each fit": fit(gradual),
    }


def tfmot_seconds(rounds: int) -> dict[str, list[float]] | None:
    """The same of TF-MOT, or None and a message where it cannot be installed or does not run."""
    if not DIRECTORY.is_dir():
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(DIRECTORY),
            *PACKAGES,
        ]
        if subprocess.run(install).returncode:
            print("TF-MOT is not measured: pip could not install it")
            return None
    environment = os.environ | {
        THIS_IS_THE_SECOND_PROCESS: "1",
        "PYTHONPATH": str(DIRECTORY),
        "TF_USE_LEGACY_KERAS": "1",
    }
    command = [sys.executable, str(Path(__file__)), "--rounds", str(rounds)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        print(f"TF-MOT is not measured: {result.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(result.stdout.splitlines()[-1])


def keras2_functions() -> dict[str, Callable[[], object]]:
    """`fit` of the same network in Keras 2: plain, and with every layer wrapped by `prune_low_magnitude`."""
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from synthetic import random_batches

    pruning = tfmot.sparsity.keras
    batches = random_batches()

    def fit(wrap: Callable, callbacks: list) -> Callable[[], object]:
        tf_keras.utils.set_random_seed(0)
        model = wrap(keras2_resnet())
        model.compile(
            tf_keras.optimizers.SGD(0.01, momentum=0.9), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return lambda: model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=callbacks)

    def wrapped(model):
        schedule = pruning.ConstantSparsity(SPARSITY, begin_step=0, frequency=100)
        return pruning.prune_low_magnitude(model, pruning_schedule=schedule)

    return {
        "plain fit of Keras 2": fit(lambda model: model, []),
        "TF-MOT prune_low_magnitude, Keras 2": fit(wrapped, [pruning.UpdatePruningStep()]),
    }


def keras2_resnet():
    """ResNet-20 as `nets.resnet` builds it, of Keras 2's layers."""
    from tf_keras import Input, Model, layers

    def conv_norm(x, channels: int, size: int, stride: int):
        x = layers.Conv2D(channels, size, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    images = Input((32, 32, 3))
    x = layers.ReLU()(conv_norm(images, 16, 3, 1))
    for channels in (16, 32, 64):
        for block in range(3):
            stride = 2 if channels > 16 and block == 0 else 1
            shortcut = conv_norm(x, channels, 1, stride) if stride == 2 else x
            y = layers.ReLU()(conv_norm(x, channels, 3, stride))
            x = layers.ReLU()(layers.Add()([conv_norm(y, channels, 3, 1), shortcut]))
    return Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


if __name__ == "__main__":
    main()
