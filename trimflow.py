"""TrimFlow for Python users: `import trimflow` with this directory on the path (docs/pruner_api.md)."""

from pathlib import Path

import keras

from compressors.pruner_api import AGP_Pruner, LevelPruner, LotteryTicketPruner, SearchPruner
from compressors.scheduler import CompressionScheduler

__all__ = ["AGP_Pruner", "CompressionScheduler", "LevelPruner", "LotteryTicketPruner", "SearchPruner", "load"]


def load(path: str | Path) -> keras.Model:
    """The network in a trim file (`model.trim.npz`), ready to be called; our own layers are known to Keras then.

    Raises:
        InputError: there is no such file, or it is damaged, of a later version or too large (docs/trim_format.md).
    """
    import compressors.quantizers  # noqa: F401  Keras learns of our layers
    import nets.layers  # noqa: F401
    from export.trim import load_trim

    return load_trim(path)
