"""What a second worker brings: roll-outs and images per second of two over one, and what Horovod adds to a step.

    .venv/bin/python benchmarks/scaling.py

Processes that take turns on this machine: one without Horovod, one with it, and two that it joins, each on a core of
its own with one thread. ResNet-20 on digits32; the searched network is not trained, which does not change what a
roll-out costs. Then the pieces of the model for many workers in docs/scaling.md. Needs two cores and a quiet machine.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ratios_of_times import ROOT, asked_rounds

BATCH = 128
STEPS, CALLS = 4, 6  # optimizer steps in one call, and calls
AGENT_ROLLOUTS = 8  # a worker's
REPEATS = 15  # of one collective operation
NUMBERS = (1_000, 100_000, 10_000_000)  # of floats in the allreduce measured
CALIBRATION_IMAGES, BATCH_NORM_IMAGES, VALIDATION_BATCHES = 64, 256, 25
NUM_WORKERS = "TRIMFLOW_BENCHMARK_WORKERS"  # 0: without Horovod


def main() -> None:
    if NUM_WORKERS in os.environ:
        work(int(os.environ[NUM_WORKERS]))
        return
    rounds = asked_rounds(__doc__, default=4)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed. Received: one")
    print(f"ResNet-20, batch {BATCH} a worker, {rounds} rounds, each worker on one core with one thread", flush=True)
    found = [[figures(size) for size in (0, 1, 2)] for _ in range(rounds)]
    plain, one, two = zip(*found, strict=True)
    print(f"{'':<60} median (min to max)")
    print_ratios("a step with Horovod, one worker / without it", one, plain, "step", 1, "at most 1.03")
    print_ratios("images a second, two workers / one without Horovod", plain, two, "step", 2, "at least 1.7")
    print_ratios("roll-outs a second, two workers / one without Horovod", plain, two, "rollout", 2, "at least 1.85")
    print(f"a step of one worker {seconds_of(plain, 'step') * 1e3:.0f} ms")
    print(f"a roll-out of one worker {seconds_of(plain, 'rollout') * 1e3:.0f} ms")
    for numbers in NUMBERS:
        seconds, megabytes = seconds_of(two, f"mean_{numbers}"), numbers * 4 / 1e6
        print(f"allreduce of {megabytes:g} MB {seconds * 1e3:.1f} ms, {megabytes / seconds / 1e3:.2f} GB/s")
    print(f"all-gather of 10 kB a worker {seconds_of(two, 'gather') * 1e3:.1f} ms")


def figures(size: int) -> dict[str, float]:
    """What rank 0 of so many workers measured, in seconds."""
    folder = Path(sys.executable).parent
    environment = os.environ | {
        NUM_WORKERS: str(size),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    launch = [str(folder / "horovodrun"), "-np", str(size), "--gloo"] if size else []
    done = subprocess.run(
        [*launch, sys.executable, __file__], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    lines = [line.partition("figures:")[2] for line in done.stdout.splitlines() if "figures:" in line]
    if done.returncode or not lines:
        sys.exit(done.stderr[-3000:])
    return json.loads(lines[0])


def print_ratios(name: str, numerators, denominators, key: str, factor: int, goal: str) -> None:
    """Ratios of seconds round by round, times the work that was done in the denominator's."""
    ratios = sorted(factor * a[key] / b[key] for a, b in zip(numerators, denominators, strict=True))
    print(f"{name:<60} {statistics.median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})  goal {goal}")


def seconds_of(found, key: str) -> float:
    return statistics.median(one[key] for one in found)


def work(size: int) -> None:
    """What each process measures; rank 0 tells."""
    rank = int(os.environ.get("HOROVOD_LOCAL_RANK", "0"))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    from utils.workers import ALONE, HorovodWorkers

    workers = HorovodWorkers(timeout=300) if size else ALONE
    found = {"step": timed(training(workers), CALLS, workers) / STEPS}
    if size != 1:
        found["rollout"] = timed(searching(workers), 1, workers) / AGENT_ROLLOUTS
    if size == 2:
        found |= collectives(workers)
    if workers.is_first:
        print("figures:" + json.dumps(found), flush=True)


