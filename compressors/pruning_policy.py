"""PruningPolicy: when a pruner makes its masks, and how they act on the weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from compressors.channels import dependent_vectors
from compressors.components import Target, When
from compressors.evidence import NoEvidence, TrainingEvidence, following_batch_norms
from compressors.parameters import CONV
from compressors.pruners.base import Pruner
from compressors.schedule import PruningArguments
from compressors.scheduled_policies import Network, ScheduledPolicy
from utils.errors import InputError


class PruningPolicy(ScheduledPolicy):
    """Makes a pruner's masks at the beginning of each active epoch; they stay in force between and after them.

    Args:
        arguments: those of `PruningArguments`, all off by default:
            levels: in place of the pruner's own.
            keep_mask: at the end of the last active epoch the masks become hard (see `MaskLayer`).
            mini_batch_pruning_frequency: within an active epoch, also before each step that is a multiple of it.
            mask_on_forward_only: the masks are soft.
            mask_gradients: the gradients of soft masked weights are masked.
            use_double_copies: the masks are soft, and the optimizer updates the unmasked weights.
            discard_masks_at_minibatch_end: a mask holds for one step.
            skip_first_minibatch: the first masks are made before the second step.
            fold_batchnorm: kernels are judged scaled by the batch norm that follows, `w * gamma / sqrt(var + eps)`.
    """

    kind = "pruner"

    def __init__(self, pruner: Pruner, name: str = "", **arguments: Any):
        super().__init__(pruner, name)
        self._arguments = PruningArguments.read(arguments)
        self._pruner, levels = pruner, self._arguments.levels
        if levels is not None:
            if "levels" not in type(pruner).model_fields:
                raise InputError(f"levels are for a pruner that has levels. Received: {type(pruner).__name__}")
            self._pruner = type(pruner)(**pruner.arguments() | {"levels": levels})

    @property
    def arguments(self) -> PruningArguments:
        return self._arguments

    def bind(self, network: Network) -> None:
        super().bind(network)
        options = self._arguments
        variables = network.parameters.variables
        self._targets = self._pruner.targets(network.parameters)
        paths = [target.path for target in self._targets]
        vectors = dependent_vectors(network.model) if network.removes_filters else {}
        self._silenced = {t.path: vectors.get(t.path, []) for t in self._targets if t.parameter.kind == CONV}
        dependents = [path for found in self._silenced.values() for path in found]
        self._layer = network.weights.layer(self.owner, [*paths, *dependents])
        self._layer.may_be_soft |= options.mask_on_forward_only or options.use_double_copies
        self._acts_within_epochs = bool(options.mini_batch_pruning_frequency) or options.skip_first_minibatch
        self._layer.changes_within_steps |= self._acts_within_epochs
        self._batch_norms = following_batch_norms(network.model) if options.fold_batchnorm else {}
        self._weights = {path: variables[path] for path in paths}
        self._numbers = {target.path: self._new_numbers(target) for target in self._targets}
        self._first_step = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self._compiled = tf.function(self._make_masks)

    def begin(self, when: When) -> None:
        options, layer = self._arguments, self._layer
        layer.is_soft.assign(options.mask_on_forward_only or options.use_double_copies)
        layer.keeps_copies.assign(options.use_double_copies)
        layer.masks_gradients.assign(options.mask_gradients)
        training = self.network.training
        evidence = TrainingEvidence(self.network.model, training, when.epoch)
        with self.network.weights.applied():
            self._take_numbers(when, evidence)
        if options.skip_first_minibatch and when.epoch == when.start:
            self._first_step.assign(when.epoch * training.steps_per_epoch + 1)
            return
        self._compiled(tf.constant(when.epoch * training.steps_per_epoch, tf.int64))
        if not layer.is_soft:
            self.network.weights.after_update()

    def before_forward(self, step: tf.Tensor) -> None:
        if not self._acts_within_epochs:
            return
        is_due = tf.equal(step, self._first_step)
        every = self._arguments.mini_batch_pruning_frequency
        if every:
            is_first = tf.equal(step % self.network.training.steps_per_epoch, 0)
            is_due |= tf.logical_and(tf.equal(step % every, 0), tf.logical_not(is_first))
        tf.cond(tf.logical_and(self.active, is_due), lambda: self._make_masks(step), lambda: None)

    def after_update(self) -> None:
        if self._arguments.discard_masks_at_minibatch_end:
            tf.cond(self.active, self._discard_masks, lambda: None)

    def end(self, when: When, logs: Mapping[str, float]) -> None:
        if self._arguments.keep_mask and self.epochs.is_last(when.epoch):
            self._layer.is_soft.assign(False)
            self._layer.keeps_copies.assign(False)
            self.network.weights.after_update()

    def state(self) -> dict[str, np.ndarray]:
        numbers = {f"numbers/{path}": variable.numpy() for path, variable in self._numbers.items()}
        return {"first_step": self._first_step.numpy(), **numbers}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._first_step.assign(state["first_step"])
        for path, variable in self._numbers.items():
            numbers = state[f"numbers/{path}"]
            if numbers.shape == variable.shape:  # else of a larger network; they are taken anew before they are used
                variable.assign(numbers)

    def _new_numbers(self, target: Target) -> tf.Variable:
        """A variable for the target's numbers; how many there are, the pruner says."""
        looked = self._pruner.first_look(target, self._judged(target.path).numpy())
        when = self.epochs.when(self.epochs.start)
        numbers = self._pruner.numbers(target, when, looked, NoEvidence(self.network.parameters))
        return tf.Variable(tf.zeros(np.shape(numbers)), trainable=False)

    def _take_numbers(self, when: When, evidence: TrainingEvidence) -> None:
        remembered = self._layer.remembered
        for target in self._targets:
            if target.path not in remembered:
                remembered[target.path] = self._pruner.first_look(target, self._judged(target.path).numpy())
            numbers = self._pruner.numbers(target, when, remembered[target.path], evidence)
            self._numbers[target.path].assign(numbers)

    def _judged(self, path: str) -> tf.Tensor:
        """The weights as the pruner sees them (traced)."""
        weights, norm = self._weights[path].value, self._batch_norms.get(path)
        if norm is None:
            return weights
        scale = 1.0 if norm.gamma is None else norm.gamma.value
        return weights * scale / tf.sqrt(norm.moving_variance.value + norm.epsilon)

    def _make_masks(self, step: tf.Tensor) -> None:
        previous = {path: self._layer.masks[path] for path in self._weights}
        weights = {path: self._judged(path) for path in self._weights}
        masks = self._pruner.masks(self._targets, weights, previous, self._numbers, step)
        for path, mask in masks.items():
            previous[path].assign(mask)
            is_alive = tf.cast(tf.reduce_any(mask > 0, axis=list(range(len(mask.shape) - 1))), tf.float32)
            for vector in self._silenced.get(path, []):
                self._layer.masks[vector].assign(is_alive)

    def _discard_masks(self) -> None:
        for mask in self._layer.masks.values():
            mask.assign(tf.ones_like(mask))
