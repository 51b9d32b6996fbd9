"""What each kind of policy adds to a training step: ratios over the plain dense step of the same network.

    .venv/bin/python benchmarks/schedule_overhead.py

ResNet-20, batch 128, 32x32 images held in memory. All steps are measured in turn in one process.
"""

import statistics

from ratios_of_times import asked_rounds, interleaved_seconds, ratio_line

STEPS = 5  # in one call
ALWAYS = {"starting_epoch": 0, "ending_epoch": 100, "frequency": 1}
PRUNER = {"class": "SparsityLevelParameterPruner", "levels": {"*": 0.8}}
REGULARIZERS = {
    "l1": {"class": "L1Regularizer", "reg_regims": {"*": 1e-5}},
    "groups": {"class": "GroupLassoRegularizer", "reg_regims": {"*": [1e-5, "2D"]}},
}
SPLICING = {"class": "SplicingPruner", "sensitivities": {"*": 0.5}, "low_thresh_mult": 0.9, "hi_thresh_mult": 1.1}
DOREFA = {"class": "DorefaQuantizer", "bits_weights": 4, "bits_activations": 4}


def policy(kind: str, name: str, args: dict | None = None) -> dict:
    return {kind: {"instance_name": name, **({"args": args} if args else {})}, **ALWAYS}


PRUNING = {"pruners": {"p": PRUNER}, "policies": [policy("pruner", "p")]}
SCHEDULES = {
    "pruning policy": (PRUNING, 1.02),
    "pruning, L1 and 2D group lasso on all layers": (
        {
            **PRUNING,
            "regularizers": REGULARIZERS,
            "policies": [*PRUNING["policies"], policy("regularizer", "l1"), policy("regularizer", "groups")],
        },
        1.10,
    ),
    "splicing, new masks in each step": (
        {
            "pruners": {"p": SPLICING},
            "policies": [policy("pruner", "p", {"mini_batch_pruning_frequency": 1, "use_double_copies": True})],
        },
        1.15,
    ),
    "DoReFa, 4 bits": ({"quantizers": {"q": DOREFA}, "policies": [policy("quantizer", "q")]}, 1.5),
}


def main() -> None:
    rounds = asked_rounds(__doc__)

    import keras
    import numpy as np
    from synthetic import mean_cross_entropy, random_batches

    from compressors.policies import Policy
    from compressors.scheduled_policies import Training
    from compressors.scheduler import CompressionScheduler
    from learners.train_step import TrainStep
    from nets.resnet import build_resnet

    batches = random_batches()
    rates = np.full(STEPS, 0.01)

    def dense():
        keras.utils.set_random_seed(0)
        model, optimizer = build_resnet(20, 10), keras.optimizers.SGD(0.0, momentum=0.9)
        step = TrainStep(model, optimizer, mean_cross_entropy, Policy(), weight_decay=2e-4)
        iterator = iter(batches)
        return lambda: step.run(iterator, rates, 1)

    def training_under(schedule: dict):
        keras.utils.set_random_seed(0)
        scheduler = CompressionScheduler.from_dict(build_resnet(20, 10), schedule)
        model = scheduler.prepare(lambda: batches.take(1))
        optimizer = keras.optimizers.SGD(0.0, momentum=0.9)
        optimizer.build(model.trainable_variables)
        scheduler.attach(optimizer, Training(1000, 0.01, lambda: batches.take(1), mean_cross_entropy))
        step = TrainStep(model, optimizer, mean_cross_entropy, scheduler, weight_decay=2e-4)
        scheduler.on_epoch_begin(0)
        iterator = iter(batches)
        return lambda: step.run(iterator, rates, 1)

    functions = {name: training_under(schedule) for name, (schedule, _) in SCHEDULES.items()}
    seconds = interleaved_seconds({"dense": dense(), **functions}, rounds, warm_up=2)
    per_step = statistics.median(seconds["dense"]) / STEPS
    print(f"ResNet-20, batch 128, {rounds} rounds of {STEPS} steps; dense step {per_step * 1e3:.0f} ms")
    print(f"{'ratio to the dense step':<44} median (min to max)")
    for name, (_, limit) in SCHEDULES.items():
        print(ratio_line(name, seconds[name], seconds["dense"], limit))


if __name__ == "__main__":
    main()
