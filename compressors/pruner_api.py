"""Pruners over any built Keras model: the door for Python users, without flags, main.py or a run directory.

    pruner = LevelPruner(model, [{"sparsity": 0.8, "op_types": ["default"]}])
    pruner.compress()
    model.fit(...)                      # what was removed stays 0
    pruner.export_model("small.keras")

The classes and their configuration lists have the meaning of NNI's pruners; docs/pruner_api.md shows all of them.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from compressors.config_list import AgpEntry, Choice, Entry, LevelEntry, LotteryEntry, choose
from compressors.lottery import removed_after_round
from compressors.model_pruner import ModelPruner, callback, check_epoch
from compressors.ratios import num_removed
from compressors.training_state import TrainingState
from learners.weight_sparsification.search_pruner import SearchPruner
from utils.errors import InputError

__all__ = ["AGP_Pruner", "LevelPruner", "LotteryTicketPruner", "SearchPruner"]

ConfigList = Sequence[Mapping[str, Any]]


class ConfiguredPruner(ModelPruner):
    """A pruner of what a configuration list chooses."""

    entry_class: type[Entry]

    def __init__(
        self, model: keras.Model, config_list: ConfigList, optimizer: keras.optimizers.Optimizer | None = None
    ):
        choice: Choice = choose(model, config_list, self.entry_class)
        super().__init__(model, choice.kernels, choice.layers, optimizer)
        self._entries = choice.entries
        for message in choice.warnings:
            warnings.warn(message, stacklevel=2)

    def _remove(self, count_of: Callable[[Any, int], int]) -> None:
        """Masks `count_of(entry, size)` weights of each kernel, the smallest of those still there."""
        counts = {layer.path: count_of(self._entries[layer.path], layer.size) for layer in self._masks.layers}
        self._masks.select(counts, self.optimizer)


class LevelPruner(ConfiguredPruner):
    """Removes of each kernel exactly the `floor(sparsity * n)` weights of the smallest `|w|`, at once.

    Of equal ones the first by flat index go first.

    Args:
        model: built; pruned in place by `compress()`.
        config_list: `[{"sparsity": 0.8, "op_types": ["default"]}]`; keys `sparsity`, `op_types`, `op_names`, `exclude`.
        optimizer: the one of a custom loop; needed only where it averages weights (`use_ema`).

    Raises:
        InputError: the model or the list is not as it must be; all problems of the list are told at once.
    """

    entry_class = LevelEntry

    def _prune(self) -> None:
        self._remove(lambda entry, size: num_removed(entry.sparsity, size))


class AGP_Pruner(ConfiguredPruner):
    """Automated gradual pruning: sparsity rises with the epochs (Zhu & Gupta 2017, "To prune, or not to prune").

    `s = s_f + (s_i - s_f) * (1 - (e - start) / (end - start))**3`, in steps of `frequency` epochs, 0 before `start`
    and s_f from `end` on. Each time the smallest of the weights still there are removed; none comes back.

    Args:
        model, optimizer: as of `LevelPruner`.
        config_list: `[{"initial_sparsity": 0, "final_sparsity": 0.8, "start_epoch": 0, "end_epoch": 10, "frequency": 1,
            "op_types": "default"}]`; keys as of `LevelPruner`, but these for `sparsity`.
    """

    entry_class = AgpEntry

    def _prune(self) -> None:
        self.update_epoch(0)

    def update_epoch(self, epoch: int) -> None:
        """Prunes to the sparsity of this epoch (from 0), which depends on the epoch alone: call it as each one begins.

        Epochs may be skipped or repeated. Going back, after weights of an earlier epoch were loaded, the weights that
        were removed since then return: those that are there, or else as they were when they were removed.

        Raises:
            InputError: `epoch` is no whole number from 0, or `compress()` was not called yet.
        """
        check_epoch(epoch)
        self._remove(lambda entry, size: num_removed(entry.sparsity_at(int(epoch)), size))

    def callback(self) -> keras.callbacks.Callback:
        """For `model.fit(callbacks=[pruner.callback()])`: calls `update_epoch` at the beginning of each epoch."""
        return callback(self.update_epoch)


class LotteryTicketPruner(ConfiguredPruner):
    """Iterative pruning with rewinding (Frankle & Carbin 2019; late rewinding: Frankle et al. 2020).

        pruner.compress()
        for _ in pruner.get_prune_iterations():
            pruner.prune_iteration_start()
            for epoch in range(pruner.first_epoch, epochs):
                ...

    Round 0 trains the dense network. Each of the n rounds after it removes `1 - (1 - P)**(1 / n)` of each kernel's
    survivors, the smallest after the training before it, and goes back to the initial state with the mask kept. After
    round r `floor((1 - (1 - P)**(r / n)) * size)` weights of a kernel are gone.

    Args:
        model: built, with its initial weights.
        config_list: `[{"prune_iterations": 5, "sparsity": 0.8, "op_types": ["default"]}]`; n must be the same in all
            entries.
        optimizer: the one that trains the model (of a compiled model: `model.optimizer`).
        lr_scheduler: what changes the learning rate, and is put back with the optimizer: see `TrainingState`.
        reset_weights: False keeps the trained weights; optimizer and scheduler are put back all the same.
        rewind_epoch: k, the epoch at whose beginning the state is taken that rounds go back to. Above 0,
            `update_epoch(epoch)` must be called as epochs begin (or `callback()` given to `fit`).
    """

    entry_class = LotteryEntry

    def __init__(
        self,
        model: keras.Model,
        config_list: ConfigList,
        optimizer: keras.optimizers.Optimizer,
        lr_scheduler: Any = None,
        reset_weights: bool = True,
        rewind_epoch: int = 0,
    ):
        super().__init__(model, config_list, optimizer)
        if optimizer is None:
            raise InputError("optimizer must be the one that trains the model: it is put back too. Received: None")
        rounds = {entry.prune_iterations for entry in self._entries.values()}
        if len(rounds) > 1:
            raise InputError(f"prune_iterations must be the same in all entries. Received: {sorted(rounds)}")
        check_epoch(rewind_epoch)
        self._num_rounds = rounds.pop()
        self._lr_scheduler, self._reset_weights, self._rewind_epoch = lr_scheduler, reset_weights, int(rewind_epoch)
        self._round = -1
        self._state: TrainingState | None = None

    @property
    def first_epoch(self) -> int:
        """Where the training of this round begins: 0, and `rewind_epoch` after a rewinding."""
        return self._rewind_epoch if self._round > 0 and self._reset_weights else 0

    def get_prune_iterations(self) -> range:
        """The rounds, from 0 (dense) to n: each begins with `prune_iteration_start()` and is then trained."""
        return range(self._num_rounds + 1)

    def prune_iteration_start(self) -> None:
        """Begins the next round: prunes (but for round 0) and goes back.

        Raises:
            InputError: `compress()` was not called, all rounds are done, or `update_epoch` never saw `rewind_epoch`.
        """
        masks = self._masks
        if self._round >= self._num_rounds:
            raise InputError(f"there are {self._num_rounds} rounds after round 0. Received: another start of a round")
        if self._round >= 0:
            if self._state is None:
                raise InputError(
                    f"rewind_epoch={self._rewind_epoch} needs update_epoch({self._rewind_epoch}) in round 0: call "
                    "update_epoch(epoch) as each epoch begins, or give callback() to fit. Received: no such call"
                )
            done, rounds = self._round + 1, self._num_rounds
            self._remove(lambda entry, size: removed_after_round(size, entry.sparsity, done, rounds))
            self._state.restore(with_weights=self._reset_weights)
            masks.clean()
        self._round += 1

    def update_epoch(self, epoch: int) -> None:
        """Says that an epoch begins; in round 0 the state at `rewind_epoch` is taken for the rounds to go back to."""
        check_epoch(epoch)
        if self._round <= 0 and epoch == self._rewind_epoch:
            self._take_state()

    def callback(self) -> keras.callbacks.Callback:
        """For `model.fit(callbacks=[pruner.callback()])`: calls `update_epoch` at the beginning of each epoch."""
        return callback(self.update_epoch)

    def _prune(self) -> None:
        assert self.optimizer is not None, "a lottery ticket has one"
        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)
        if self._rewind_epoch == 0:
            self._take_state()

    def _take_state(self) -> None:
        self._state = TrainingState(self.model, self.optimizer, self._lr_scheduler)
