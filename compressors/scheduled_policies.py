"""What a schedule's policies share, and the simple ones: regularizers, learning rates, quantizers, extensions."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from compressors.channels import dependent_vectors
from compressors.components import Component, Target, When
from compressors.extensions import Extension, Thinned
from compressors.lr_schedulers import LRScheduler
from compressors.mask_layers import MaskedWeights
from compressors.parameters import Parameters
from compressors.policies import Batch, Policy
from compressors.quantizers.base import Quantizer
from compressors.regularizers.base import Regularizer
from compressors.schedule import RegularizationArguments, Timing


class Training(NamedTuple):
    """What policies may know of the training that they are part of.

    `batches` gives a few training batches (images, labels) with the same content at each call.
    """

    steps_per_epoch: int
    base_rate: float
    batches: Callable[[], tf.data.Dataset]
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    seed: int = 0


class Network(NamedTuple):
    """The network that policies act on, until a policy replaces it."""

    model: keras.Model
    optimizer: keras.Optimizer
    parameters: Parameters
    weights: MaskedWeights
    training: Training
    removes_filters: bool  # whether the schedule will remove filters that are zero


class ScheduledPolicy(Policy):
    """A policy that a CompressionScheduler drives.

    A subclass overrides `begin` and `end`, which are called in its active epochs only; what it traces looks at the
    variable `active`. When the network is replaced, `bind` to the new one comes first, then `restore`.

    Args:
        component: the pruner, regularizer, ... that acts; None for a policy of code alone.
        name: of the component in a schedule file; policies that name the same component share its masks.
    """

    kind: ClassVar[str] = ""

    def __init__(self, component: Component | None = None, name: str = ""):
        self.component, self.name = component, name
        self.timing: Timing | None = None
        self.active = tf.Variable(False, trainable=False)

    @property
    def epochs(self) -> Timing:
        """The epochs in which it acts, from the moment on that a scheduler has it."""
        assert self.timing is not None, "the policy belongs to no scheduler"
        return self.timing

    @property
    def owner(self) -> str:
        """Whose masks and memory these are: policies of one component share them."""
        return f"{self.kind}:{self.name}"

    @property
    def arguments(self) -> Any:
        """The policy's `args`, as the schedule file has them; None where the kind takes none."""
        return None

    def bind(self, network: Network) -> None:
        """Makes ready for a network; called again when it is replaced."""
        self.network = network

    def begin(self, when: When) -> None:
        """Called before the first step of an active epoch."""

    def end(self, when: When, logs: Mapping[str, float]) -> None:
        """Called after the last step of an active epoch."""

    def take_thinned(self) -> Thinned | None:
        """The network that takes the place of the current one from here on, given once."""
        return None

    def on_epoch_begin(self, epoch: int) -> None:
        self.resume(epoch)
        if self.epochs.is_active(epoch):
            self.begin(self.epochs.when(epoch))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if self.epochs.is_active(epoch):
            self.end(self.epochs.when(epoch), logs)

    def resume(self, epoch: int) -> None:
        """Goes on in the middle of an epoch."""
        self.active.assign(self.epochs.is_active(epoch))


class RegularizationPolicy(ScheduledPolicy):
    """Adds a regularizer's penalties to the loss of its active epochs, and zeroes weights by its threshold.

    Args:
        arguments: `keep_mask`: the threshold's last mask stays in force after the last active epoch.
    """

    kind = "regularizer"
    component: Regularizer

    def __init__(self, regularizer: Regularizer, name: str = "", **arguments: Any):
        super().__init__(regularizer, name)
        self._arguments = RegularizationArguments.read(arguments)

    @property
    def arguments(self) -> RegularizationArguments:
        return self._arguments

    def bind(self, network: Network) -> None:
        super().bind(network)
        self._targets = self.component.targets(network.parameters)
        self._strengths = {t.path: tf.Variable(self.component.strength(t), trainable=False) for t in self._targets}
        self._layer = None
        if self._arguments.keep_mask and self.component.threshold_criteria is not None:
            self._layer = network.weights.layer(self.owner, [target.path for target in self._targets])

    def transform_loss(self, loss: tf.Tensor, batch: Batch) -> tf.Tensor:
        def penalty() -> tf.Tensor:
            return tf.add_n([self.component.loss(t, self._weights(t), self._strengths[t.path]) for t in self._targets])

        return loss + tf.cond(self.active, penalty, lambda: 0.0)

    def after_update(self) -> None:
        if self.component.threshold_criteria is not None:
            tf.cond(self.active, self._zero_weights, lambda: None)

    def end(self, when: When, logs: Mapping[str, float]) -> None:
        if self._layer is not None and self.epochs.is_last(when.epoch):
            for target in self._targets:
                self._layer.masks[target.path].assign(self._mask(target))

    def _weights(self, target: Target) -> tf.Tensor:
        return self.network.parameters.variables[target.path].value

    def _mask(self, target: Target) -> tf.Tensor:
        return self.component.mask(target, self._weights(target), self._strengths[target.path])

    def _zero_weights(self) -> None:
        for target in self._targets:
            self.network.parameters.variables[target.path].assign(self._weights(target) * self._mask(target))


