"""WeightSparseLearner: dense network -> each layer's ratio -> training under masks -> report."""

import functools
import sys
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
from export.plots import plot_ratios, plot_search
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
from learners.weight_sparsification.final_schedule import check_schedule, dynamic_schedule
from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.ratio_search import Record, SearchLog, best_distinct, search
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from learners.weight_sparsification.rollout_eval import CALIBRATION_IMAGES, Measure, RolloutEvaluator
from learners.weight_sparsification.scoring import check_reward, finalist_resolver, reward_metric, rollout_evaluator
from learners.weight_sparsification.search_summary import notes, search_summary
from learners.weight_sparsification.shared_paths import (
    build_paths,
    check_paths_file,
    paths_origin,
    shared_grams,
    shared_table,
)
from rl_agents.ddpg.agent import DdpgAgent
from utils.checkpoints import Checkpoint
from utils.errors import InputError
from utils.workers import from_first


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
        """What scores a roll-out."""
        return reward_metric(self.config.weight_sparse, self.helper)

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
        check_reward(options, self.helper)
        if not self.layers:
            raise InputError("the network must have a Conv2D or Dense layer to prune. Received: none")
        uniform(self.layers, options.prune_ratio, self._dense_paths, MAX_LAYER_RATIO)
        if options.prune_ratio_protocol == "optimal":
            RolloutEnv(self.layers, self.ratio_config)
        if options.train_init == "path" or options.prune_ratio_protocol not in FORMULAS:
            check_gram_memory((layer.shape for layer in self.layers), options.gram_memory)
        if options.train_init == "dense":
            check_schedule(options, self.helper.num_iterations)

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
        if is_finished and (finished := from_first(self.workers, lambda: _paths_in(own))) is not None:
            return PathTable(*finished)
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
        directory = self.run_dir.file("finalists")
        together: dict[str, Any] = {"quiet": self.config.run.quiet, "workers": self.workers}
        is_search = options.prune_ratio_protocol == "optimal"
        # Without a search there is one network, which is a finalist at once.
        kept = directory if is_search else None
        resolved = ResolvedNetworks(evaluator, self.resolver(dense, evaluator), kept, **together)
        if is_search:
            assert table is not None, "the search uses the paths"
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
    ) -> tuple[Sequence[Record], Sequence[Record]]:
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
        if "search" in self.run_dir.stages() and not log.records and self.workers.is_first:
            print("warning: the search is finished, but its files are missing; it begins anew", file=sys.stderr)
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
        model = self.new_model()
        return rollout_evaluator(self.config, self.helper, dense, model, table, self.reward_metric, teacher)

    def resolver(self, dense: keras.Model, evaluator: RolloutEvaluator) -> Callable[[Ratios], Measure]:
        """How a finalist's weights are found: as in its roll-out, or progressively where that is better."""
        return finalist_resolver(self.config, self.helper, dense, evaluator)

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
            assert start is not None, "it was pruned before"
            restore_variables(model.variables, start.arrays, "the chosen candidate")
            masks.adopt_kernels()
            policy = FixedMasks(masks)
        else:
            total = self.helper.num_iterations
            policy = DynamicPruning(masks, dynamic_schedule(options, total), ratios, optimizer, total)
        result = self.train_stage("training", model, policy, optimizer, title="final training", teacher=teacher)
        self.run_dir.finish_stage("training", result.seconds)
        return model, result

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
        stages, protocol = self.run_dir.stages(), self.config.weight_sparse.prune_ratio_protocol
        return self.report(
            model,
            {
                "compressed": {**self.figures(tested), "sparsity": sparsity},
                "layers": layers,
                "search": search_summary(stages, protocol, self.reward_metric, training.step_seconds),
                "training": training_summary(training),
                **notes(stages),
            },
        )


def _paths_in(file: Path) -> tuple | None:
    """What `read_paths` gives; None where the file is missing, or damaged, which is told: it can be built again."""
    try:
        return read_paths(file) if file.exists() else None
    except InputError as error:
        print(f"warning: {error}; building it again", file=sys.stderr)
        return None
