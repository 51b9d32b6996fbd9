"""Trainer: a network's recipe and the run's flags given to the training loop, which is watched by curves and a plot."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from compressors.distillation import Teacher
from compressors.policies import Policy
from export.tensorboard import ScalarLog
from learners.config import RunConfig
from learners.evaluation import Evaluation
from learners.precision import FLOAT32
from learners.train_step import TrainStep
from learners.training import Monitor, TrainingResult, train
from nets.model_helper import ModelHelper
from utils.checkpoints import is_kept
from utils.run_dir import RunDir
from utils.workers import Workers


@dataclass(frozen=True)
class Trainer:
    """Trains in a run directory; the steps of all trainings of a run are made here, and all go through `run`."""

    config: RunConfig
    helper: ModelHelper
    run_dir: RunDir
    workers: Workers

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's events lie."""
        return Path(self.config.run.log_dir or self.run_dir.path / "tensorboard")

    def learning_rates(self) -> np.ndarray:
        """The recipe's learning rate at each step of a full training."""
        return self.helper.learning_rate_at(np.arange(self.helper.num_iterations))

    def step(
        self, model: keras.Model, policy: Policy, optimizer: keras.Optimizer, teacher: Teacher | None = None
    ) -> TrainStep:
        """A step of a training of this run."""
        options = self.config.net.training
        return TrainStep(
            model,
            optimizer,
            self.helper.training_loss,
            policy,
            options.weight_decay,
            self.helper.quality,
            self.workers,
            options.sync_batch_norm,
            teacher,
            options.mixed_precision_type if options.mixed_precision else FLOAT32,
            options.xla,
        )

    def run(
        self,
        name: str,
        step: TrainStep,
        policy: Policy,
        *,
        title: str,
        learning_rates: np.ndarray | None = None,
        first_step: int = 0,
    ) -> TrainingResult:
        """A training with checkpoints in `<run_dir>/<name>`, TensorBoard scalars and a plot.

        Args:
            learning_rates: `[steps]`; the recipe's where there are none.
            first_step: where it begins.
        """
        options, checkpoint = self.config.run, self.run_dir.file(name, "checkpoint.npz")
        if name in self.run_dir.stages() and self.workers.is_first and not is_kept(checkpoint):
            print(f"warning: {title} is finished, but {checkpoint} is missing; it begins anew", file=sys.stderr)
        with ScalarLog(self.tensorboard / name) as log:

            def log_row(row: Mapping[str, float]) -> None:
                if self.workers.is_first:
                    log.log(int(row["step"]), self._scalars(row))

            result = train(
                step,
                policy,
                self.helper.training_batches,
                self.learning_rates() if learning_rates is None else learning_rates,
                checkpoint,
                Monitor(
                    options.summary_interval,
                    options.save_interval,
                    on_row=log_row,
                    quiet=options.quiet,
                    metric_name=self.helper.metric_name,
                ),
                title=title,
                steps_per_epoch=self.helper.steps_per_epoch,
                validation=Evaluation(
                    step.model,
                    self.helper.validation_batches(),
                    self.helper.loss,
                    quality=self.helper.quality,
                    workers=self.workers,
                ),
                first_step=first_step,
            )
        if self.workers.is_first:
            from export.plots import plot_training  # loads Matplotlib, which a dry run need not wait for

            path = self.run_dir.file("plots", f"training_{name}.png")
            plot_training(result.history, path, self.helper.dataset.title, self.helper.metric_name)
        return result

    def _scalars(self, row: Mapping[str, float]) -> dict[str, float]:
        """A row of a training's history as TensorBoard is to show it."""
        return {key.replace("accuracy", self.helper.metric_name): row[key] for key in row if key != "step"}
