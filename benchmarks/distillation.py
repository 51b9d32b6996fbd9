"""Test accuracy of weight-sparse with and without a teacher: the ablation of --enbl_dst.

    .venv/bin/python benchmarks/distillation.py            # measures what is missing, then prints the table
    .venv/bin/python benchmarks/distillation.py --table    # prints what is known

ResNet-20 on digits32, --ws_prune_ratio_prtl dp, all other flags by default. For each seed a dense network is trained by
the default recipe; it is pruned and trained to the end twice from the same weights with the same batches: without and
with --enbl_dst, whose teacher is this dense network.
Each figure is written to benchmarks/results/distillation.jsonl as it is found, and not measured twice.
"""

import argparse
import json
import math
import shutil
import statistics
from collections.abc import Sequence

from ratios_of_times import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "distillation.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.9, 0.95])
    parser.add_argument("--loss_w_dst", type=float, default=4.0)
    parser.add_argument("--tempr_dst", type=float, default=4.0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    teachers = [None, (options.loss_w_dst, options.tempr_dst)]
    if not options.table:
        for seed in range(options.seeds):
            for ratio in options.ratios:
                for teacher in teachers:
                    if _accuracy(seed, ratio, teacher) is None:
                        _measure(seed, ratio, teacher)
    _print_table(options.ratios, options.seeds, teachers[1])


def _results() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def _accuracy(seed: int, ratio: float, teacher: tuple[float, float] | None) -> float | None:
    """Of the run as it was measured; None where it was not yet. The teacher is (loss weight, temperature) or None."""
    wanted = {"seed": seed, "ratio": ratio, "teacher": teacher and list(teacher)}
    return next((row["accuracy"] for row in _results() if wanted.items() <= row.items()), None)


def _measure(seed: int, ratio: float, teacher: tuple[float, float] | None) -> None:
    import keras
    from benchmark_runs import RUNS, dense_network, learner_for

    from learners.config import TeacherConfig

    keras.backend.clear_session()
    dense_network(seed)
    run_dir = RUNS / f"distillation_{ratio}_seed{seed}_{'without' if teacher is None else f'{teacher[0]}_{teacher[1]}'}"
    config = TeacherConfig() if teacher is None else TeacherConfig(True, *teacher)
    learner = learner_for(run_dir, seed, teacher=config, prune_ratio=ratio, prune_ratio_protocol="dp")
    paths = RUNS / f"paths_seed{seed}.npz"  # they are the same for all runs of a seed
    if paths.exists() and "paths" not in learner.run_dir.stages():
        shutil.copyfile(paths, learner.run_dir.file("paths.npz"))
        learner.run_dir.finish_stage("paths", 0.0)
    report = learner.run()
    shutil.copyfile(learner.run_dir.file("paths.npz"), paths)
    row = {"seed": seed, "ratio": ratio, "teacher": teacher, "accuracy": report["compressed"]["accuracy"]}
    row |= {"sparsity": report["compressed"]["sparsity"], "dense": report["dense"]["accuracy"]}
    row |= {"iterations": report["training"]["iterations"], "step_seconds": report["search"]["dense_step_seconds"]}
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def _print_table(ratios: Sequence[float], seeds: int, teacher: tuple[float, float]) -> None:
    dense = {row["seed"]: row["dense"] for row in _results()}
    print(f"\ndense {_spread(list(dense.values()))}; teacher: weight {teacher[0]}, temperature {teacher[1]}\n")
    print("| removed | seeds | without | with --enbl_dst | difference, seed by seed | mean and its standard error |")
    print("|---|---|---|---|---|---|")
    for ratio in ratios:
        pairs = [(_accuracy(seed, ratio, None), _accuracy(seed, ratio, teacher)) for seed in range(seeds)]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            without, taught = zip(*pairs, strict=True)
            gains = [100 * (b - a) for a, b in pairs]
            each = ", ".join(f"{gain:+.2f}" for gain in gains)
            cells = (f"{ratio:.0%}", str(len(pairs)), _spread(without), _spread(taught), each, f"{_mean(gains)} points")
            print(f"| {' | '.join(cells)} |")


def _mean(gains: Sequence[float]) -> str:
    """Mean of paired differences, and its standard error where there are two or more."""
    error = f" +- {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{error}"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})" if values else "unknown"


if __name__ == "__main__":
    main()
