"""Whether anything grows in a long run: memory, open files, threads, networks, compiled programs, time of a roll-out.

    .venv/bin/python benchmarks/long_run.py

In one process, one after the other: a whole `weight-sparse` run of a tiny network on digits32, with 2,000 roll-outs,
a dense and a final training of 5,000 steps each; a whole `lottery-ticket` run of 20 rounds; and 40 networks built,
pruned and dropped as a Python user does. All of it by the program's own code and with its files. Ends with code 1 where
memory grows by 30 MB or more within one of these once it is warm, or where anything else grows at all.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ratios_of_times import ROOT

TINY = str(ROOT / "tests" / "nets_for_tests" / "tiny_at_cifar10_run.py")
MEGABYTES = 30.0  # that may be gained
SLOWER = 1.5  # how many times as long a roll-out may take in the second half of the search
BATCH, IMAGES, EPOCHS_RATIO_OF_ONE = 32, 3200, 0.125  # 8 epochs are a whole training on digits32
STEPS_PER_EPOCH = IMAGES // BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--networks", type=int, default=20)
    options = parser.parse_args()

    from process_size import Series, verdict

    run_dir = Path(tempfile.mkdtemp(prefix="trimflow-long-run-"))
    try:
        search = Series("search", "roll-outs", warm_up=options.rollouts // 10)
        trainings = {
            name: Series(f"{name} training", "steps", warm_up=options.steps // 10) for name in ("dense", "final")
        }
        rounds = Series("lottery ticket", "rounds", warm_up=3)
        networks = Series("pruner API", "networks", warm_up=5)
        sparse_run(run_dir / "sparse", options, search, trainings)
        lottery_run(run_dir / "lottery", options.rounds, rounds)
        pruned_networks(options.networks, networks)
        print()
        problems = search.problems(MEGABYTES, SLOWER)
        for series in (*trainings.values(), rounds, networks):
            problems += series.problems(MEGABYTES)
        verdict(problems)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def sparse_run(run_dir: Path, options: Any, search: Any, trainings: dict[str, Any]) -> None:
    """A whole run of weight-sparse: dense training, paths, search, finalists, final training, report."""
    from export.tensorboard import ScalarLog
    from learners import trainer
    from learners.weight_sparsification import learner
    from learners.weight_sparsification.ratio_search import SearchLog

    every_rollout, every_step = options.rollouts // 20, options.steps // 20

    class WatchedSearch(SearchLog):
        def append(self, records, agent):
            super().append(records, agent)
            if len(self.records) % every_rollout == 0:
                search.look(len(self.records))

    class WatchedScalars(ScalarLog):
        def __init__(self, directory):
            super().__init__(directory)
            self.series = trainings["dense" if Path(directory).name == "dense" else "final"]

        def log(self, step, values):
            super().log(step, values)
            if step % every_step == 0:
                self.series.look(step)

    words = ["--learner", "weight-sparse", "--ws_nb_rlouts", str(options.rollouts)]
    words += ["--summ_step", str(every_step), "--save_step", "100"]
    with patch.object(learner, "SearchLog", WatchedSearch), patch.object(trainer, "ScalarLog", WatchedScalars):
        run(learner.WeightSparseLearner, run_dir, words, options.steps)


def lottery_run(run_dir: Path, num_rounds: int, rounds: Any) -> None:
    """A whole run of lottery-ticket, each round a short training."""
    from learners.lottery_ticket.learner import LotteryTicketLearner

    class WatchedLearner(LotteryTicketLearner):
        def _train_round(self, number, step, policy):
            super()._train_round(number, step, policy)
            rounds.look(number)

    words = ["--learner", "lottery-ticket", "--lt_prune_iterations", str(num_rounds)]
    run(WatchedLearner, run_dir, words, STEPS_PER_EPOCH)


def run(learner_class: type, run_dir: Path, words: Sequence[str], steps: int) -> None:
    """A run as the command line gives it, without exports."""
    from commands import command_line
    from utils.run_dir import RunDir

    words = [TINY, "--data_disk", "embedded", "--model_http_url=", "--export_formats", "none", "--quiet", *words]
    words += ["--nb_smpls_train", str(IMAGES), "--nb_smpls_val", "500", "--nb_smpls_eval", "500"]
    words += ["--batch_size", str(BATCH), "--nb_epochs_rat", str(steps / STEPS_PER_EPOCH * EPOCHS_RATIO_OF_ONE)]
    config, helper_class = command_line.with_network(command_line.read_command_line(words))
    directory = RunDir(run_dir)
    directory.open({"command": " ".join(words)})
    learner = learner_class(config, helper_class(config.net), directory)
    learner.check()
    learner.run()


def pruned_networks(count: int, series: Any) -> None:
    """Networks of a Python user's, two a turn: one pruned at once and then trained, one by its pruning paths."""
    import keras
    import numpy as np
    from synthetic import mean_cross_entropy, random_batches

    import trimflow
    from compressors.policies import Policy
    from learners.train_step import TrainStep

    def prune_two() -> None:
        model = small_network()
        trimflow.LevelPruner(model, [{"sparsity": 0.8, "op_types": ["default"]}]).compress()
        step = TrainStep(model, keras.optimizers.SGD(0.01), mean_cross_entropy, Policy())
        step.run(iter(random_batches(8)), np.full(3, 0.01))
        images, labels = next(iter(random_batches(64)))
        data = images.numpy(), (images.numpy(), labels.numpy())
        trimflow.SearchPruner(small_network(), *data, 0.5, "dp", quiet=True).compress()

    for number in range(1, count + 1):
        prune_two()
        series.look(number)


def small_network() -> Any:
    """About 4,000 weights, with batch norm."""
    from keras import Input, Sequential, layers

    convolutions = [
        layer
        for filters in (8, 16, 16)
        for layer in (layers.Conv2D(filters, 3, 2, use_bias=False), layers.BatchNormalization(), layers.ReLU())
    ]
    return Sequential([Input((32, 32, 3)), *convolutions, layers.GlobalAveragePooling2D(), layers.Dense(10)])


if __name__ == "__main__":
    main()
