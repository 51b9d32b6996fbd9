"""LotteryTicketLearner: dense training, then rounds of pruning, rewinding and training under the masks -> report."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from compressors.distillation import Teacher
from compressors.graph import prunable_kernels
from compressors.lottery import removed_after_round
from compressors.masks import MaskSet
from compressors.policies import FixedMasks
from learners.facts import training_summary
from learners.learner import Learner
from learners.lottery_ticket.rewinding import KeepRewindPoint, RewindPoint
from learners.train_step import TrainStep
from learners.training import TrainingResult, restore_training
from utils.errors import InputError

NO_DENSE_MODEL = (
    ": --learner lottery-ticket goes back to the weights that the dense network began with, so it must train it itself"
)


class LotteryTicketLearner(Learner):
    """`--learner lottery-ticket` (Frankle & Carbin 2019), with late rewinding (Frankle et al. 2020)."""

    @property
    def rewind_point(self) -> RewindPoint:
        """What each round begins with."""
        return RewindPoint(self.run_dir.path / "dense" / "rewind.npz", self.workers)

    @property
    def first_step(self) -> int:
        """The step of the training at which each round begins."""
        return self.config.lottery_ticket.rewind_epoch * self.helper.steps_per_epoch

    @property
    def num_epochs(self) -> int:
        """Epochs of a full training, the last of which may be shorter."""
        return math.ceil(self.helper.num_iterations / self.helper.steps_per_epoch)

    def check(self) -> None:
        run, epoch = self.config.run, self.config.lottery_ticket.rewind_epoch
        if run.model_http_url:
            raise InputError(
                f"--model_http_url must be empty{NO_DENSE_MODEL}. Received: {run.model_http_url!r} "
                "(where path.conf has it, --model_http_url= leaves it out)"
            )
        is_own = self.rewind_point.path.exists() and not run.overwrite  # then this run has made the file
        if run.save_path and self.workers.is_first and Path(run.save_path).exists() and not is_own:
            raise InputError(f"--save_path must not exist yet{NO_DENSE_MODEL}. Received: {run.save_path!r}")
        if not run.warm_start:
            raise InputError("--enbl_warm_start must be true with --learner lottery-ticket. Received: false")
        super().check()
        if not prunable_kernels(self.new_model()):
            raise InputError("the network must have a Conv2D or Dense layer to prune. Received: none")
        if epoch >= self.num_epochs:
            raise InputError(
                f"--lt_rewind_epoch must be below the number of epochs of a training, {self.num_epochs}. "
                f"Received: {epoch}"
            )

    def take_dense(self, model: keras.Model) -> None:
        """None: a network trained elsewhere cannot be rewound, and one of the user's own is trained further."""

    def train_dense(self, model: keras.Model) -> TrainingResult:
        if self.helper.has_trained_weights:
            self.say_dense(f"{self.helper.weights_source}, as given", self.test(model))
        optimizer = self.optimizer()
        policy = KeepRewindPoint(self.config.lottery_ticket.rewind_epoch, self.rewind_point, model, optimizer)
        return self.train_stage("dense", model, policy, optimizer, title="dense training")

    def run(self) -> dict[str, Any]:
        model = self.dense_model()
        self.say_what_stays_dense(model)
        policy = FixedMasks(MaskSet(prunable_kernels(model)))
        step = self.trainer.step(model, policy, self.optimizer(), self._teacher(model))
        rounds = range(1, self.config.lottery_ticket.num_rounds + 1)
        for number in rounds:
            if _stage(number) not in self.run_dir.stages():
                self._train_round(number, step, policy)
            if number > 1 and self.workers.is_first:
                # Its network is kept; where its training stood nobody asks any more. A kill may have left it.
                for path in self._checkpoint(number - 1).parent.glob("checkpoint*.npz"):
                    path.unlink()
        self._restore_round(rounds[-1], step, policy)
        return self._report(model)

    def _teacher(self, model: keras.Model) -> Teacher | None:
        """What each round learns from; the dense network as a copy, since the rounds train the network itself."""
        teacher = self.teacher(model)
        if teacher is None or teacher.model is not model:
            return teacher
        dense = self.new_model()
        dense.set_weights(model.get_weights())
        return teacher._replace(model=dense)

    def _train_round(self, number: int, step: TrainStep, policy: FixedMasks) -> None:
        """Prunes the network of the round before by magnitude, rewinds what is left and trains it."""
        options, name = self.config.lottery_ticket, _stage(number)
        if number > 1:
            self._restore_round(number - 1, step, policy)
        sizes = {layer.path: layer.size for layer in policy.masks.layers}
        ratio, last = options.prune_ratio, options.num_rounds
        policy.masks.select({path: removed_after_round(size, ratio, number, last) for path, size in sizes.items()})
        self.rewind_point.rewind(step.model, step.optimizer, policy.masks)
        sparsity = policy.sparsity()
        self.say(
            f"round {number} of {last}: {sparsity:.1%} removed, "
            f"training from epoch {options.rewind_epoch} to {self.num_epochs}"
        )
        result = self._run_round(number, step, policy)
        self.save(step.model, self.run_dir.file(name, "model.keras"))
        tested = self.test(step.model)
        figures = {
            "sparsity": sparsity,
            **tested,
            "validation_accuracy": result.history[-1]["validation_accuracy"],
            **training_summary(result),
        }
        self.run_dir.finish_stage(name, result.seconds, figures)
        self.say(f"round {number} of {last}: test {self.helper.metric_name} {tested['accuracy']:.4f}")

    def _run_round(self, number: int, step: TrainStep, policy: FixedMasks) -> TrainingResult:
        """Trains up to the end of the round."""
        return self.trainer.run(_stage(number), step, policy, title=f"round {number}", first_step=self.first_step)

    def _restore_round(self, number: int, step: TrainStep, policy: FixedMasks) -> None:
        """Puts everything as it was at the end of a round; steps that a damaged checkpoint had are done again."""
        if not restore_training(self._checkpoint(number), step, policy):
            self._run_round(number, step, policy)

    def _checkpoint(self, number: int) -> Path:
        return self.run_dir.path / _stage(number) / "checkpoint.npz"

    def _report(self, model: keras.Model) -> dict[str, Any]:
        """Saves the model of the last round and writes the report."""
        from export.plots_lottery import plot_rounds  # loads Matplotlib

        started = time.perf_counter()
        options = self.config.lottery_ticket
        self.save(model, self.model_path)
        paths = [kernel.path for kernel in prunable_kernels(model)]
        layers = self.kernel_table(model, paths, dict.fromkeys(paths, options.prune_ratio))
        stages = self.run_dir.stages()
        rounds = [_row(number, stages[_stage(number)]) for number in range(options.num_rounds + 1)]
        plot = self.run_dir.file("plots", "lottery_ticket.png")
        if self.workers.is_first:
            plot_rounds(rounds, plot, self.data_title, self.helper.metric_name)
        if "report" not in stages:
            self.run_dir.finish_stage("report", time.perf_counter() - started)
        last = stages[_stage(options.num_rounds)]
        kept = sum(round(row["parameters"] * (1 - row["sparsity"])) for row in layers)
        return self.report(
            model,
            {
                "compressed": {
                    **self.figures(last),
                    "sparsity": 1 - kept / sum(row["parameters"] for row in layers),
                },
                "layers": layers,
                "training": {key: last[key] for key in ("iterations", "seconds", "images_per_second")},
                "rounds": rounds,
            },
        )


def _stage(number: int) -> str:
    """A round's name in `stages.json`, and its folder; round 0 is the dense training."""
    return f"round_{number}" if number else "dense"


def _row(number: int, stage: Mapping[str, Any]) -> dict[str, Any]:
    """A round as `report.json` holds it."""
    keys = ("accuracy", "validation_accuracy", "seconds")
    return {"round": number, "sparsity": stage.get("sparsity", 0.0), **{key: stage[key] for key in keys}}
