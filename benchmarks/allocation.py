"""Test accuracy of each protocol's allocation: before any training, and after equal final training.

    .venv/bin/python benchmarks/allocation.py            # measures what is missing, then prints the table
    .venv/bin/python benchmarks/allocation.py --table    # prints what is known

ResNet-20 on digits32. For each seed a dense network is trained by the default recipe. Each allocation is measured

- as its paths give it ("paths": layers from their pruning paths, batch norm re-estimated),
- re-solved front to back ("progressive"), and
- after --iterations steps from there ("trained": masks fixed, warm-up and cosine, the same batches for all).

`optimal` is the default search; the fine-tuning of its finalists only chooses among them.
Each figure is written to benchmarks/results/allocation.jsonl as it is found, and not measured twice.
"""

import argparse
import json
import shutil
import statistics

from ratios_of_times import ROOT

PROTOCOLS = ("uniform", "heurist", "erk", "lamp", "global", "dp", "optimal")
STAGES = ("paths", "progressive", "trained")
RESULTS = ROOT / "benchmarks" / "results" / "allocation.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.95, 0.9, 0.98])
    parser.add_argument("--iterations", type=int, default=78)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    cells = [(ratio, seed) for ratio in options.ratios for seed in range(options.seeds)]
    if not options.table:
        for ratio, seed in cells:
            known = {(row["ratio"], row["seed"], row["protocol"]) for row in _results()}
            missing = [protocol for protocol in options.protocols if (ratio, seed, protocol) not in known]
            if missing:
                _measure(seed, ratio, missing, options.iterations)
    _print_table(options.ratios)


def _results() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def _measure(seed: int, ratio: float, protocols: list[str], iterations: int) -> None:
    import keras
    import numpy as np
    import tensorflow as tf
    from benchmark_runs import RUNS, dense_network, learner_for

    from compressors.graph import prunable_kernels
    from compressors.masks import MaskSet
    from compressors.policies import FixedMasks
    from learners.evaluation import Evaluation
    from learners.train_step import TrainStep
    from nets.learning_rates import warm_up_cosine

    keras.backend.clear_session()
    dense_network(seed)
    run_dir = RUNS / f"allocation_{ratio}_seed{seed}"
    shutil.rmtree(run_dir, ignore_errors=True)
    learner = learner_for(run_dir, seed, prune_ratio=ratio)
    dense = learner.dense_model()
    dense_accuracy = learner.run_dir.stages()["dense"]["accuracy"]
    table = learner.path_table(dense)
    evaluator = learner.evaluator(dense, table)
    resolve = learner.resolver(dense, evaluator)
    model = evaluator.model
    test = Evaluation(model, learner.helper.evaluation_batches(), learner.helper.loss, in_memory=True)
    masks = MaskSet(prunable_kernels(model))
    training = learner.config.net.training
    step = TrainStep(model, learner.optimizer(), learner.helper.loss, FixedMasks(masks), training.weight_decay)
    rates = warm_up_cosine(np.arange(iterations), learner.helper.peak_learning_rate, iterations)
    for protocol in protocols:
        if protocol == "optimal":
            ratios = learner.choose(dense, table)[0]
        else:
            ratios = learner.allocation(protocol, dense, table)
        accuracies = {}
        evaluator.prune(ratios)
        accuracies["paths"] = test()["accuracy"]
        resolve(ratios)
        accuracies["progressive"] = test()["accuracy"]
        masks.adopt_kernels()
        for variable in step.optimizer.variables:
            variable.assign(tf.zeros_like(variable.value))
        step.run(iter(learner.helper.training_batches()), rates)
        accuracies["trained"] = test()["accuracy"]
        row = {"ratio": ratio, "seed": seed, "protocol": protocol, "iterations": iterations, "dense": dense_accuracy}
        RESULTS.parent.mkdir(exist_ok=True)
        with open(RESULTS, "a") as file:
            file.write(json.dumps({**row, **accuracies}) + "\n")
        print(json.dumps({**row, **accuracies}), flush=True)


def _print_table(ratios: list[float]) -> None:
    rows = _results()
    for ratio in ratios:
        dense = statistics.mean({row["seed"]: row["dense"] for row in rows if row["ratio"] == ratio}.values())
        print(f"\n{ratio:.0%} removed; dense {dense:.3f}; mean test accuracy over seeds (lowest to highest)\n")
        print("| protocol | seeds | " + " | ".join(STAGES) + " |\n|---|---|---|---|---|")
        for protocol in PROTOCOLS:
            mine = [row for row in rows if (row["ratio"], row["protocol"]) == (ratio, protocol)]
            if mine:
                print(
                    f"| {protocol} | {len(mine)} | " + " | ".join(_spread([r[s] for r in mine]) for s in STAGES) + " |"
                )


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
