"""WeightSparseLearner: dense network -> each layer's ratio -> training under masks -> report."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from compressors.distillation import Teacher
from compressors.graph import prunable_kernels
from compressors.layer_sizes import check_gram_memory, describe, kept_inputs, network_sizes
from compressors.masks import MaskSet
from compressors.path_table import PathTable, read_paths
from compressors.policies import DynamicPruning, FixedMasks
from compressors.ratios import LayerSpec, Ratios, overall_ratio, uniform
from compressors.schedules import PolynomialSchedule
from export.plots import plot_ratios, plot_search
from learners.evaluation import Evaluation
from learners.facts import training_summary
from learners.learner import Learner
from learners.training import TrainingResult
from learners.variables import restore_variables
from learners.weight_sparsification.allocation import (
    BASELINES,
    FORMULAS,
    MAX_LAYER_RATIO,
    allocate,
    dense_ends,
    keeps_ends_dense,
    layer_specs,
)
from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.ratio_search import Record, SearchLog, best_distinct, search
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from learners.weight_sparsification.rollout_eval import (
    BATCH_NORM_IMAGES,
    CALIBRATION_IMAGES,
    FineTuner,
    Measure,
    PathPruner,
    ProgressivePruner,
    RolloutEvaluator,
    SgdPruner,
)
from learners.weight_sparsification.shared_paths import (
    build_paths,
    check_paths_file,
    paths_origin,
    shared_grams,
    shared_table,
)
from nets.tasks import ACCURACY, TOP_1, TOP_5
from rl_agents.ddpg.agent import DdpgAgent
from utils.errors import InputError
from utils.run_dir import Checkpoint
from utils.workers import from_first

LONGEST_MASK_UPDATE_INTERVAL = 500
MOST_SCORING_BATCHES = 25
SCORING_STEPS = 16  # training batches whose images score a roll-out, at most ...
BATCH_NORM_STEPS = 4  # ... and those whose images its batch norms are estimated from
MANY_CLASSES = 20  # from so many on a roll-out is scored by acc_top5


class WeightSparseLearner(Learner):
    """`--learner weight-sparse`."""

    @property
    def model_path(self) -> Path:
        given = self.config.weight_sparse.save_path
        return Path(given) if given else super().model_path

    @functools.cached_property
    def layers(self) -> list[LayerSpec]:
        """The prunable kernels."""
        return layer_specs(prunable_kernels(self.new_model()))

    @functools.cached_property
    def ratio_config(self) -> RatioConfig:
        """What the allocation must reach."""
        options = self.config.weight_sparse
        return RatioConfig(options.prune_ratio, options.reward_type, self._keeps_ends_dense, MAX_LAYER_RATIO)

    @property
    def reward_metric(self) -> str:
        """What scores a roll-out: with many classes the five largest outputs, which tell more of a pruned network."""
        if not self.helper.metrics:
            return self.helper.metric_name
        default = TOP_5 if self.helper.num_classes >= MANY_CLASSES else TOP_1
        return self.config.weight_sparse.reward_metric or default

    @property
    def _keeps_ends_dense(self) -> bool:
        return keeps_ends_dense(self.layers, self.helper.dataset.image_shape)

    @property
    def _dense_paths(self) -> tuple[str, ...]:
        return dense_ends(self.layers, self._keeps_ends_dense)

    def check(self) -> None:
        super().check()
        options = self.config.weight_sparse
        if self.model_path.suffix != ".keras":
            raise InputError(f"--ws_save_path must end in .keras. Received: {options.save_path!r}")
        if options.paths and self.workers.is_first:
            check_paths_file(Path(options.paths))
        if options.reward_type == "multi-obj" and self.helper.metric_name != ACCURACY:
            raise InputError(
                "--ws_reward_type must be single-obj where the quality is no accuracy: multi-obj multiplies it by "
                f"log(1 + sparsity), and that punishes sparsity where it is negative. Received: multi-obj with "
                f"{self.helper.metric_name}"
            )
        asked = options.reward_metric
        if asked and asked not in self.helper.metrics:
            raise InputError(
                f"--ws_reward_metric needs a classification with more than five classes. Received: {asked} with "
                f"{self.helper.model_name}"
            )
        if not self.layers:
            raise InputError("the network must have a Conv2D or Dense layer to prune. Received: none")
        uniform(self.layers, options.prune_ratio, self._dense_paths, MAX_LAYER_RATIO)
        if options.prune_ratio_protocol == "optimal":
            RolloutEnv(self.layers, self.ratio_config)
        if options.train_init == "path" or options.prune_ratio_protocol not in FORMULAS:
            check_gram_memory((layer.shape for layer in self.layers), options.gram_memory)
        if options.train_init == "dense":
            self._check_schedule()

    def _check_schedule(self) -> None:
        """Raises InputError where the final training is too short for the dynamic schedule."""
        total = self.helper.num_iterations
        begin, end = self._ramp()
        if begin >= end:
            raise InputError(
                "--ws_train_init dense needs a final training with a step between --ws_iter_ratio_beg and "
                f"--ws_iter_ratio_end of it. Received: one of {total} iterations, too little data or too few epochs"
            )
        schedule = self._schedule()
        updates = [step for step in range(total) if schedule.is_update_step(step)]
        if not updates or updates[-1] < schedule.end_step:
            raise InputError(
                f"--ws_mask_update_step must leave a mask update between iteration {schedule.end_step} "
                f"(--ws_iter_ratio_end) and {total}, the last. Received: {schedule.update_every}"
            )

    def run(self) -> dict[str, Any]:
        dense = self.dense_model()
        teacher = self.teacher(dense)
        self.say_what_stays_dense(dense)
        options = self.config.weight_sparse
        by_formula = options.prune_ratio_protocol in FORMULAS
        if by_formula and options.train_init == "dense":
            ratios, start = self.allocation(options.prune_ratio_protocol, dense), None
        else:
            needs_paths = not by_formula or options.regression_solver == "closed-form"
            ratios, start = self.choose(dense, self.path_table(dense) if needs_paths else None, teacher)
        model, training = self._train(dense, ratios, start, teacher)
        return self._report(model, ratios, training)

    def path_table(self, dense: keras.Model) -> PathTable:
        """All pruning paths of the dense network, built once: by this run, or by the first that shares `--ws_paths`."""
        options, own = self.config.weight_sparse, self.run_dir.file("paths.npz")
        is_finished = "paths" in self.run_dir.stages()
        if is_finished and from_first(self.workers, own.exists):
            return PathTable(*from_first(self.workers, lambda: read_paths(own)))
        started, kernels = time.perf_counter(), prunable_kernels(dense)
        images = self.helper.calibration_images(CALIBRATION_IMAGES)
        kept = kept_inputs(network_sizes(dense, images[0]), len(images), options.gram_memory)

        def build() -> PathTable:
            self.say(f"pruning paths of {len(self.layers)} layers")
            if sampled := describe(kept):
                self.say(sampled)
            grams = shared_grams(dense, images, self.workers, kept)
            return build_paths(kernels, grams, options.path_score, self.workers)

        source = {}
        if options.paths:
            file, origin = Path(options.paths), paths_origin(dense, images, kept, options.path_score)
            table, seconds, was_there = shared_table(file, kernels, origin, build, self.workers, self.say)
            if was_there:
                self.say(f"pruning paths of {len(self.layers)} layers from {file}")
                source = {"source": str(file)}
        else:
            table = build()
            if self.workers.is_first:
                table.save(own)
            seconds = time.perf_counter() - started
        if not is_finished:
            self.run_dir.finish_stage("paths", seconds, source)
        return table

    def allocation(self, protocol: str, dense: keras.Model, table: PathTable | None = None) -> Ratios:
        """Each layer's ratio by a protocol other than `optimal`; only `dp` needs the paths."""
        kernels = [np.asarray(kernel.value) for kernel in prunable_kernels(dense)]
        target = self.config.weight_sparse.prune_ratio
        return allocate(protocol, self.layers, target, self._dense_paths, kernels, table)

    def choose(
        self, dense: keras.Model, table: PathTable | None, teacher: Teacher | None = None
    ) -> tuple[Ratios, Checkpoint]:
        """The allocation of the run, and the pruned network that it gives without further training.

        `table` may be None where neither the protocol nor the solver uses the paths. What is fine-tuned on the way
        learns from the teacher as the final training does.
        """
        options = self.config.weight_sparse
        evaluator = self.evaluator(dense, table, teacher)
        directory, together = self.run_dir.file("finalists"), {"quiet": self.config.run.quiet, "workers": self.workers}
        is_search = options.prune_ratio_protocol == "optimal"
        # Without a search there is one network, which is a finalist at once.
        kept = directory if is_search else None
        resolved = ResolvedNetworks(evaluator, self.resolver(dense, evaluator), kept, **together)
        if is_search:
            records, given = self._search(dense, table, evaluator, resolved)
            candidates = best_distinct(records, given, self.layers, options.num_finalists)
        else:
            ratios, given = self.allocation(options.prune_ratio_protocol, dense, table), []
            candidates = [{"index": 0, "source": options.prune_ratio_protocol, "ratios": ratios}]
        fine_tuning = 0
        if len(candidates) > 1 and options.rollout_fine_tuning != "none":
            shares = len(candidates) if options.rollout_fine_tuning == "finalists" else 1
            fine_tuning = options.fine_tuning_iterations // shares
        judged = judge_finalists(
            candidates,
            evaluator,
            resolved,
            lambda accuracy, ratios: reward(options.reward_type, accuracy, overall_ratio(self.layers, ratios)),
            fine_tuning,
            directory,
            **together,
        )
        best = max(judged, key=lambda checkpoint: checkpoint.meta["merit"])
        if is_search and self.workers.is_first:
            finalists = [checkpoint.meta for checkpoint in judged]
            plot_search(records, self.run_dir.file("plots", "search.png"), self.data_title, finalists)
        if "finalists" not in self.run_dir.stages():
            figures = [checkpoint.meta for checkpoint in judged]
            solved = {record["index"]: record for record in [*given, *candidates]}.values()
            seconds = sum(checkpoint.meta["seconds"] for checkpoint in [*resolved(list(solved)), *judged])
            self.run_dir.finish_stage("finalists", seconds, {"finalists": figures})
            accuracy = f"validation {self.reward_metric} {best.meta['accuracy']:.4f}"
            self.say(f"chosen: {best.meta['source']}, {accuracy} before training")
        return best.meta["ratios"], best

    def _search(
        self, dense: keras.Model, table: PathTable, evaluator: RolloutEvaluator, resolved: ResolvedNetworks
    ) -> tuple[list[Record], list[Record]]:
        """The records of all roll-outs, and of the best given allocations among them."""
        options = self.config.weight_sparse

        def best_given(records: Sequence[Record]) -> list[Record]:
            return resolved.best(records, options.num_finalists)

        given = from_first(self.workers, lambda: {name: self.allocation(name, dense, table) for name in BASELINES})
        agent = DdpgAgent(
            RolloutEnv(self.layers, self.ratio_config).state_size,
            1,
            self.config.ddpg,
            num_rollouts=options.num_rollouts,
            replay_capacity=options.min_rollouts * len(self.layers),
            seed=self.config.run.seed,
        )
        log = SearchLog(self.run_dir.file("search.jsonl"), self.run_dir.file("search", "agent.npz"), self.workers)
        log.resume(agent)
        every = options.fine_tuning_iterations if options.rollout_fine_tuning == "every" else 0
        records = search(
            self.layers,
            self.ratio_config,
            agent,
            given,
            lambda ratios: evaluator.score(ratios, every),
            log,
            max(options.num_rollouts, len(given)),
            best_given=best_given,
            quiet=self.config.run.quiet,
            workers=self.workers,
            seed=self.config.run.seed,
        )
        if "search" not in self.run_dir.stages():
            seconds = sum(record["seconds"] for record in records)
            self.run_dir.finish_stage("search", seconds, {"rollouts": len(records)})
        return records, best_given(records[: len(given)])

    def evaluator(
        self, dense: keras.Model, table: PathTable | None, teacher: Teacher | None = None
    ) -> RolloutEvaluator:
        """What scores roll-outs and finalists, on a model of its own; each worker has another one to score."""
        options, alone = self.config.weight_sparse, self.helper.alone()
        model = self.new_model()
        model.set_weights(dense.get_weights())
        images = self.helper.calibration_images(CALIBRATION_IMAGES)
        if options.regression_solver == "closed-form":
            few = min(BATCH_NORM_IMAGES, BATCH_NORM_STEPS * self.config.net.data.batch_size)
            prune = PathPruner(model, dense, table, images[:few])
        else:
            iterations, rate = options.regression_iterations, options.regression_learning_rate
            prune = SgdPruner(model, dense, images, iterations, rate, options.gram_memory)
        batches = alone.validation_batches().take(self._scoring_batches)
        tuner = FineTuner(
            model,
            alone.training_batches,
            self.helper.training_loss,
            options.fine_tuning_learning_rate,
            self.config.net.training.weight_decay,
            self.helper.quality,
            teacher,
        )
        quality = self.helper.metrics.get(self.reward_metric, self.helper.quality)
        validation = Evaluation(model, batches, self.helper.loss, in_memory=True, quality=quality)
        return RolloutEvaluator(model, prune, validation, tuner)

    @property
    def _scoring_batches(self) -> int:
        """Where training batches are small, so that a step is cheap, a roll-out is to cost no more steps."""
        data = self.config.net.data
        affordable = max(1, SCORING_STEPS * data.batch_size // data.evaluation_batch_size)
        return self.config.weight_sparse.evaluation_batches or min(MOST_SCORING_BATCHES, affordable)

    def resolver(self, dense: keras.Model, evaluator: RolloutEvaluator) -> Callable[[Ratios], Measure]:
        """How a finalist's weights are found: as in its roll-out, or progressively where that is better."""
        options = self.config.weight_sparse
        if options.regression_solver == "sgd":
            return evaluator.prune_and_measure
        images = self.helper.calibration_images(CALIBRATION_IMAGES)
        return ProgressivePruner(evaluator, dense, images, options.path_score, options.gram_memory)

    def _train(
        self, dense: keras.Model, ratios: Ratios, start: Checkpoint | None, teacher: Teacher | None
    ) -> tuple[keras.Model, TrainingResult]:
        """The final training, under the dynamic schedule or from the pruned candidate."""
        options = self.config.weight_sparse
        model = self.new_model()
        if self.config.run.warm_start:
            model.set_weights(dense.get_weights())
        optimizer = self.optimizer()
        masks = MaskSet(prunable_kernels(model))
        if options.train_init == "path":
            restore_variables(model.variables, start.arrays, "the chosen candidate")
            masks.adopt_kernels()
            policy = FixedMasks(masks)
        else:
            policy = DynamicPruning(masks, self._schedule(), ratios, optimizer, self.helper.num_iterations)
        result = self.train_stage("training", model, policy, optimizer, title="final training", teacher=teacher)
        self.run_dir.finish_stage("training", result.seconds)
        return model, result

    def _ramp(self) -> tuple[int, int]:
        """The iterations at which pruning begins and ends."""
        options, total = self.config.weight_sparse, self.helper.num_iterations
        return round(options.ramp_begin * total), round(options.ramp_end * total)

    def _schedule(self) -> PolynomialSchedule:
        """The dynamic schedule in iterations."""
        options, (begin, end) = self.config.weight_sparse, self._ramp()
        every = options.mask_update_interval or min(LONGEST_MASK_UPDATE_INTERVAL, max(1, (end - begin) // 20))
        return PolynomialSchedule(begin, end, every, options.schedule_exponent)

    def _report(self, model: keras.Model, ratios: Ratios, training: TrainingResult) -> dict[str, Any]:
        """Saves the model and writes the report."""
        started = time.perf_counter()
        self.save(model, self.model_path)
        layers = self.kernel_table(model, [layer.path for layer in self.layers], ratios)
        if self.workers.is_first:
            plot_ratios(layers, self.run_dir.file("plots", "ratios.png"), self.data_title)
        kept = sum(round(row["parameters"] * (1 - row["sparsity"])) for row in layers)
        sparsity = 1 - kept / sum(row["parameters"] for row in layers)
        tested = self.test(model)
        if "report" not in self.run_dir.stages():
            self.run_dir.finish_stage("report", time.perf_counter() - started)
        return self.report(
            model,
            {
                "compressed": {**self.figures(tested), "sparsity": sparsity},
                "layers": layers,
                "search": self._search_summary(training.step_seconds),
                "training": training_summary(training),
                **self._notes(),
            },
        )

    def _notes(self) -> dict[str, list[str]]:
        """What the report must say of the run beside its figures."""
        source = self.run_dir.stages().get("paths", {}).get("source")
        note = f"The pruning paths are those of {source}, which another run built: the time is not counted here."
        return {"notes": [note]} if source else {}

    def _search_summary(self, step_seconds: float) -> dict[str, Any]:
        """What choosing the ratios cost; a masked training step counts as a dense one (they differ by under 2%)."""
        stages = self.run_dir.stages()
        seconds = sum(stages[name]["seconds"] for name in ("paths", "search", "finalists") if name in stages)
        rollouts = stages.get("search", {}).get("rollouts", 0)
        finalists = stages.get("finalists", {}).get("finalists", [])
        return {
            "protocol": self.config.weight_sparse.prune_ratio_protocol,
            "reward_metric": self.reward_metric,
            "rollouts": rollouts,
            "seconds": seconds,
            "seconds_per_rollout": stages["search"]["seconds"] / rollouts if rollouts else None,
            "best_reward": max(finalists, key=lambda finalist: finalist["merit"])["reward"] if finalists else None,
            "dense_step_seconds": step_seconds,
            "dense_step_equivalents": seconds / step_seconds,
        }
