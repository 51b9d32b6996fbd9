"""Extensions: what a schedule does to the network beside masking, penalising and quantizing it."""

import abc
from typing import ClassVar

import keras

from compressors.components import Component
from compressors.removal import Function, Slices, sliced
from compressors.thinning import Thinned, check_thinnable, thin

__all__ = [
    "EXTENSIONS",
    "ChannelRemover",
    "Extension",
    "FilterRemover",
    "Slices",
    "StructureRemover",
    "Thinned",
    "sliced",
]


class Extension(Component, abc.ABC):
    """Acts at the end of each active epoch."""

    section: ClassVar[str] = "extensions"

    @abc.abstractmethod
    def check(self, model: keras.Model) -> None:
        """Raises InputError for what can be known to be wrong before training."""

    @abc.abstractmethod
    def apply(self, model: keras.Model, optimizer: keras.Optimizer) -> Thinned | None:
        """The network that takes the place of `model`; None where there is nothing to do."""


class StructureRemover(Extension):
    """Takes filters and channels of zeros out of the network, and all that depended on them; see `thin`.

    As in Distiller, `thinning_func_str` alone says what is removed; the classes differ in its default.

    Args:
        thinning_func_str: `remove_filters`: filters of convolutions that are zero; `remove_channels`: filters that all
            their readers have zeros for; `remove_structures`: both, and hidden units of dense layers likewise.
        arch, dataset: without effect; Distiller needs them to draw its graph, we have the model's own.
    """

    thinning_func_str: Function = "remove_structures"
    arch: str | None = None
    dataset: str | None = None

    def check(self, model: keras.Model) -> None:
        check_thinnable(model, self.thinning_func_str)

    def apply(self, model: keras.Model, optimizer: keras.Optimizer) -> Thinned | None:
        return thin(model, optimizer, self.thinning_func_str)


class FilterRemover(StructureRemover):
    """Takes filters of zeros out of the network."""

    thinning_func_str: Function = "remove_filters"


class ChannelRemover(StructureRemover):
    """Takes filters that nothing reads out of the network."""

    thinning_func_str: Function = "remove_channels"


EXTENSIONS: dict[str, type[Extension]] = {
    "FilterRemover": FilterRemover,
    "ChannelRemover": ChannelRemover,
    "StructureRemover": StructureRemover,
}
