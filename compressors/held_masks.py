"""Masks that hold by themselves in any training: whichever Keras optimizer updates a kernel applies its mask."""

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from compressors.masks import MaskSet

FindOptimizer = Callable[[], keras.optimizers.Optimizer | None]


class HeldMasks(MaskSet):
    """A MaskSet whose masked weights are 0 after every update by a Keras optimizer.

    Keras' optimizers call the `constraint` of each variable that they have updated, as part of the compiled step. There
    the mask is applied, after the kernel's own constraint. No layer is wrapped or changed, and nothing of it is saved
    with the model.

    Args:
        kernels: name -> kernel.
        optimizer: gives the optimizer in use, or None; asked for while a step is traced. Where the optimizer averages
            the weights (`use_ema`), the averages are masked too: they may take the weights' place.
    """

    def __init__(self, kernels: Mapping[str, keras.Variable], optimizer: FindOptimizer = lambda: None):
        super().__init__(list(kernels.values()), list(kernels))
        self._before = [kernel.constraint for kernel in self.kernels]
        for kernel, mask in zip(self.kernels, self.masks, strict=True):
            average = functools.partial(_average_of, kernel, optimizer)
            kernel.constraint = MaskConstraint(mask, kernel.constraint, average)

    def release(self) -> None:
        """Lets go of the kernels: they have the constraints of before."""
        for kernel, constraint in zip(self.kernels, self._before, strict=True):
            kernel.constraint = constraint

    def broken(self) -> list[str]:
        """The names of the kernels that have masked weights which are not 0."""
        return [
            layer.path
            for layer, kernel, mask in zip(self.layers, self.kernels, self.masks, strict=True)
            if bool(tf.reduce_any((mask == 0) & (kernel.value != 0)))
        ]

    def set_masks(self, masks: Sequence[tf.Tensor]) -> None:
        """Takes these masks, in the order of `kernels`, and masks the kernels, whose values go to the backups."""
        for mask, value, kernel, backup in zip(self.masks, masks, self.kernels, self.backups, strict=True):
            backup.assign(tf.where((mask > 0) | (kernel.value != 0), kernel.value, backup))
            mask.assign(tf.cast(value, mask.dtype))
        self.clean()

    def clean(self) -> None:
        """Masks the kernels now, with 0 and not -0, which compresses badly."""
        for kernel, mask in zip(self.kernels, self.masks, strict=True):
            kernel.assign(tf.where(mask > 0, kernel.value, tf.zeros_like(kernel.value)))


class MaskConstraint:
    """What an optimizer calls with a kernel that it has updated: `w -> constraint(w) * mask`.

    Masked weights become 0 whatever they were, infinite or NaN included.
    """

    def __init__(
        self,
        mask: tf.Variable,
        constraint: Callable[[tf.Tensor], tf.Tensor] | None,
        average: Callable[[], keras.Variable | None],
    ):
        self._mask, self._constraint, self._average = mask, constraint, average

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        average = self._average()
        if average is not None:
            average.assign(self._masked(average.value))
        return self._masked(tf.convert_to_tensor(weights if self._constraint is None else self._constraint(weights)))

    def _masked(self, weights: tf.Tensor) -> tf.Tensor:
        return tf.where(self._mask > 0, weights, tf.zeros_like(weights))


def _average_of(kernel: keras.Variable, optimizer: FindOptimizer) -> keras.Variable | None:
    """The optimizer's moving average of the kernel, where it keeps one."""
    used = optimizer()
    used = getattr(used, "inner_optimizer", used)  # of one that scales the loss
    if used is None or not getattr(used, "use_ema", False) or not used.built:
        return None
    # By name, as in masks.optimizer_slots: there is no public link from a kernel to its average.
    name = f"{kernel.path.replace('/', '_')}_average"
    same = [variable for variable in used.variables if variable.name == name and variable.shape == kernel.shape]
    return same[0] if len(same) == 1 else None