class _Rate:
    """The learning rate of a scheduler, and what it remembers: the same for all policies of it."""

    def __init__(self):
        self.value: float | None = None
        self.memory: dict[str, float] = {}


class LRPolicy(ScheduledPolicy):
    """Sets the learning rate at the end of each active epoch; until then it is the schedule's rate of epoch 0."""

    kind = "lr_scheduler"
    component: LRScheduler

    def __init__(self, lr_scheduler: LRScheduler, name: str = ""):
        super().__init__(lr_scheduler, name)
        self._rate = _Rate()

    def share_rate(self, other: "LRPolicy") -> None:
        """Goes on from the rate of an earlier policy of the same scheduler."""
        self._rate = other._rate

    def bind(self, network: Network) -> None:
        super().bind(network)
        if self._rate.value is None:
            training = network.training
            self._rate.value = self.component.rate_at(training.base_rate, 0, training.steps_per_epoch)

    def end(self, when: When, logs: Mapping[str, float]) -> None:
        training, rate = self.network.training, self._rate
        rate.value, rate.memory = self.component.next_rate(
            training.base_rate, when.epoch + 1, training.steps_per_epoch, rate.memory, logs
        )

    def learning_rates(self, recipe: np.ndarray) -> np.ndarray:
        return np.full_like(recipe, self._rate.value)

    def state(self) -> dict[str, np.ndarray]:
        memory = {f"memory/{key}": np.array(value, np.float64) for key, value in self._rate.memory.items()}
        return {"rate": np.array(self._rate.value, np.float64), **memory}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        prefix = "memory/"
        self._rate.value = float(state["rate"])
        self._rate.memory = {key[len(prefix) :]: float(v) for key, v in state.items() if key.startswith(prefix)}


class QuantizationPolicy(ScheduledPolicy):
    """Trains the network that a quantizer made; the scheduler's `prepare` makes it, before epoch 0."""

    kind = "quantizer"
    component: Quantizer

    def __init__(self, quantizer: Quantizer, name: str = ""):
        super().__init__(quantizer, name)

    def transform_loss(self, loss: tf.Tensor, batch: Batch) -> tf.Tensor:
        return loss + self.component.extra_loss(self.network.model)

    def weight_decay(self, variable: keras.Variable, default: float) -> float:
        return self.component.weight_decay(variable, default)


class ExtensionPolicy(ScheduledPolicy):
    """Lets an extension rebuild the network at the end of each active epoch.

    Before, biases and batch norm scales of filters that are all zero are zeroed too: such a filter would go on adding a
    constant, which cannot be taken out of the network without a trace.
    """

    kind = "extension"
    component: Extension

    def __init__(self, extension: Extension, name: str = ""):
        super().__init__(extension, name)
        self._thinned: Thinned | None = None

    def end(self, when: When, logs: Mapping[str, float]) -> None:
        self.network.weights.apply()
        variables = self.network.parameters.variables
        for path, vectors in dependent_vectors(self.network.model).items():
            kernel = variables[path].numpy()
            is_alive = np.any(kernel != 0, axis=tuple(range(kernel.ndim - 1)))
            for vector in vectors:
                variables[vector].assign(variables[vector].numpy() * is_alive)
        self._thinned = self.component.apply(self.network.model, self.network.optimizer)

    def take_thinned(self) -> Thinned | None:
        thinned, self._thinned = self._thinned, None
        return thinned
