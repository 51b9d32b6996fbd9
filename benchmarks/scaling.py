"""What a second worker brings: roll-outs and images per second of two over one, and what Horovod adds to a step.

    .venv/bin/python benchmarks/scaling.py

Two processes that Horovod joins on this machine, each on a core of its own with one thread. One and two workers take
turns in the same run. ResNet-20 on digits32; the searched network is not trained, which does not change what a roll-out
costs. Then the pieces of the model for many workers in docs/scaling.md. Needs two free cores.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ratios_of_times import ROOT, asked_rounds, interleaved_seconds

BATCH = 128
STEPS = 4  # in one call
AGENT_ROLLOUTS = 8  # a worker's in one measurement
NUMBERS = (1_000, 100_000, 10_000_000)  # of floats in the allreduce measured
BATCH_NORM_IMAGES, VALIDATION_IMAGES = 256, 500
ROUNDS = "TRIMFLOW_BENCHMARK_ROUNDS"


def main() -> None:
    if "HOROVOD_RANK" in os.environ:
        work(int(os.environ[ROUNDS]))
        return
    rounds = asked_rounds(__doc__)
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        sys.exit(f"two cores are needed. Received: {cores}")
    print(f"ResNet-20, batch {BATCH} a worker, {rounds} rounds, each worker on one core with one thread", flush=True)
    print(f"{'':<60} median (min to max)", flush=True)
    for size in (1, 2):
        start(size, rounds)


def start(size: int, rounds: int) -> None:
    """Runs this file in so many processes."""
    folder = Path(sys.executable).parent
    environment = os.environ | {
        ROUNDS: str(rounds),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [str(folder / "horovodrun"), "-np", str(size), "--gloo", sys.executable, __file__]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    for line in process.stdout:
        if line.startswith("[0]<stdout>:"):
            print(line.removeprefix("[0]<stdout>:"), end="", flush=True)
    if process.wait():
        sys.exit(process.stderr.read()[-3000:])


def work(rounds: int) -> None:
    """What each of the processes does."""
    rank = int(os.environ["HOROVOD_LOCAL_RANK"])
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    from utils.workers import ALONE, HorovodWorkers

    workers = HorovodWorkers(timeout=300)
    if workers.size == 1:
        seconds = interleaved_seconds({"without": training(ALONE), "with": training(workers)}, rounds, warm_up=2)
        print_ratios(
            "a step with Horovod, one worker / without it", seconds["with"], seconds["without"], "at most 1.03"
        )
        return

    steps = in_turn(training(ALONE), training(workers), workers, rounds)
    print_ratios("images a second, two workers / one", *rates(steps), "at least 1.7")
    rollouts = in_turn(searching(ALONE), searching(workers), workers, max(3, rounds // 4))
    print_ratios("roll-outs a second, two workers / one", *rates(rollouts), "at least 1.85")
    pieces = measure_pieces(workers)
    if workers.is_first:
        print("pieces of the model in docs/scaling.md:")
        print(f"  a step of one worker {statistics.median(steps['alone']) / STEPS * 1e3:.0f} ms")
        print(f"  a roll-out of one worker {statistics.median(rollouts['alone']) / AGENT_ROLLOUTS * 1e3:.0f} ms")
        for name, value in pieces.items():
            print(f"  {name} {value}")


def in_turn(
    alone: Callable[[], object], together: Callable[[], object], workers, rounds: int
) -> Mapping[str, list[float]]:
    """Seconds of rank 0 alone, the other one waiting without work, and of both together."""
    return interleaved_seconds(
        {
            "alone": lambda: (alone() if workers.is_first else None, workers.all_gather(None)),
            "together": lambda: (together(), workers.all_gather(None)),
        },
        rounds,
        warm_up=2,
    )


def rates(seconds: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    """Work in a second of two workers, who together did twice as much, and of one."""
    return [2 / value for value in seconds["together"]], [1 / value for value in seconds["alone"]]


def print_ratios(name: str, numerator: list[float], denominator: list[float], goal: str) -> None:
    if os.environ["HOROVOD_RANK"] == "0":
        ratios = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
        print(
            f"{name:<60} {statistics.median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})  goal {goal}",
            flush=True,
        )


def training(workers) -> Callable[[], object]:
    """Some training steps in one call."""
    import keras
    import numpy as np
    from synthetic import mean_cross_entropy, random_batches

    from compressors.policies import Policy
    from learners.training import TrainStep
    from nets.resnet import build_resnet

    keras.utils.set_random_seed(0)
    model, optimizer = build_resnet(20, 10), keras.optimizers.SGD(0.0, momentum=0.9)
    step = TrainStep(model, optimizer, mean_cross_entropy, Policy(), 2e-4, workers=workers)
    iterator, rates = iter(random_batches(BATCH)), np.full(STEPS, 0.001)
    return lambda: step.run(iterator, rates)


def searching(workers) -> Callable[[], object]:
    """A search of the agent's roll-outs, `AGENT_ROLLOUTS` a worker, the agent learning from each of them."""
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
    table = PathTable.build(kernels, collect_grams(dense, [images[:64]]), densities=[0.9**k for k in range(0, 56, 11)])
    batches = helper.validation_batches().take(VALIDATION_IMAGES // 100)
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
            resolved_likelihood=lambda ratios: 0.0,
            quiet=True,
            workers=workers,
        )

    more(1)
    more(2 * workers.size)  # compiles what learns
    assert np.isfinite(records.records[-1]["reward"])
    return lambda: more(AGENT_ROLLOUTS * workers.size)


def measure_pieces(workers) -> dict[str, str]:
    """Times of single collective operations over this machine's loopback."""
    import tensorflow as tf

    pieces = {}
    for numbers in NUMBERS:
        tensor = tf.zeros([numbers])
        seconds = interleaved_seconds({"mean": lambda tensor=tensor: workers.mean([tensor])}, 15, warm_up=3)["mean"]
        median = statistics.median(seconds)
        name = f"allreduce of {numbers * 4 / 1e6:g} MB"
        pieces[name] = f"{median * 1e3:.2f} ms, {numbers * 4 / median / 1e9:.2f} GB/s"
    message = bytes(10_000)
    seconds = interleaved_seconds({"gather": lambda: workers.all_gather(message)}, 15, warm_up=3)["gather"]
    pieces["all-gather of 10 kB a worker"] = f"{statistics.median(seconds) * 1e3:.2f} ms"
    return pieces


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    if "HOROVOD_RANK" not in os.environ:
        print(f"in {time.perf_counter() - started:.0f} s")
