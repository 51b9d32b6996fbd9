"""SearchPruner: the search for each layer's pruning ratio as one call over any functional Keras model."""

import dataclasses
import functools
import numbers
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from compressors.graph import prunable_kernels
from compressors.kernels import KernelLayer, find_kernels
from compressors.model_pruner import ModelPruner
from compressors.ratios import LayerSpec, kept_weights
from compressors.working_copy import working_copy
from learners.weight_sparsification.allocation import MAX_LAYER_RATIO, keeps_ends_dense
from learners.weight_sparsification.config import PROTOCOLS
from learners.weight_sparsification.network_search import (
    Metric,
    SearchSettings,
    Validation,
    search_network,
)
from learners.weight_sparsification.rollout_env import REWARD_TYPES, RatioConfig
from learners.weight_sparsification.rollout_eval import CALIBRATION_IMAGES
from learners.weight_sparsification.search_data import Examples, class_indices, take_examples
from utils.errors import InputError
from utils.finite import not_finite

VALIDATION_IMAGES = 2500  # that score roll-outs
FEW_IMAGES = 64  # fewer give poor statistics
CHECKED_IMAGES = 8


@dataclass(frozen=True)
class SearchResult:
    """What `SearchPruner.compress` found.

    Attributes:
        model: the one that was given, pruned in place.
        ratios: kernel name -> share of its weights removed, of each Conv2D and Dense.
        source: the protocol whose allocation was chosen, or `agent`.
        accuracy_before, accuracy_after: on the validation images, without any training; or the mean of the metric.
        weights, kept: all weights of these kernels, and how many are left.
        rollouts: of protocol `optimal`, a record of each: index, source, ratios, overall_ratio, reward, accuracy,
            seconds ...
        seconds: the search took.
    """

    model: keras.Model
    ratios: dict[str, float]
    source: str
    accuracy_before: float
    accuracy_after: float
    weights: int
    kept: int
    rollouts: list[dict[str, Any]]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.source}: {1 - self.kept / self.weights:.2%} of {self.weights:,} weights removed, validation "
            f"{self.accuracy_before:.4f} -> {self.accuracy_after:.4f}, {self.seconds:.0f} s"
        )