def timed(function: Callable[[], object], calls: int, workers: Any) -> float:
    """Median seconds of a call, after one that does not count."""
    function()
    seconds = []
    for _ in range(calls):
        workers.all_gather(None)
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def training(workers) -> Callable[[], object]:
    """Some training steps in one call."""
    import keras
    import numpy as np
    from synthetic import mean_cross_entropy, random_batches

    from compressors.policies import Policy
    from learners.train_step import TrainStep
    from nets.resnet import build_resnet

    keras.utils.set_random_seed(0)
    model, optimizer = build_resnet(20, 10), keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(model, optimizer, mean_cross_entropy, Policy(), 2e-4, workers=workers)
    iterator, rates = iter(random_batches(BATCH)), np.full(STEPS, 0.001)
    return lambda: step.run(iterator, rates)


def searching(workers) -> Callable[[], object]:
    """A search that goes on by `AGENT_ROLLOUTS` roll-outs a worker, the agent learning from each of all workers."""
    import keras
    import numpy as np

    from compressors.graph import prunable_kernels
    from compressors.path_table import PathTable
    from compressors.ratios import uniform
    from compressors.regression import collect_grams
    from learners.evaluation import Evaluation
    from learners.weight_sparsification.allocation import MAX_LAYER_RATIO, dense_ends, layer_specs
    from learners.weight_sparsification.ratio_search import SearchRecords, search
    from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv
    from learners.weight_sparsification.rollout_eval import PathPruner, RolloutEvaluator
    from nets.config import NetConfig
    from nets.resnet_at_cifar10 import ModelHelper
    from rl_agents.ddpg.agent import DdpgAgent
    from rl_agents.ddpg.config import DdpgConfig

    helper = ModelHelper(NetConfig())
    keras.utils.set_random_seed(0)
    dense = helper.build_model()
    model = keras.models.clone_model(dense)
    model.set_weights(dense.get_weights())
    images = helper.calibration_images(BATCH_NORM_IMAGES)
    kernels = prunable_kernels(dense)
    table = PathTable.build(
        kernels, collect_grams(dense, [images[:CALIBRATION_IMAGES]]), densities=[0.9**k for k in range(0, 56, 11)]
    )
    batches = helper.validation_batches().take(VALIDATION_BATCHES)
    validation = Evaluation(model, batches, helper.loss, in_memory=True)
    evaluator = RolloutEvaluator(model, PathPruner(model, dense, table, images), validation)
    layers = layer_specs(kernels)
    config = RatioConfig(0.75, "single-obj", True, MAX_LAYER_RATIO)
    given = {"uniform": uniform(layers, 0.75, dense_ends(layers, True), MAX_LAYER_RATIO)}
    agent = DdpgAgent(
        RolloutEnv(layers, config).state_size,
        1,
        DdpgConfig(),
        num_rollouts=200,
        replay_capacity=len(layers),
        seed=0,
    )
    records = SearchRecords()

    def more(count: int) -> None:
        search(
            layers,
            config,
            agent,
            given,
            evaluator.score,
            records,
            len(records.records) + count,
            best_given=list,
            quiet=True,
            workers=workers,
        )

    more(1)
    more(2 * workers.size)  # compiles what learns
    assert np.isfinite(records.records[-1]["reward"])
    return lambda: more(AGENT_ROLLOUTS * workers.size)


def collectives(workers: Any) -> dict[str, float]:
    """Seconds of single collective operations over this machine's loopback."""
    import tensorflow as tf

    found = {}
    for numbers in NUMBERS:
        tensor = tf.zeros([numbers])
        found[f"mean_{numbers}"] = timed(lambda tensor=tensor: workers.mean([tensor]), REPEATS, workers)
    message = bytes(10_000)
    return found | {"gather": timed(lambda: workers.all_gather(message), REPEATS, workers)}


if __name__ == "__main__":
    main()
