"""What all pruners of the pruner API share: masks that hold in any training, files, and the table of what is gone."""

import abc
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from rich.console import Console

from compressors.held_masks import HeldMasks
from compressors.kernels import KernelLayer
from utils.errors import InputError
from utils.files import write_atomically
from utils.npz_files import ArrayFile
from utils.tables import plain_text, titled_table

TABLE_WIDTH = 110


class PrunedKernel(NamedTuple):
    """What is gone of one kernel. `removed` counts masked weights; `sparsity` is their share of `weights`."""

    layer: str
    kernel: str
    op_type: str
    shape: tuple[int, ...]
    weights: int
    removed: int

    @property
    def sparsity(self) -> float:
        return self.removed / self.weights


class PrunedWeights(list[PrunedKernel]):
    """A row for each pruned kernel; printed, it is a table with the total at its foot."""

    @property
    def sparsity(self) -> float:
        """The share that is gone of all weights of the pruned kernels, in [0, 1]."""
        return sum(row.removed for row in self) / sum(row.weights for row in self)

    def __str__(self) -> str:
        return plain_text(self._print, TABLE_WIDTH)

    def _print(self, console: Console) -> None:
        table = titled_table("Pruned weights", column_gap=2, show_footer=True)
        weights, removed = (sum(getattr(row, name) for row in self) for name in ("weights", "removed"))
        for name, foot in {"Kernel": "total", "Type": "", "Shape": ""}.items():
            table.add_column(name, foot)
        for name, foot in {
            "Weights": f"{weights:,}",
            "Removed": f"{removed:,}",
            "Share": f"{self.sparsity:.1%}",
        }.items():
            table.add_column(name, foot, justify="right")
        for row in self:
            shape = "x".join(map(str, row.shape))
            table.add_row(row.kernel, row.op_type, shape, f"{row.weights:,}", f"{row.removed:,}", f"{row.sparsity:.1%}")
        console.print(table)


