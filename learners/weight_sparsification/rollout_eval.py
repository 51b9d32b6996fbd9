"""Scores an allocation of pruning ratios by the validation accuracy of the network it gives."""

import functools
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.batch_norm import reestimate
from compressors.distillation import Teacher
from compressors.graph import prunable_kernels
from compressors.layer_sizes import GRAM_MEMORY, network_sizes, solvable
from compressors.masks import MaskSet
from compressors.path_table import PathTable
from compressors.policies import FixedMasks
from compressors.progressive import Targets, dense_targets, resolve_by_adam, resolve_progressively
from compressors.ratios import Ratios, removed_counts
from learners.evaluation import Loss, Quality
from learners.train_step import TrainStep
from learners.weight_sparsification.ratio_search import Score
from nets.learning_rates import warm_up_cosine
from nets.tasks import is_largest_right

CALIBRATION_IMAGES = 320  # for Gram matrices and re-solving
BATCH_NORM_IMAGES = 256  # for re-estimating statistics in a roll-out

Pruner = Callable[[Ratios], None]  # leaves its model pruned


class Measure(NamedTuple):
    """How good a network is on the validation images, twice; where it classifies, in [0, 1].

    accuracy: the share that it classifies right, or what the network's task has in its place.
    likelihood: exp(-loss), with cross-entropy the geometric mean of the probabilities that it gives to the right
        classes. It tells two good networks apart where their accuracies differ by chance.
    """

    accuracy: float
    likelihood: float


class PathPruner:
    """`ws_rg_solver=closed-form`: kernels from their pruning paths, all else dense, batch norm re-estimated.

    The table may leave out layers that are never pruned. `compiled=False` is sooner done where there is one allocation
    only.
    """

    def __init__(
        self, model: keras.Model, dense: keras.Model, table: PathTable, images: np.ndarray, compiled: bool = True
    ):
        self._layers = table.layers
        by_path, images = {kernel.path: kernel for kernel in prunable_kernels(model)}, tf.constant(images)
        kernels = [by_path[layer.path] for layer in table.layers]
        dense_values = [tf.constant(variable.value) for variable in dense.trainable_variables]

        def prune(removed):
            for variable, value in zip(model.trainable_variables, dense_values, strict=True):
                variable.assign(value)
            for kernel, weights in zip(kernels, table.weights(removed), strict=True):
                kernel.assign(weights)
            reestimate(model, images)

        signature = [tf.TensorSpec([len(kernels)], tf.int32)]
        self._prune = tf.function(prune, input_signature=signature, autograph=False) if compiled else prune

    def __call__(self, ratios: Ratios) -> None:
        ratios = {layer.path: ratios[layer.path] for layer in self._layers}
        self._prune(tf.constant(removed_counts(self._layers, ratios), tf.int32))


class SgdPruner:
    """`ws_rg_solver=sgd`: the smallest weights go, then Adam fits each layer in turn to the dense one's output."""

    def __init__(
        self,
        model: keras.Model,
        dense: keras.Model,
        images: np.ndarray,
        iterations: int,
        learning_rate: float,
        memory: float = GRAM_MEMORY,
    ):
        self._model, self._dense = model, dense
        self._images, self._positions = _solvable(dense, images, memory)
        self._iterations, self._learning_rate = iterations, learning_rate

    def __call__(self, ratios: Ratios) -> None:
        self._model.set_weights(self._dense.get_weights())
        options: dict[str, Any] = {"num_iterations": self._iterations, "learning_rate": self._learning_rate}
        solved = resolve_by_adam(self._dense, ratios, self._images, **options, max_positions=self._positions)
        solved.assign_to(self._model)


