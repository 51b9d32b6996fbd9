"""Learners as the program makes them, for benchmarks that look inside a run. Kept in runs/benchmarks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ratios_of_times import ROOT

from commands import command_line
from learners.config import RunConfig, RunOptions, TeacherConfig
from learners.full_precision import FullPrecisionLearner
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.learner import WeightSparseLearner
from nets.config import NetConfig, TrainingConfig
from nets.resnet_at_cifar10 import ModelHelper
from utils.run_dir import RunDir

RUNS = ROOT / "runs" / "benchmarks"
NO_TEACHER = TeacherConfig()


def dense_network(seed: int) -> Path:
    """ResNet-20 on digits32, trained by the default recipe; `.keras` file."""
    path = RUNS / f"dense_seed{seed}.keras"
    if not path.exists():
        config = RunConfig(RunOptions(seed=seed, save_path=str(path)), NetConfig(seed=seed))
        run_dir = RunDir(RUNS / f"dense_seed{seed}")
        run_dir.open({"seed": seed})
        FullPrecisionLearner(config, ModelHelper(config.net), run_dir).dense_model()
    return path


def learner_of(words: Sequence[str], run_dir: Path) -> WeightSparseLearner:
    """The weight-sparse learner of a command line, `[net script, flags ...]`."""
    config, helper_class = command_line.with_network(
        command_line.read_command_line([*words, "--learner", "weight-sparse", "--quiet"])
    )
    directory = RunDir(run_dir)
    if not (run_dir / "config.json").exists():
        directory.open({"command": " ".join(words)})
    return WeightSparseLearner(config, helper_class(config.net), directory)


def learner_for(
    run_dir: Path, seed: int, epochs_ratio: float = 1.0, teacher: TeacherConfig = NO_TEACHER, **weight_sparse
) -> WeightSparseLearner:
    """The weight-sparse learner with default flags but for those given, on the dense network of `seed`."""
    net = NetConfig(training=TrainingConfig(epochs_ratio=epochs_ratio), seed=seed)
    config = RunConfig(
        RunOptions(learner="weight-sparse", seed=seed, save_path=str(RUNS / f"dense_seed{seed}.keras"), quiet=True),
        net,
        teacher,
        WeightSparseConfig(**weight_sparse),
    )
    directory = RunDir(run_dir)
    if not (run_dir / "config.json").exists():
        directory.open(dataclasses.asdict(config.weight_sparse))
    return WeightSparseLearner(config, ModelHelper(net), directory)
