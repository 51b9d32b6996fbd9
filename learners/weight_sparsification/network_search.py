"""The whole search over one network in memory: each layer's ratio, and the pruned network that it gives."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.graph import prunable_kernels
from compressors.layer_sizes import kept_inputs, network_sizes
from compressors.path_table import PathTable
from compressors.progressive import PrunedNetwork
from compressors.pruning_path import DENSITIES, build_path
from compressors.ratios import LayerSpec, Ratios, overall_ratio, uniform
from compressors.regression import collect_grams
from learners.weight_sparsification.allocation import BASELINES, MAX_LAYER_RATIO, allocate, dense_ends, layer_specs
from learners.weight_sparsification.config import WeightSparseConfig
from learners.weight_sparsification.finalists import ResolvedNetworks, judge_finalists
from learners.weight_sparsification.ratio_search import Record, SearchRecords, best_distinct, search
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from learners.weight_sparsification.rollout_eval import (
    BATCH_NORM_IMAGES,
    PathPruner,
    ProgressivePruner,
    RolloutEvaluator,
)
from learners.weight_sparsification.search_data import Examples
from nets.tasks import classification_loss, classifier_outputs, is_right
from rl_agents.ddpg.agent import DdpgAgent
from rl_agents.ddpg.config import DdpgConfig
from utils.errors import InputError
from utils.progress import Progress

EVALUATION_BATCH = 50
_DEFAULTS = WeightSparseConfig()

Metric = Callable[[Any, Any], Any]  # labels, outputs -> the quality of each example [B], higher is better


@dataclass(frozen=True)
class SearchSettings:
    """What is asked of a search.

    Attributes:
        ratios: the overall ratio, the reward, and which layers stay dense.
        protocol: one of `PROTOCOLS`.
        num_rollouts: of protocol `optimal`; never fewer than the six given allocations.
        seed: of the agent.
        quiet: whether to show no progress.
    """

    ratios: RatioConfig
    protocol: str = _DEFAULTS.prune_ratio_protocol
    num_rollouts: int = _DEFAULTS.num_rollouts
    seed: int = 0
    quiet: bool = False

    def dense_paths(self, layers: list[LayerSpec]) -> tuple[str, ...]:
        """The kernels that keep all their weights."""
        ends = dense_ends(layers, self.ratios.keep_ends_dense)
        return tuple(dict.fromkeys([*ends, *self.ratios.dense]))

    def check(self, layers: list[LayerSpec]) -> None:
        """Raises InputError where the ratio cannot be reached."""
        uniform(layers, self.ratios.prune_ratio, self.dense_paths(layers), MAX_LAYER_RATIO)
        if self.protocol == "optimal":
            RolloutEnv(layers, self.ratios)


class Found(NamedTuple):
    """What a search found; accuracies are on the validation examples.

    source: the protocol whose allocation it is, or `agent`.
    rollouts: a record of each roll-out of protocol `optimal`, see docs/weight_sparsification.md.
    """

    ratios: Ratios
    source: str
    accuracy_before: float
    accuracy_after: float
    rollouts: list[dict[str, Any]]


def search_network(
    dense: keras.Model, model: keras.Model, images: np.ndarray, validation: "Validation", settings: SearchSettings
) -> Found:
    """Finds each layer's ratio and leaves `model` pruned, fitted to the dense outputs, its batch norms estimated anew.

    Args:
        dense: the trained network, functional; it is not changed.
        model: another of the same layers and weights.
        images: calibration examples [N, ...].
        validation: of `model`.
    """
    layers, protocol = layer_specs(prunable_kernels(dense)), settings.protocol
    is_search = protocol == "optimal"
    before = validation()["accuracy"]
    table = _path_table(dense, images, settings.dense_paths(layers), settings.quiet)
    pruner = PathPruner(model, dense, table, images[:BATCH_NORM_IMAGES], compiled=is_search)
    evaluator = RolloutEvaluator(model, pruner, validation)
    resolved = ResolvedNetworks(evaluator, ProgressivePruner(evaluator, dense, images), quiet=settings.quiet)
    kernels = [np.asarray(kernel.value) for kernel in prunable_kernels(dense)]
    target, dense_paths = settings.ratios.prune_ratio, settings.dense_paths(layers)
    given = {
        name: allocate(name, layers, target, dense_paths, kernels, table)
        for name in (BASELINES if is_search else [protocol])
    }
    records: list[dict[str, Any]] = []
    candidates: list[Record] = [{"index": 0, "source": protocol, "ratios": given.get(protocol)}]
    if is_search:
        best_given = functools.partial(resolved.best, count=_DEFAULTS.num_finalists)
        records = _roll_outs(layers, given, evaluator, best_given, settings)
        candidates = best_distinct(records, best_given(records[: len(given)]), layers, _DEFAULTS.num_finalists)
    judged = judge_finalists(
        candidates,
        evaluator,
        resolved,
        lambda accuracy, ratios: reward(settings.ratios.reward_type, accuracy, overall_ratio(layers, ratios)),
        fine_tuning_iterations=0,
        quiet=settings.quiet,
    )
    best = max(judged, key=lambda checkpoint: checkpoint.meta["merit"])
    PrunedNetwork({path: best.arrays[path] for path in changed_paths(model)}, {}).assign_to(model)
    return Found(best.meta["ratios"], best.meta["source"], before, best.meta["accuracy"], records)


class Validation:
    """`validation()`: mean quality ("accuracy") and loss of a model over examples in memory; compiled once.

    A classifier's quality is 1 where it is right, its loss the cross entropy. With a metric, the loss is the quality
    that is missing to that of the dense network, in units of that network's own spread.

    Args:
        model: gives outputs as it stands; when this is made, it is the dense network.
        examples: with labels [N] of classes; with a metric, labels of any shape.

    Raises:
        InputError: the metric does not give a finite number for each example.
    """

    def __init__(self, model: keras.Model, examples: Examples, metric: Metric | None = None):
        spec = tf.TensorSpec([None, *examples.images.shape[1:]], examples.images.dtype)
        self._outputs = tf.function(functools.partial(model, training=False), input_signature=[spec], autograph=False)
        self._batches = [
            examples.part(slice(first, first + EVALUATION_BATCH))
            for first in range(0, len(examples.images), EVALUATION_BATCH)
        ]
        if metric is None:
            kind = classifier_outputs(model)
            self._quality: Metric = functools.partial(is_right, kind)
            self._loss: Metric | None = functools.partial(classification_loss, kind)
            return
        self._quality, self._loss = metric, None
        qualities = self._qualities()
        self._reference, self._spread = qualities.mean(), qualities.std() + abs(qualities.mean()) + 1e-12

    def __call__(self) -> dict[str, float]:
        if self._loss is None:
            mean = float(self._qualities().mean())
            return {"accuracy": mean, "loss": float((self._reference - mean) / self._spread)}
        quality_sum = loss_sum = count = 0.0
        for images, labels in self._batches:
            outputs = self._outputs(images)
            quality_sum += float(tf.reduce_sum(self._quality(labels, outputs)))
            loss_sum += float(self._loss(labels, outputs)) * len(images)
            count += len(images)
        return {"accuracy": quality_sum / count, "loss": loss_sum / count}

    def _qualities(self) -> np.ndarray:
        """The metric of each example, float64 [N]."""
        qualities = []
        for images, labels in self._batches:
            quality = np.asarray(self._quality(labels, self._outputs(images)), np.float64)
            if quality.shape != (len(images),):
                raise InputError(
                    f"metric(labels, outputs) must give a number for each example, shape ({len(images)},). "
                    f"Received: shape {quality.shape}"
                )
            qualities.append(quality)
        together = np.concatenate(qualities)
        if not np.isfinite(together).all():
            raise InputError("metric(labels, outputs) must be finite. Received: NaN or infinity")
        return together


def changed_paths(model: keras.Model) -> list[str]:
    """The variables that a search changes: prunable kernels and batch norms' statistics."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    variables = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
    return [variable.path for variable in [*prunable_kernels(model), *variables]]