class ModelPruner(abc.ABC):
    """Removes weights of a Keras model and keeps them removed, however the model is trained afterwards.

    After `compress()` a removed weight is 0 after every update by a Keras optimizer: under `model.fit`, in a custom
    loop, with mixed precision, gradient accumulation or `steps_per_execution`. Layers are neither wrapped nor renamed.
    A training step of one's own that was compiled (`tf.function`) before `compress()` must be compiled again.
    """

    def __init__(
        self,
        model: keras.Model,
        kernels: Mapping[str, keras.Variable],
        layers: Mapping[str, KernelLayer],
        optimizer: keras.optimizers.Optimizer | None,
    ):
        if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
            raise InputError(f"optimizer must be a keras.optimizers.Optimizer. Received: {type(optimizer).__name__}")
        self.model = model
        self._kernels, self._layers, self._given_optimizer = dict(kernels), dict(layers), optimizer
        self._held: HeldMasks | None = None

    @property
    def optimizer(self) -> keras.optimizers.Optimizer | None:
        """The one that was given, else the one that the model was compiled with."""
        return self._given_optimizer or getattr(self.model, "optimizer", None)

    def compress(self) -> keras.Model:
        """Prunes the model in place as the configuration says, and returns it.

        Raises:
            InputError: it was called before, masks were loaded, or a weight is NaN.
        """
        if self._held is not None:
            raise InputError(
                f"compress() prunes {self.model.name!r} once, and load_masks() takes its place. Received: a second call"
            )
        self._hold()
        try:
            self._prune()
        except BaseException:  # an interrupt too leaves the model as it was
            self._release()
            raise
        return self.model

    @abc.abstractmethod
    def _prune(self) -> None:
        """What `compress()` does once the masks, all ones, are in place."""

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Kernel name -> boolean array of the kernel's shape, True where the weight is kept."""
        return {layer.path: mask.numpy() > 0 for layer, mask in zip(self._masks.layers, self._masks.masks, strict=True)}

    def get_pruned_weights(self) -> PrunedWeights:
        """What is gone of each kernel, as a list of rows; `print` it to see a table."""
        self._warn_of_broken()
        return PrunedWeights(
            PrunedKernel(
                self._layers[name].nested_name, name, self._layers[name].op_type, mask.shape, mask.size,
                int(mask.size - np.count_nonzero(mask)),
            )
            for name, mask in self.masks.items()
        )  # fmt: skip

    def apply_masks(self) -> None:
        """Sets the masked weights to 0 now: after weights were loaded or assigned. Optimizers do it by themselves."""
        self._masks.clean()

    def export_model(self, path: str | Path, mask_path: str | Path | None = None) -> None:
        """Writes the pruned model, and its masks where `mask_path` is given.

        Both are plain files: the model needs nothing of ours to be loaded, the masks are boolean arrays by kernel name.

        Args:
            path: `.keras` for the whole model, `.weights.h5` for its weights alone.
            mask_path: `.npz`.

        Raises:
            InputError: a name that does not end so, or `compress()` was not called yet.
            RunError: the disk refuses; older files stay.
        """
        path, mask_path = Path(path), None if mask_path is None else Path(mask_path)
        if not path.name.endswith((".keras", ".weights.h5")):
            raise InputError(f"path must end in .keras or .weights.h5. Received: {str(path)!r}")
        if mask_path is not None and mask_path.suffix != ".npz":
            raise InputError(f"mask_path must end in .npz. Received: {str(mask_path)!r}")
        self._warn_of_broken()
        self.apply_masks()
        write_atomically(path, self.model.save if path.suffix == ".keras" else self._save_weights)
        if mask_path is not None:
            masks = self.masks
            write_atomically(mask_path, lambda temporary: np.savez_compressed(temporary, allow_pickle=False, **masks))

    def load_masks(self, path: str | Path) -> Self:
        """Takes the masks that `export_model` wrote, in place of `compress()` or after it, and masks the model.

        Raises:
            InputError: there is no such file, it is damaged, or its masks are not of the kernels that are pruned here.
        """
        masks = _read_masks(Path(path), {name: tuple(kernel.shape) for name, kernel in self._kernels.items()})
        if self._held is None:
            self._hold()
        self._masks.set_masks([masks[layer.path] for layer in self._masks.layers])
        return self

    @property
    def _masks(self) -> HeldMasks:
        if self._held is None:
            raise InputError(f"call compress() or load_masks() first. Received: a {type(self).__name__} without masks")
        return self._held

    def _hold(self) -> None:
        self._held = HeldMasks(self._kernels, lambda: self.optimizer)
        # A step that `fit` compiled before knows nothing of the masks.
        self.model.train_function = None

    def _release(self) -> None:
        assert self._held is not None
        self._held.release()
        self._held = None

    def _save_weights(self, temporary: Path) -> None:
        # Keras looks at the end of the name, which a temporary one has lost.
        named = temporary.with_name(f"{temporary.name}.weights.h5")
        try:
            self.model.save_weights(named)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)

    def _warn_of_broken(self) -> None:
        broken = self._masks.broken()
        if broken:
            warnings.warn(
                f"masked weights of {', '.join(broken)} were not 0 any more: they were assigned, or updated by a step "
                "that was compiled before compress() or that uses no Keras optimizer. They count as removed",
                stacklevel=3,
            )


def callback(update: Callable[[int], Any]) -> keras.callbacks.Callback:
    """Calls `update(epoch)` at the beginning of each epoch of `model.fit`."""

    class EpochBegin(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            update(epoch)

    return EpochBegin()


def check_epoch(epoch: int) -> None:
    """Raises InputError unless `epoch` is a whole number from 0."""
    if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch < 0:
        raise InputError(f"epoch must be a whole number, at least 0. Received: {epoch!r}")


def _read_masks(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"there is no file of masks at {path.absolute()}")
    try:
        with ArrayFile(path, deflated=True) as file:
            masks = dict(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as masks: {error}") from error
    for name in [*shapes, *masks]:
        wanted, given = shapes.get(name, "none"), masks[name].shape if name in masks else "none"
        if wanted != given:
            raise InputError(f"{path} holds masks of other kernels: that of {name} must be {wanted}. Received: {given}")
        if masks[name].dtype != bool:
            raise InputError(f"{path}: the mask of {name} must be of booleans. Received: {masks[name].dtype}")
    return masks
