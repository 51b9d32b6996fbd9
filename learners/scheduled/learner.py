"""ScheduledLearner: dense network -> training under a compression schedule -> compressed network and report."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

from compressors.distillation import DistillationLossWeights, KnowledgeDistillationPolicy, Teacher
from compressors.lr_schedulers.keras_schedules import KerasSchedule
from compressors.parameters import Parameters
from compressors.plan import Plan, make_plan
from compressors.plan_table import print_plan
from compressors.schedule import Schedule
from compressors.schedule_yaml import check_against, read_schedule
from compressors.scheduled_policies import Training
from compressors.scheduler import CompressionScheduler
from export.sizes import model_sizes
from learners.download import download
from learners.facts import training_summary
from learners.given_networks import network_url
from learners.learner import Learner
from learners.network_files import load_network
from learners.training import TrainingResult
from nets.architectures import build_architecture
from utils.errors import InputError
from utils.files import write_atomically
from utils.workers import share_variables

STATISTICS_BATCHES = 8  # training batches for activation statistics, calibration and gradients of pruners


class ScheduledLearner(Learner):
    """`--learner scheduled`."""

    def print_plan(self, stream: TextIO) -> None:
        """Prints what the schedule will do; reads no data."""
        print_plan(self._plan(), stream)

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._schedule().to_yaml().encode()).hexdigest()
        return super().identity() | {"compress": f"content {digest[:12]}"}

    def check(self) -> None:
        super().check()
        options = self.config.distillation
        model = self.new_model()
        check_against(self._schedule(), model)
        if self.config.net.training.mixed_precision and self._schedule().quantizers:
            raise InputError(
                "--enbl_amp must be left out with a schedule that has quantizers: they round values of 32 bits. "
                "Received: both"
            )
        if options.teacher:
            if not self.helper.gives_logits:
                raise InputError(
                    f"--kd_teacher needs a network that gives logits of classes. Received: {self.helper.model_name}, "
                    "which does not"
                )
            self._distillation(model, self._kd_teacher(model))
            if options.start_epoch >= self.num_epochs:
                raise InputError(
                    f"--kd_start_epoch must be below the number of epochs, {self.num_epochs}. "
                    f"Received: {options.start_epoch}"
                )

    @property
    def num_epochs(self) -> int:
        """Epochs of the training under the schedule."""
        return self.config.schedule.num_epochs or max(1, round(self.helper.num_epochs))

    def run(self) -> dict[str, Any]:
        for warning in self._plan().warnings:
            self.say(f"warning: {warning}")
        dense = self.dense_model()
        teacher = self.teacher(dense)
        model = self.new_model()
        if self.config.run.warm_start:
            model.set_weights(dense.get_weights())
        scheduler = self._scheduler(model)
        schedule = scheduler.to_yaml()
        if self.workers.is_first:
            write_atomically(self.run_dir.file("schedule.yaml"), lambda path: path.write_text(schedule))
        training = self._train(scheduler, teacher) if scheduler.policies or teacher else None
        return self._report(dense, scheduler, training)

    def _plan(self) -> Plan:
        schedule = self._schedule()
        counts_steps = any(isinstance(item, KerasSchedule) for item in schedule.lr_schedulers.values())
        return make_plan(
            schedule,
            self.new_model(),
            self.num_epochs,
            self.helper.peak_learning_rate,
            self.helper.steps_per_epoch if counts_steps else 1,  # counting steps reads the data
        )

    def _schedule(self) -> Schedule:
        path, teacher = self.config.schedule.compress, self.config.distillation.teacher
        if not path and not teacher:
            raise InputError(
                "--learner scheduled needs a schedule, --compress FILE, or a --kd_teacher. Received: neither"
            )
        return read_schedule(path) if path else Schedule()

    def _scheduler(self, model: keras.Model) -> CompressionScheduler:
        scheduler = CompressionScheduler.from_schedule(model, self._schedule())
        if self.config.distillation.teacher:
            start = self.config.distillation.start_epoch
            teacher = self._kd_teacher(model)
            share_variables(self.workers, teacher.variables)
            policy = self._distillation(model, teacher)
            scheduler.add_policy(policy, starting_epoch=start, ending_epoch=self.num_epochs)
        return scheduler

    def _kd_teacher(self, student: keras.Model) -> keras.Model:
        """The trained teacher; on other ranks than 0 its weights are still to come."""
        options = self.config.distillation
        teacher = build_architecture(options.teacher, student.output_shape[-1], student.input_shape[1:])
        if self.workers.is_first:
            load_network(Path(options.resume) if options.resume else self._pretrained(teacher.name), teacher)
        teacher.trainable = False
        return teacher

    def _distillation(self, student: keras.Model, teacher: keras.Model) -> KnowledgeDistillationPolicy:
        options = self.config.distillation
        weights = DistillationLossWeights(options.distill_weight, options.student_weight, options.teacher_weight)
        return KnowledgeDistillationPolicy(student, teacher, options.temperature, weights)

    def _pretrained(self, network: str) -> Path:
        """The file of a network that was trained before: by a full-prec run beside this one, or behind the URL."""
        run = f"{network}_at_{self.helper.dataset_name}"
        local = self.run_dir.path.absolute().parent.parent / run / "full-prec" / "model.keras"
        if local.is_file():
            return local
        if not self.config.run.model_http_url:
            raise InputError(
                f"--kd_pretrained needs {local} (--learner full-prec makes it) or {run}.keras at --model_http_url. "
                "Received: neither"
            )
        kept = self.run_dir.path / "teacher" / "model.keras"
        url = network_url(self.config.run.model_http_url, network, self.helper.dataset_name)
        return kept if kept.is_file() else download(url, kept, self.config.run.allow_plain_http)

    def _train(self, scheduler: CompressionScheduler, teacher: Teacher | None) -> TrainingResult:
        model = scheduler.prepare(self._statistics_batches)
        optimizer = self.optimizer()
        optimizer.build(model.trainable_variables)
        base_rate = self.helper.peak_learning_rate
        scheduler.attach(
            optimizer,
            Training(
                self.helper.steps_per_epoch,
                base_rate,
                self._statistics_batches,
                self.helper.training_loss,
                self.config.run.seed,
            ),
        )
        result = self.train_stage(
            "training",
            model,
            scheduler,
            optimizer,
            title="training under the schedule",
            learning_rates=self._rates(),
            teacher=teacher,
        )
        self.run_dir.finish_stage("training", result.seconds)
        return result

    def _rates(self) -> np.ndarray:
        """The recipe's rate at each step, stretched to the length of this training; an LR scheduler overrides it."""
        total = self.num_epochs * self.helper.steps_per_epoch
        return self.helper.learning_rate_at(np.arange(total) * (self.helper.num_iterations / total))

    def _statistics_batches(self) -> tf.data.Dataset:
        # The same for all workers, or they would rank filters and choose ranges differently.
        return self.helper.alone().training_batches().take(STATISTICS_BATCHES)

    def _report(
        self, dense: keras.Model, scheduler: CompressionScheduler, training: TrainingResult | None
    ) -> dict[str, Any]:
        started = time.perf_counter()
        asked = self._plan().targets
        model = scheduler.finish(self._statistics_batches)
        self.save(model, self.model_path)
        original = self.kernel_table(dense, [parameter.path for parameter in Parameters(dense).prunable()], asked)
        smaller = self.kernel_table(model, [row["path"] for row in original], asked)
        layers = [removed_and_zero(*rows) for rows in zip(original, smaller, strict=True)]
        parameters = sum(row["parameters"] for row in layers)
        if self.workers.is_first and any(row["sparsity"] for row in layers):
            from export.plots import plot_ratios  # loads Matplotlib, which a dry run need not wait for

            plot_ratios(layers, self.run_dir.file("plots", "ratios.png"), self.data_title)
        tested = self.test(model)
        if "report" not in self.run_dir.stages():
            self.run_dir.finish_stage("report", time.perf_counter() - started)
        stage = self.run_dir.stages()["dense"]
        return self.report(
            model,
            {
                "dense": {
                    **self.figures(stage),
                    "source": stage["source"],
                    "parameters": dense.count_params(),
                    "flops": sum(row["flops_dense"] for row in original),
                },
                "compressed": {
                    **self.figures(tested),
                    "sparsity": sum(row["sparsity"] * row["parameters"] for row in layers) / parameters,
                    "parameters": model.count_params(),
                    "flops": sum(row["flops_dense"] for row in smaller),
                },
                "layers": layers,
                "training": None if training is None else training_summary(training),
                "sizes": model_sizes(model) | {"dense_bytes": model_sizes(dense)["dense_bytes"]},
            },
        )


def removed_and_zero(original: Mapping[str, Any], smaller: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's row of the report: weights that left the network with their filter count as removed like zeros."""
    left = round(smaller["parameters"] * (1 - smaller["sparsity"]))
    return {**original, "sparsity": 1 - left / original["parameters"], "flops_sparse": smaller["flops_sparse"]}
