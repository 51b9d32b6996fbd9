"""What every round of the lottery ticket goes back to, and the policy that keeps it during the dense training."""

from pathlib import Path

import keras
import numpy as np

from compressors.masks import MaskSet, optimizer_slots
from compressors.policies import Policy
from learners.variables import named_arrays, restore_variables
from utils.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from utils.errors import RunError
from utils.workers import ALONE, Workers, from_first


class RewindPoint:
    """A network and its optimizer as they were before the first step of an epoch, in a file.

    All their variables: kernels, biases, statistics of batch norm, random states of layers, momenta, the step count.
    """

    def __init__(self, path: Path, workers: Workers = ALONE):
        self.path, self._workers = path, workers

    def save(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Writes the file, whole or not at all; of several workers rank 0 does."""
        if not self._workers.is_first:
            return
        arrays = {f"model/{path}": array for path, array in named_arrays(model.variables).items()}
        arrays |= {f"optimizer/{index}": np.asarray(slot.value) for index, slot in enumerate(optimizer.variables)}
        write_checkpoint(self.path, Checkpoint(arrays, {}))

    def rewind(self, model: keras.Model, optimizer: keras.Optimizer, masks: MaskSet) -> None:
        """Puts everything back as it was, but for the masked weights and their momenta, which become 0.

        Raises:
            RunError: the file is missing or damaged.
        """
        found = from_first(self._workers, lambda: read_checkpoint(self.path))
        if found is None:
            raise RunError(f"there is no {self.path}, which every round begins with; --overwrite starts anew")
        weights = {name.removeprefix("model/"): v for name, v in found.arrays.items() if name.startswith("model/")}
        restore_variables(model.variables, weights, str(self.path))
        for index, slot in enumerate(optimizer.variables):
            slot.assign(found.arrays[f"optimizer/{index}"])
        masks.apply()
        for mask, slots in zip(masks.masks, optimizer_slots(optimizer, masks.kernels), strict=True):
            for slot in slots:
                slot.assign(slot * mask)


class KeepRewindPoint(Policy):
    """Trains as without it, and saves the rewinding point before an epoch begins.

    A training that is resumed after that finds the file: no checkpoint is written between the two.
    """

    def __init__(self, epoch: int, point: RewindPoint, model: keras.Model, optimizer: keras.Optimizer):
        self._epoch, self._point, self._model, self._optimizer = epoch, point, model, optimizer

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._point.save(self._model, self._optimizer)
