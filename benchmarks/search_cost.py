"""What a whole default search costs, in dense training steps of the same run, and one classical roll-out beside it.

    .venv/bin/python benchmarks/search_cost.py
    .venv/bin/python benchmarks/search_cost.py --net mobilenet_v2 --image_size 96

ResNet-20 with batches of 128, or MobileNetV2 with batches of 32, on digits32 at --ratio. The dense network is trained
first (MobileNetV2 for --epochs only: what a search costs does not depend on how good the network is) and kept in
runs/benchmarks.
"""

import argparse
import json
import resource
import shutil
import statistics
import time

from ratios_of_times import ROOT

STEPS = 20
GOALS = {  # in dense steps: the whole search, its paths and one allocation of dp; and GB
    "resnet_20": {"whole": "at most 2000, aim 1000", "dp": "", "peak": "under 2"},
    "mobilenet_v2": {"whole": "at most 2000", "dp": "at most 200", "peak": "under 6"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=tuple(GOALS), default="resnet_20")
    parser.add_argument("--image_size", type=int, default=96, help="of mobilenet_v2")
    parser.add_argument("--epochs", type=float, default=0.25, help="dense training of mobilenet_v2")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--no_classical", action="store_true", help="leave the classical roll-out out")
    options = parser.parse_args()

    import numpy as np
    from benchmark_runs import RUNS, dense_network, learner_of

    from compressors.policies import Policy
    from learners.train_step import TrainStep

    run_dir = ROOT / "runs" / "benchmarks" / f"search_cost_{options.net}"
    classical_dir = run_dir.with_name(f"{run_dir.name}_classical")
    for directory in (run_dir, classical_dir):
        shutil.rmtree(directory, ignore_errors=True)
    if options.net == "resnet_20":
        words = ["nets/resnet_at_cifar10_run.py", "--data_disk", "embedded", "--save_path", str(dense_network(seed=0))]
    else:
        dense = RUNS / f"dense_{options.net}_{options.image_size}.keras"
        words = ["nets/mobilenet_at_ilsvrc12_run.py", "--mobilenet_version", "2", "--data_disk", "embedded"]
        words += ["--image_size", str(options.image_size), "--batch_size", "32", "--save_path", str(dense)]
        if not dense.exists():
            learner_of([*words, "--nb_epochs_rat", str(options.epochs / 4)], RUNS / dense.stem).dense_model()
    words += ["--ws_prune_ratio", str(options.ratio), "--ws_nb_rlouts", str(options.rollouts)]
    learner = learner_of(words, run_dir)

    def dense_step_seconds() -> float:
        model = learner.new_model()
        step = TrainStep(model, learner.optimizer(), learner.helper.loss, Policy(), 2e-4)
        iterator = iter(learner.helper.training_batches())
        step.run(iterator, np.full(3, 0.01))
        started = time.perf_counter()
        step.run(iterator, np.full(STEPS, 0.01))
        return (time.perf_counter() - started) / STEPS

    steps = [dense_step_seconds()]
    started = time.perf_counter()
    dense = learner.dense_model()
    loaded = time.perf_counter()
    table = learner.path_table(dense)
    evaluator = learner.evaluator(dense, table)
    ratios = learner.allocation("dp", dense, table)
    learner.resolver(dense, evaluator)(ratios)
    dp_seconds = time.perf_counter() - loaded
    del evaluator
    steps.append(dense_step_seconds())
    whole = time.perf_counter()
    learner.choose(dense, table)
    seconds = time.perf_counter() - whole + learner.run_dir.stages()["paths"]["seconds"] + loaded - started
    steps.append(dense_step_seconds())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    classical_seconds = None
    if not options.no_classical:
        flags = ["--ws_rg_solver", "sgd", "--ws_rlout_ft", "every"]
        classical = learner_of([*words, *flags], classical_dir)
        evaluator = classical.evaluator(dense, table)
        ratios = classical.allocation("uniform", dense, table)
        evaluator.score(ratios, 1)  # compiles
        started = time.perf_counter()
        evaluator.score(ratios, classical.config.weight_sparse.fine_tuning_iterations)
        classical_seconds = time.perf_counter() - started
        steps.append(dense_step_seconds())

    step, goals = statistics.median(steps), GOALS[options.net]
    records = [json.loads(line) for line in (run_dir / "search.jsonl").read_text().splitlines()]
    rollout = statistics.median(record["seconds"] for record in records)
    agent = sum(record["agent_seconds"] for record in records) / sum(record["seconds"] for record in records)
    stages = {name: stage["seconds"] for name, stage in learner.run_dir.stages().items()}
    print(
        f"{options.net} on digits32, {learner.helper.dataset.image_shape[0]} px, {options.ratio:.0%}, {len(records)} "
        f"roll-outs; dense step {step * 1e3:.0f} ms ({', '.join(f'{value * 1e3:.0f}' for value in steps)})"
    )
    print(f"{'in dense training steps':<44} measured  goal")
    print(f"{'paths, dp, solved front to back':<44} {dp_seconds / step:8.0f}  {goals['dp']}")
    print(f"{'whole search':<44} {seconds / step:8.0f}  {goals['whole']}")
    for name in ("paths", "search", "finalists"):
        print(f"{'  ' + name:<44} {stages[name] / step:8.0f}")
    print(f"{'one roll-out (median)':<44} {rollout / step:8.1f}  under 10")
    if classical_seconds is not None:
        print(f"{'one classical roll-out (sgd, every)':<44} {classical_seconds / step:8.0f}")
    print(f"{'agent, share of the roll-outs':<44} {agent:8.1%}  under 5%")
    print(f"{'peak memory of the search, GB':<44} {peak:8.2f}  {goals['peak']}")


if __name__ == "__main__":
    main()
