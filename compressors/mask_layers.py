"""The masks in force over a network in training, and how they act within a compiled step."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compressors.extensions import Slices, sliced


class MaskLayer:
    """The masks that one pruner or regularizer keeps, by parameter path, and how they act.

    A hard mask is applied to the weights themselves: a masked weight is 0 after every step. A soft one masks the
    weights for the forward pass; then the optimizer updates either what the forward pass left (a masked weight starts
    from 0), or with `keeps_copies` the weights as they were before. How they act is held in variables.
    """

    def __init__(self):
        self.masks: dict[str, tf.Variable] = {}
        self.is_soft, self.keeps_copies, self.masks_gradients = (tf.Variable(False, trainable=False) for _ in range(3))
        self.may_be_soft = False  # known before tracing, so that a schedule of hard masks pays nothing for soft ones
        self.changes_within_steps = False
        self.remembered: dict[str, np.ndarray] = {}  # what its rule took when it was first applied

    def state(self, slices: Slices) -> dict[str, np.ndarray]:
        """Masks, how they act, and what is remembered."""
        flags = {"soft": self.is_soft, "copies": self.keeps_copies, "gradients": self.masks_gradients}
        return {
            **{f"mask/{path}": sliced(mask.numpy(), slices.get(path)) for path, mask in self.masks.items()},
            **{f"flag/{name}": flag.numpy() for name, flag in flags.items()},
            **{f"remembered/{path}": value for path, value in self.remembered.items()},
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""
        for path, mask in self.masks.items():
            mask.assign(state[f"mask/{path}"])
        for name, flag in zip(("soft", "copies", "gradients"), self._flags(), strict=True):
            flag.assign(bool(state[f"flag/{name}"]))
        prefix = "remembered/"
        self.remembered = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}

    def _flags(self) -> Sequence[tf.Variable]:
        return self.is_soft, self.keeps_copies, self.masks_gradients


class MaskedWeights:
    """All mask layers over the trainable variables of one network; a weight stays where every layer lets it."""

    def __init__(self, variables: Mapping[str, keras.Variable]):
        self.variables = variables
        self.layers: dict[str, MaskLayer] = {}
        self._unmasked: dict[str, tf.Tensor] = {}

    def layer(self, owner: str, paths: Sequence[str]) -> MaskLayer:
        """The layer of that owner, with a mask at least for these parameters."""
        layer = self.layers.setdefault(owner, MaskLayer())
        for path in paths:
            if path not in layer.masks:
                layer.masks[path] = tf.Variable(tf.ones(self.variables[path].shape), trainable=False)
        return layer

    def before_forward(self) -> None:
        """Masks what is masked for the forward pass only, or was masked anew within this step (traced)."""
        for path in self._paths(lambda layer: layer.may_be_soft or layer.changes_within_steps):
            variable = self.variables[path]
            self._unmasked[path] = tf.identity(variable.value)
            variable.assign(variable.value * self._in_force(path))

    def transform_gradients(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> list[tf.Tensor]:
        """Gradients with those of hard masked weights 0; puts the unmasked copies back for the optimizer (traced)."""
        for path in self._paths(lambda layer: layer.may_be_soft):
            variable = self.variables[path]
            keeps_copies = functools.reduce(tf.logical_or, [layer.keeps_copies for layer in self._over(path)])
            variable.assign(tf.where(keeps_copies, self._unmasked[path], variable.value))

        def gradient_mask(layer: MaskLayer, mask: tf.Variable) -> tf.Tensor:
            lets_through = tf.logical_and(layer.is_soft, tf.logical_not(layer.masks_gradients))
            return tf.where(lets_through, tf.ones_like(mask), mask) if layer.may_be_soft else mask

        return [
            functools.reduce(
                tf.multiply, [gradient_mask(layer, layer.masks[v.path]) for layer in self._over(v.path)], gradient
            )
            for gradient, v in zip(gradients, variables, strict=True)
        ]

    def after_update(self) -> None:
        """Masks hard masked weights again, which momentum and weight decay may have moved (traced)."""
        for path in self._paths(lambda layer: True):
            variable = self.variables[path]
            masks = [
                tf.where(layer.is_soft, tf.ones_like(layer.masks[path]), layer.masks[path])
                if layer.may_be_soft
                else layer.masks[path]
                for layer in self._over(path)
            ]
            variable.assign(functools.reduce(tf.multiply, masks, variable.value))

    def apply(self) -> None:
        """Masks all weights, soft masks included."""
        for path in self._paths(lambda layer: True):
            variable = self.variables[path]
            variable.assign(tf.where(self._in_force(path) > 0, variable.value, 0.0))  # not -0, which compresses badly

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it all weights are masked; the unmasked copies come back afterwards."""
        kept = {path: self.variables[path].numpy() for path in self._paths(lambda layer: layer.may_be_soft)}
        self.apply()
        try:
            yield
        finally:
            for path, value in kept.items():
                self.variables[path].assign(value)

    def masked_counts(self) -> dict[str, int]:
        """How many weights of each parameter with a mask are masked."""
        return {
            path: int(np.size(mask) - np.count_nonzero(mask))
            for path in self._paths(lambda layer: True)
            for mask in [self._in_force(path).numpy()]
        }

    def state(self, slices: Slices) -> dict[str, np.ndarray]:
        """Of all layers, as it is for a network whose variables are sliced so."""
        return {f"{owner}/{k}": v for owner, layer in self.layers.items() for k, v in layer.state(slices).items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes back what `state` gave."""
        for owner, layer in self.layers.items():
            prefix = f"{owner}/"
            layer.restore({key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)})

    def _over(self, path: str) -> list[MaskLayer]:
        return [layer for layer in self.layers.values() if path in layer.masks]

    def _paths(self, is_meant: Callable[[Any], Any]) -> list[str]:
        return list(dict.fromkeys(p for layer in self.layers.values() if is_meant(layer) for p in layer.masks))

    def _in_force(self, path: str) -> tf.Tensor:
        return functools.reduce(tf.multiply, [layer.masks[path] for layer in self._over(path)], tf.constant(1.0))
