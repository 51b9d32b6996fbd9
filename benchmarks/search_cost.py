"""What a whole default search costs, in dense training steps of the same run, and one classical roll-out beside it.

    .venv/bin/python benchmarks/search_cost.py

ResNet-20 on digits32 at --ratio. The dense network is trained first and kept in runs/benchmarks.
"""

import argparse
import json
import resource
import shutil
import statistics
import time

from ratios_of_times import ROOT

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--rollouts", type=int, default=200)
    options = parser.parse_args()

    import numpy as np
    from benchmark_runs import dense_network, learner_for

    from compressors.policies import Policy
    from learners.training import TrainStep

    dense_network(seed=0)
    run_dir = ROOT / "runs" / "benchmarks" / "search_cost"
    shutil.rmtree(run_dir, ignore_errors=True)
    learner = learner_for(run_dir, seed=0, prune_ratio=options.ratio, num_rollouts=options.rollouts)

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
    table = learner.path_table(dense)
    learner.choose(dense, table)
    seconds = time.perf_counter() - started
    steps.append(dense_step_seconds())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    classical = learner_for(
        run_dir, seed=0, prune_ratio=options.ratio, regression_solver="sgd", rollout_fine_tuning="every"
    )
    evaluator = classical.evaluator(dense, table)
    ratios = classical.allocation("uniform", dense, table)
    evaluator.score(ratios, 1)  # compiles
    started = time.perf_counter()
    evaluator.score(ratios, classical.config.weight_sparse.fine_tuning_iterations)
    classical_seconds = time.perf_counter() - started
    steps.append(dense_step_seconds())

    step = statistics.median(steps)
    records = [json.loads(line) for line in (run_dir / "search.jsonl").read_text().splitlines()]
    rollout = statistics.median(record["seconds"] for record in records)
    agent = sum(record["agent_seconds"] for record in records) / sum(record["seconds"] for record in records)
    stages = {name: stage["seconds"] for name, stage in learner.run_dir.stages().items()}
    print(f"ResNet-20 on digits32, {options.ratio:.0%}, {len(records)} roll-outs; dense step {step * 1e3:.0f} ms")
    print(f"{'in dense training steps':<44} measured  goal")
    print(f"{'whole search':<44} {seconds / step:8.0f}  at most 2000, aim 1000")
    for name in ("paths", "search", "finalists"):
        print(f"{'  ' + name:<44} {stages[name] / step:8.0f}")
    print(f"{'one roll-out (median)':<44} {rollout / step:8.1f}  under 10")
    print(f"{'one classical roll-out (sgd, every)':<44} {classical_seconds / step:8.0f}")
    print(f"{'agent, share of the roll-outs':<44} {agent:8.1%}  under 5%")
    print(f"{'peak memory, GB':<44} {peak:8.2f}  under 2")


if __name__ == "__main__":
    main()