class SearchPruner(ModelPruner):
    """Finds how the layers should share an overall pruning ratio, prunes, and fits what is left to the dense outputs.

        pruner = SearchPruner(model, calibration_images, (validation_images, validation_labels), prune_ratio=0.8)
        result = pruner.compress()      # no gradient step; result.ratios, result.accuracy_after
        model.fit(...)                  # the zeros stay zeros

    Conv2D and Dense kernels are pruned; all other layers stay dense, and a warning names them.

    Args:
        model: trained; functional or Sequential, one input, one output.
        calibration_dataset: images as the model takes them, or (images, labels): arrays, a tf.data.Dataset of batches,
            or an iterable of batches. 320 are used: of arrays a random choice, of batches the first.
        validation_dataset: (images, labels) likewise, at most 2,500. Labels are numbers of classes or one-hot, outputs
            logits or probabilities, as the model's last activation says.
        prune_ratio: share of all Conv2D and Dense weights to remove, between 0 and 1.
        protocol: `optimal`, the search; or one allocation: uniform, heurist, erk, lamp, global, dp.
        num_rollouts, reward_type: of the search, see docs/weight_sparsification.md.
        keep_ends_dense: whether the first and the last of the layers stay dense; None: for images of at most 64 pixels,
            where these layers hold at most a tenth of the weights.
        dense: names of more layers that stay dense.
        metric: metric(labels, outputs) -> [B], the quality of each example, higher being better; for a model that is
            no classifier. Labels may then have any shape.
        seed: of the choice of images and of the agent; the same seed, the same result.
        quiet: whether to show no progress.
        optimizer: the one of a custom loop; needed only where it averages weights (`use_ema`).

    Raises:
        InputError: the model, an option or the ratio is not as it must be.
    """

    def __init__(
        self,
        model: keras.Model,
        calibration_dataset: Any,
        validation_dataset: Any,
        prune_ratio: float,
        protocol: str = "optimal",
        *,
        num_rollouts: int = SearchSettings.num_rollouts,
        reward_type: str = RatioConfig.reward_type,
        keep_ends_dense: bool | None = None,
        dense: Iterable[str] = (),
        metric: Metric | None = None,
        seed: int = 0,
        quiet: bool = False,
        optimizer: keras.optimizers.Optimizer | None = None,
    ):
        names, layers = _searched(model)
        super().__init__(model, names, layers, optimizer)
        _check_options(prune_ratio, protocol, num_rollouts, reward_type, metric, seed)
        self._data, self._metric, self._seed = (calibration_dataset, validation_dataset), metric, seed
        specs = _specs(names)
        if keep_ends_dense is None:
            shape = model.inputs[0].shape[1:]
            keep_ends_dense = None not in shape and keeps_ends_dense(specs, shape)
        dense = _named_kernels(dense, layers, model)
        ratios = RatioConfig(float(prune_ratio), reward_type, bool(keep_ends_dense), MAX_LAYER_RATIO, dense)
        self._settings = SearchSettings(ratios, protocol, int(num_rollouts), seed, quiet)
        self._settings.check(specs)
        self.result: SearchResult | None = None

    def compress(self) -> SearchResult:
        """Searches, prunes the model in place, and holds its zeros from here on.

        The model is as it was until the search is done, and stays so if that fails or is interrupted.

        Raises:
            InputError: the data are not as they must be, weights are not finite, or it was called before.
        """
        super().compress()
        assert self.result is not None
        return self.result

    def _prune(self) -> None:
        started = time.perf_counter()
        images, validation = self._examples()
        copies = [working_copy(self.model) for _ in range(2)]
        dense, pruned = copies
        _check_is_same(pruned.model, self.model, images[:CHECKED_IMAGES])
        name_of = {id(kernel): name for name, kernel in self._kernels.items()}
        names = {path: name_of[id(kernel)] for path, kernel in pruned.kernels().items()}
        found = search_network(
            dense.model,
            pruned.model,
            images,
            Validation(pruned.model, validation, self._metric),
            _with_paths(self._settings, names),
        )
        ratios = {names[path]: ratio for path, ratio in found.ratios.items()}
        for record in found.rollouts:
            record["ratios"] = {names[path]: ratio for path, ratio in record["ratios"].items()}
        pruned.give_back()
        # What is 0 in a layer that stays dense was not removed.
        self._masks.set_masks([(kernel.value != 0) | (ratios[name] == 0) for name, kernel in self._kernels.items()])
        specs = _specs(self._kernels)
        self.result = SearchResult(
            model=self.model,
            ratios=ratios,
            source=found.source,
            accuracy_before=found.accuracy_before,
            accuracy_after=found.accuracy_after,
            weights=sum(spec.size for spec in specs),
            kept=kept_weights(specs, ratios),
            rollouts=found.rollouts,
            seconds=time.perf_counter() - started,
        )

    def _examples(self) -> tuple[np.ndarray, Examples]:
        """Calibration images and validation examples, once all is checked."""
        if wrong := not_finite(self.model.variables):
            raise InputError(f"the model's weights must be finite. Received: {wrong}")
        calibration, validation = self._data
        take = functools.partial(take_examples, model=self.model, seed=self._seed)
        images = take("calibration_dataset", calibration, CALIBRATION_IMAGES, labelled=False).images
        examples = take("validation_dataset", validation, VALIDATION_IMAGES, labelled=True)
        if self._metric is None:
            assert examples.labels is not None, "they were asked for"
            examples = examples._replace(labels=class_indices(examples.labels, self.model))
        if len(images) < FEW_IMAGES:
            warnings.warn(
                f"calibration_dataset has {len(images)} images only; {CALIBRATION_IMAGES} give better results",
                stacklevel=4,
            )
        return images, examples


