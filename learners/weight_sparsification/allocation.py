"""The protocols by name: how the layers share an overall pruning ratio."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from compressors.path_table import PathTable
from compressors.pruning_path import DENSITIES
from compressors.ratios import LayerSpec, Ratios, dp_allocation, erk, global_ranking, heurist, lamp, uniform

MAX_LAYER_RATIO = float(1 - DENSITIES[-1])
FORMULAS = ("uniform", "heurist", "erk", "lamp", "global")  # of shapes and weights alone
BASELINES = (*FORMULAS, "dp")
SMALL_IMAGE = 64  # pixels; up to this size the first and the last layer stay dense, as on CIFAR-10 ...
SMALL_ENDS = 0.1  # ... unless they hold more than this share of all prunable weights


def layer_specs(kernels: Sequence[keras.Variable]) -> list[LayerSpec]:
    """Path and shape of each prunable kernel."""
    return [LayerSpec(kernel.path, tuple(kernel.shape)) for kernel in kernels]


def dense_ends(layers: Sequence[LayerSpec], keep_ends_dense: bool) -> tuple[str, ...]:
    """The paths that no protocol prunes: the first and the last layer, or none."""
    return (layers[0].path, layers[-1].path) if keep_ends_dense else ()


def keeps_ends_dense(layers: Sequence[LayerSpec], example_shape: Sequence[int]) -> bool:
    """Whether the first and the last layer are to stay dense: for small images, where they hold few of the weights."""
    sizes = [layer.size for layer in layers]
    is_small_image = len(example_shape) == 3 and max(example_shape[:2]) <= SMALL_IMAGE
    return is_small_image and sizes[0] + sizes[-1] <= SMALL_ENDS * sum(sizes)


def allocate(
    protocol: str,
    layers: Sequence[LayerSpec],
    ratio: float,
    dense: Sequence[str],
    kernels: Sequence[np.ndarray],
    table: PathTable | None,
) -> Ratios:
    """Each layer's ratio by one of `BASELINES`.

    Args:
        layers: all prunable kernels, with their values `kernels` and their paths in `table` (for `dp`).
        ratio: the overall ratio.
        dense: paths that are not pruned.
    """
    weights = {layer.path: kernel for layer, kernel in zip(layers, kernels, strict=True)}
    magnitudes = {path: np.abs(kernel) for path, kernel in weights.items()}

    def by_paths() -> Ratios:
        assert table is not None, "dp needs the paths"
        return dp_allocation(layers, ratio, DENSITIES, _lost_signal(table.errors()), dense)

    by_name = {
        "uniform": lambda: uniform(layers, ratio, dense, MAX_LAYER_RATIO),
        "heurist": lambda: heurist(layers, ratio, dense, MAX_LAYER_RATIO),
        "erk": lambda: erk(layers, ratio, dense, MAX_LAYER_RATIO),
        "lamp": lambda: lamp(layers, ratio, weights, dense, MAX_LAYER_RATIO),
        "global": lambda: global_ranking(layers, ratio, magnitudes, dense, MAX_LAYER_RATIO),
        "dp": by_paths,
    }
    return by_name[protocol]()


def _lost_signal(errors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """-log(1 - error): its sum over layers is minus the log of the share of signal that all of them together let pass.

    Measured against the sum of errors itself: equal up to 95% sparsity, better at 98%.
    """
    return {path: -np.log1p(-np.minimum(error, 1 - 1e-6, dtype=np.float64)) for path, error in errors.items()}
