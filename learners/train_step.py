"""The compiled part of every training: optimizer steps in one call, by one worker or several."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.distillation import Teacher
from compressors.policies import Batch, Policy, Replacement
from learners.evaluation import Loss, Quality, exact_sum
from learners.precision import FLOAT16, FLOAT32, LossScale, are_finite, set_precision
from nets.layers import synchronise_batch_norm
from nets.tasks import is_largest_right
from utils.errors import RunError, first_line
from utils.finite import all_finite
from utils.keras_layers import all_layers
from utils.workers import ALONE, Workers


class Steps(NamedTuple):
    """What a call of TrainStep gives.

    losses: of each step, against the labels `[n]`.
    quality: the sum over all examples of all steps (how many were classified right).
    divergences: of each step from the teacher `[n]`; None where there is none.
    is_finite: whether after the last step all numbers of network and optimizer are: a loss tells only of those before
        its own step.
    """

    losses: np.ndarray
    quality: float
    divergences: np.ndarray | None = None
    is_finite: bool = True


class TrainStep:
    """`run(iterator, rates, first_step)`: one optimizer step for each of the learning rates, in one compiled call.

    The loss is the policy's transform of `loss(labels, model(images))`; `weight_decay * w` is added to the gradient of
    every trainable variable outside batch norm. Learning rates and masks are data, so nothing is traced twice. With a
    teacher, the loss that the policy transforms is the sum of the one against the labels and of the teacher's.

    Several workers each have a batch of their own; gradients and losses are the means over all of them, so that all
    take the same step. Moving statistics of batch norm go their own ways during a call and are averaged at its end.

    Args:
        workers: those who train the network together.
        sync_batch_norm: whether batch norm normalises by the statistics of all workers' batches together.
        teacher: what the network also learns from; its outputs for a batch are part of the compiled step.
        precision: in what `train` has the network (and the teacher) compute: float32, bfloat16 or float16.
        xla: whether XLA compiles the forward and backward pass. The exchange of gradients is outside of it.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        loss: Loss,
        policy: Policy,
        weight_decay: float = 0.0,
        quality: Quality = is_largest_right,
        workers: Workers = ALONE,
        sync_batch_norm: bool = False,
        teacher: Teacher | None = None,
        precision: str = FLOAT32,
        xla: bool = False,
    ):
        self._loss, self._policy, self._weight_decay, self._quality = loss, policy, weight_decay, quality
        self.workers, self._sync_batch_norm = workers, sync_batch_norm
        self._teacher, self._precision, self._xla = teacher, precision, xla
        self.loss_scale = LossScale() if precision == FLOAT16 else None
        self.trace_count = 0
        self.adopt(Replacement(model, optimizer))

    def adopt(self, network: Replacement) -> None:
        """Trains this network from here on; it is traced anew."""
        self.model, self.optimizer = network
        if self._sync_batch_norm:
            synchronise_batch_norm(self.model, self.workers)
        self._statistics = _float_statistics(self.model) if self.workers.size > 1 else []
        self._decayed = {id(variable) for variable in _decayed_variables(self.model)}
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        _sum_over_no_replicas(self.optimizer)
        self._compiled: Any = None

    def set_precision(self, kind: str | None = None) -> None:
        """Has the network and the teacher compute in `kind`, by default the training's."""
        if self._precision == FLOAT32:  # they do, and a network of the user's own computes in what it pleases
            return
        set_precision(self.model, kind or self._precision)
        if self._teacher is not None:
            set_precision(self._teacher.model, kind or self._precision)

    def run(self, iterator: Any, rates: np.ndarray, first_step: int = 0) -> Steps:
        """Takes the steps; of several workers all figures are means over them.

        Raises:
            RunError: XLA is asked to compile what it cannot.
        """
        if self._compiled is None:
            numbers = (tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int64))
            specs = (tf.data.IteratorSpec(iterator.element_spec), *numbers)
            self._differentiate = self._compiled_by_xla(iterator.element_spec) if self._xla else self._gradients
            self._compiled = tf.function(self._run, input_signature=specs)
        rates, first_step = tf.constant(rates, tf.float32), tf.constant(first_step, tf.int64)
        (losses, quality), is_finite = self._compiled(iterator, rates, first_step)
        losses = losses.numpy()
        return Steps(losses[:, 0], float(quality), losses[:, 1] if losses.shape[1] > 1 else None, bool(is_finite))

    def _compiled_by_xla(self, batch_spec: Any) -> Callable:
        function = tf.function(self._gradients, jit_compile=True, autograph=False)
        try:
            function.experimental_get_compiler_ir(*batch_spec)(stage="hlo")  # what cannot be compiled is named here
        except ValueError as error:
            raise RunError(
                "--enbl_xla cannot compile the training step of this network, which works without it: "
                f"{first_line(error)}"
            ) from error
        return function

    def _run(self, iterator, rates, first_step):
        self.trace_count += 1
        step = tf.autograph.experimental.do_not_convert(self._step)  # only this loop is Python to be converted
        count = tf.size(rates)
        losses = tf.TensorArray(tf.float32, count)
        quality = tf.zeros([], tf.float64)
        for index in tf.range(count):
            of_step, of_examples = step(next(iterator), rates[index], first_step + tf.cast(index, tf.int64))
            losses = losses.write(index, of_step)
            quality += of_examples
        for variable, mean in zip(self._statistics, self.workers.mean(self._statistics), strict=True):
            variable.assign(mean)
        is_finite = all_finite([*self.model.variables, *self.optimizer.variables])
        return self.workers.mean([losses.stack(), quality]), is_finite

    def _step(self, batch, rate, step):
        self._policy.before_forward(step)
        gradients, losses, quality = self._differentiate(*batch)
        gradients = self._averaged(gradients)
        self.optimizer.learning_rate.assign(rate)
        if self.loss_scale is None:
            self._update(gradients)
        else:
            is_finite = are_finite(gradients)  # of the mean over all workers, who decide alike
            tf.cond(is_finite, lambda: self._update(gradients), lambda: None)
            self.loss_scale.update(is_finite)
        self._policy.after_update()
        return losses, quality

    def _gradients(self, images, labels):
        """Gradients, losses `[1]` (`[2]` with a teacher) and summed quality of one batch."""
        taught = None if self._teacher is None else self._teacher.logits(images)
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = [self._loss(labels, logits)]
            total = losses[0]
            if self._teacher is not None:
                losses.append(self._teacher.divergence(taught, logits))
                total += self._teacher.loss_weight * losses[1]
            total = self._policy.transform_loss(total, Batch(images, labels, logits))
            if self.loss_scale is not None:
                total = self.loss_scale.scaled(total)
        gradients = tape.gradient(total, [variable.value for variable in self.model.trainable_variables])
        if self.loss_scale is not None:
            gradients = self.loss_scale.unscaled(gradients)
        return gradients, tf.stack(losses), exact_sum(self._quality(labels, logits))

    def _update(self, gradients):
        variables = self.model.trainable_variables
        gradients = [self._decay(gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)]
        gradients = self._policy.transform_gradients(gradients, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def _averaged(self, gradients):
        means = iter(self.workers.mean([gradient for gradient in gradients if gradient is not None]))
        return [None if gradient is None else next(means) for gradient in gradients]

    def _decay(self, gradient, variable):
        decay = self._policy.weight_decay(variable, self._weight_decay if id(variable) in self._decayed else 0.0)
        return gradient + decay * variable.value if decay else gradient


def _sum_over_no_replicas(optimizer: keras.Optimizer) -> None:
    """Takes out Keras' sum of gradients over the replicas of tf.distribute: there is one, and workers have their mean.

    TensorFlow registers a gradient function for that sum, and by it keeps the graph of the step until the process ends.
    """
    optimizer._all_reduce_sum_gradients = list  # of pairs, which stay as they are


def _decayed_variables(model: keras.Model) -> list[keras.Variable]:
    norms = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    normalised = {id(variable) for layer in norms for variable in layer.variables}
    return [variable for variable in model.trainable_variables if id(variable) not in normalised]


def _float_statistics(model: keras.Model) -> list[tf.Variable]:
    """What a step changes beside the trained variables, and every worker by its own batch: moving statistics."""
    variables = [variable.value for variable in model.non_trainable_variables]
    return [variable for variable in variables if variable.dtype.is_floating]