def _searched(model: keras.Model) -> tuple[dict[str, keras.Variable], dict[str, KernelLayer]]:
    """Name -> kernel, and its layer, of what the search prunes; warns of what stays dense."""
    found = find_kernels(model)
    try:
        kernels = prunable_kernels(model)
    except InputError as error:
        raise InputError(f"{error}. LevelPruner and AGP_Pruner take any model") from error
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise InputError(f"the model must have one {what}. Received: {model.name!r} with {len(tensors)}")
    names = {id(kernel): (name, layer) for layer in found.layers for name, kernel in layer.kernels.items()}
    searched = {names[id(kernel)][0]: kernel for kernel in kernels}
    if not searched:
        raise InputError(
            "the model must have a Conv2D (channels_last, ungrouped) or Dense layer. "
            f"Received: {model.name!r} with {', '.join(found.op_types)}"
        )
    rest: list[Any] = [layer for layer in found.layers if searched.keys().isdisjoint(layer.kernels)]
    rest += [layer for layer in found.unprunable.values() if layer.has_matrix]
    if rest:
        told = ", ".join(f"{layer.name} ({layer.op_type})" for layer in rest)
        warnings.warn(f"the search prunes Conv2D and Dense layers; these stay dense: {told}", stacklevel=3)
    return searched, {name: names[id(kernel)][1] for name, kernel in searched.items()}


def _check_options(
    prune_ratio: Any, protocol: Any, num_rollouts: Any, reward_type: Any, metric: Any, seed: Any
) -> None:
    if isinstance(prune_ratio, bool) or not isinstance(prune_ratio, numbers.Real) or not 0 < float(prune_ratio) < 1:
        raise InputError(f"prune_ratio must be between 0 and 1. Received: {prune_ratio!r}")
    for name, value, choices in (("protocol", protocol, PROTOCOLS), ("reward_type", reward_type, REWARD_TYPES)):
        if value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}. Received: {value!r}")
    for name, value, least in (("num_rollouts", num_rollouts, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise InputError(f"{name} must be a whole number, at least {least}. Received: {value!r}")
    if metric is not None and not callable(metric):
        raise InputError(f"metric must be a function of labels and outputs. Received: {type(metric).__name__}")
    if reward_type == "multi-obj" and (protocol != "optimal" or metric is not None):
        raise InputError(
            "reward_type multi-obj must go with protocol optimal and an accuracy, which it multiplies by "
            f"log(1 + sparsity). Received: protocol {protocol}{'' if metric is None else ' and a metric'}"
        )


def _named_kernels(dense: Iterable[str], layers: dict[str, KernelLayer], model: keras.Model) -> tuple[str, ...]:
    """The kernels of the layers that were named, by their own or their nested name."""
    names = [dense] if isinstance(dense, str) else list(dense)
    known = {name for layer in find_kernels(model).layers for name in (layer.name, layer.nested_name)}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"dense must name layers of the model: {', '.join(sorted(known))}. Received: {unknown[0]!r}")
    return tuple(kernel for kernel, layer in layers.items() if {layer.name, layer.nested_name} & set(names))


def _with_paths(settings: SearchSettings, names: dict[str, str]) -> SearchSettings:
    """The settings with the working copy's paths for the kernels' names."""
    dense = tuple(path for path, name in names.items() if name in settings.ratios.dense)
    return dataclasses.replace(settings, ratios=dataclasses.replace(settings.ratios, dense=dense))


def _specs(kernels: Mapping[str, keras.Variable]) -> list[LayerSpec]:
    return [LayerSpec(name, tuple(kernel.shape)) for name, kernel in kernels.items()]


def _check_is_same(copy: keras.Model, model: keras.Model, images: np.ndarray) -> None:
    """Raises InputError where the copy does not compute what the model does (which may be in half precision)."""
    wanted, found = (np.asarray(one(images, training=False), np.float64) for one in (model, copy))
    if not np.isfinite(wanted).all():
        raise InputError("the model's outputs must be finite. Received: NaN or infinity for calibration images")
    if np.linalg.norm(found - wanted) > 0.05 * np.linalg.norm(wanted) + 1e-6:
        raise InputError(
            "the layers' configurations and weights must say what the model computes. "
            "Received: a model whose copy by them gives other outputs"
        )