def _path_table(dense: keras.Model, images: np.ndarray, without: Collection[str], quiet: bool) -> PathTable:
    kernels = [kernel for kernel in prunable_kernels(dense) if kernel.path not in without]
    kept = kept_inputs(network_sizes(dense, images[0]), len(images), without=without)
    grams = collect_grams(dense, [images], without=without, kept=kept)
    paths = {}
    with Progress("pruning paths", len(kernels), unit="layer", quiet=quiet) as bar:
        for done, kernel in enumerate(kernels, start=1):
            paths[kernel.path] = build_path(grams[kernel.path], kernel.numpy(), name=kernel.path)
            bar.update(done)
    return PathTable(paths, grams, DENSITIES)


def _roll_outs(
    layers: list[LayerSpec],
    given: dict[str, Ratios],
    evaluator: RolloutEvaluator,
    best_given: Callable[[Sequence[Record]], Sequence[Record]],
    settings: SearchSettings,
) -> list[dict[str, Any]]:
    """The search of protocol `optimal`, with the learner's defaults."""
    num_rollouts = max(settings.num_rollouts, len(given))
    agent = DdpgAgent(
        RolloutEnv(layers, settings.ratios).state_size,
        1,
        DdpgConfig(),
        num_rollouts=num_rollouts,
        replay_capacity=min(_DEFAULTS.min_rollouts, num_rollouts) * len(layers),
        seed=settings.seed,
    )
    return search(
        layers,
        settings.ratios,
        agent,
        given,
        evaluator.score,
        SearchRecords(),
        num_rollouts,
        best_given=best_given,
        quiet=settings.quiet,
    )