class FineTuner:
    """Trains a pruned network for some steps with its zeros held.

    Every run begins with fresh moments at batch 0 and draws the same random numbers, whatever ran before it.

    Adam at the rates of `warm_up_cosine` with the peak `rate`: so few steps say most about the full training when they
    are a whole training in small.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Callable[[int], tf.data.Dataset],
        loss: Loss,
        rate: float,
        weight_decay: float,
        quality: Quality = is_largest_right,
        teacher: Teacher | None = None,
    ):
        self._masks = MaskSet(prunable_kernels(model))
        others = [v for v in model.non_trainable_variables if not keras.backend.is_float_dtype(v.dtype)]
        self._random_states = [(variable, np.asarray(variable.value)) for variable in others]  # such as dropout's
        self._batches, self._rate = batches, rate
        policy = FixedMasks(self._masks)
        optimizer = keras.optimizers.Adam(rate)
        self._step = TrainStep(model, optimizer, loss, policy, weight_decay, quality, teacher=teacher)

    def run(self, iterations: int) -> None:
        """Trains for `iterations` steps; one that diverges is undone, and told.

        So the pruned network counts as it was before: a rate that is too large for one candidate ends no search.
        """
        model, before = self._step.model, self._step.model.get_weights()
        for variable in self._step.optimizer.variables:
            variable.assign(tf.zeros_like(variable.value))
        self._masks.adopt_kernels()
        rates = warm_up_cosine(np.arange(iterations), self._rate, iterations)
        done = self._step.run(iter(self._batches(0)), rates)
        if not (done.is_finite and np.isfinite(done.losses).all()):
            model.set_weights(before)
            print(
                f"warning: fine-tuning a pruned network for {iterations} steps gave a loss or weights that are no "
                f"numbers, and was undone: a --ws_lrn_rate_ft lower than {self._rate:g} may help",
                file=sys.stderr,
            )
        for variable, state in self._random_states:
            variable.assign(state)


Validation = Callable[[], Mapping[str, float]]  # "accuracy" and "loss" of the model as it stands


class RolloutEvaluator:
    """Sets an allocation on its model and measures; fine-tunes where it is asked to.

    Args:
        prune: leaves `model` pruned to given ratios, with batch-norm statistics of its own.
        fine_tuner: None where nothing is fine-tuned.
    """

    def __init__(
        self,
        model: keras.Model,
        prune: Pruner,
        validation: Validation,
        fine_tuner: FineTuner | None = None,
    ):
        self.model, self.prune = model, prune
        self._validation, self._fine_tuner = validation, fine_tuner

    def measure(self) -> Measure:
        """Validates the model as it stands."""
        found = self._validation()
        likelihood = math.exp(-found["loss"]) if math.isfinite(found["loss"]) else 0.0
        return Measure(found["accuracy"], likelihood)

    def prune_and_measure(self, ratios: Ratios) -> Measure:
        """Validates the model pruned to the ratios."""
        self.prune(ratios)
        return self.measure()

    def score(self, ratios: Ratios, fine_tuning_iterations: int = 0) -> Score:
        """Prunes and measures, and measures again after fine-tuning where there is any."""
        accuracy = self.prune_and_measure(ratios).accuracy
        if not fine_tuning_iterations:
            return Score(accuracy)
        self.fine_tune(fine_tuning_iterations)
        return Score(accuracy, self.measure().accuracy)

    def fine_tune(self, iterations: int) -> None:
        """Trains the model as it stands, its zeros held."""
        assert self._fine_tuner is not None, "a fine-tuner was given"
        self._fine_tuner.run(iterations)


class ProgressivePruner:
    """How a finalist's weights are found: as in its roll-out, or solved front to back where that is likelier.

    Args:
        evaluator: prunes as in a roll-out, and measures; its model is the one that is pruned.
        dense: the dense network.
        images: what the layers are fitted to, [B, ...].
        score: as in `build_path`.
        memory: GB, see `solvable`; fewer of the images are used where all need more.
    """

    def __init__(
        self,
        evaluator: RolloutEvaluator,
        dense: keras.Model,
        images: np.ndarray,
        score: str = "input_norm",
        memory: float = GRAM_MEMORY,
    ):
        self._evaluator, self._dense, self._score = evaluator, dense, score
        self._images, self._positions = _solvable(dense, images, memory)

    @functools.cached_property
    def _targets(self) -> Targets:
        return dense_targets(self._dense, self._images, self._positions)

    def __call__(self, ratios: Ratios) -> Measure:
        """Prunes, and says how good the network is."""
        evaluator = self._evaluator
        # First what needs most memory: TensorFlow keeps what it took, and has it for what follows.
        options: dict[str, Any] = {"score": self._score, "max_positions": self._positions, "targets": self._targets}
        solved = resolve_progressively(self._dense, ratios, self._images, **options)
        evaluator.prune(ratios)
        plain, weights = evaluator.measure(), evaluator.model.get_weights()
        solved.assign_to(evaluator.model)
        progressive = evaluator.measure()
        if math.isfinite(progressive.accuracy) and progressive.likelihood >= plain.likelihood:
            return progressive
        evaluator.model.set_weights(weights)
        return plain


def _solvable(dense: keras.Model, images: np.ndarray, memory: float) -> tuple[np.ndarray, int]:
    """As many of the images as solving front to back has memory for, and as many positions of each."""
    count, positions = solvable(network_sizes(dense, images[0]), len(images), memory)
    return images[:count], positions
