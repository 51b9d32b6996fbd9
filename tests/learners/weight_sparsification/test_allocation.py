import numpy as np
import pytest

from compressors.pruning_path import DENSITIES
from compressors.ratios import (
    LayerSpec,
    dp_allocation,
    erk,
    global_ranking,
    heurist,
    kept_weights,
    lamp,
    parameter_budget,
    removed_counts,
    uniform,
)
from learners.weight_sparsification.allocation import BASELINES, MAX_LAYER_RATIO, allocate, dense_ends, layer_specs
from utils.errors import InputError

LAYERS = [
    LayerSpec("first/kernel", (3, 3, 3, 8)),
    LayerSpec("wide/kernel", (3, 3, 8, 16)),
    LayerSpec("narrow/kernel", (1, 1, 16, 16)),
    LayerSpec("deep/kernel", (3, 3, 16, 24)),
    LayerSpec("last/kernel", (24, 10)),
]
ENDS = ("first/kernel", "last/kernel")


class FakeTable:
    """Stands for a PathTable."""

    def __init__(self, errors):
        self._errors = errors

    def errors(self):
        return self._errors


@pytest.fixture(scope="module")
def kernels():
    generator = np.random.default_rng(0)
    return [
        (scale * generator.standard_normal(layer.shape)).astype(np.float32)
        for layer, scale in zip(LAYERS, (1.0, 0.5, 2.0, 0.3, 1.0), strict=True)
    ]


@pytest.fixture(scope="module")
def table():
    """Errors (1 - density) ** power: the higher the power, the easier a layer is to prune."""
    powers = (2.0, 2.0, 1.2, 4.0, 2.0)
    return FakeTable({layer.path: (1 - DENSITIES) ** power for layer, power in zip(LAYERS, powers, strict=True)})


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75, 0.88])
@pytest.mark.parametrize("protocol", BASELINES)
def test_each_protocol_keeps_the_budget_to_the_weight_and_the_ends_dense(protocol, ratio, kernels, table):
    ratios = allocate(protocol, LAYERS, ratio, ENDS, kernels, table)
    assert kept_weights(LAYERS, ratios) == parameter_budget(LAYERS, ratio)
    assert ratios["first/kernel"] == ratios["last/kernel"] == 0
    assert max(ratios.values()) <= MAX_LAYER_RATIO


def test_each_name_is_its_protocol(kernels, table):
    weights = {layer.path: kernel for layer, kernel in zip(LAYERS, kernels, strict=True)}
    expected = {
        "uniform": uniform(LAYERS, 0.7, ENDS, MAX_LAYER_RATIO),
        "heurist": heurist(LAYERS, 0.7, ENDS, MAX_LAYER_RATIO),
        "erk": erk(LAYERS, 0.7, ENDS, MAX_LAYER_RATIO),
        "lamp": lamp(LAYERS, 0.7, weights, ENDS, MAX_LAYER_RATIO),
        # |w|, not w: the most negative weights are among the largest.
        "global": global_ranking(LAYERS, 0.7, {p: np.abs(w) for p, w in weights.items()}, ENDS, MAX_LAYER_RATIO),
    }
    found = {protocol: allocate(protocol, LAYERS, 0.7, ENDS, kernels, table) for protocol in BASELINES}
    for protocol, ratios in expected.items():
        assert found[protocol] == ratios, protocol
    assert len({tuple(ratios.values()) for ratios in found.values()}) == len(BASELINES)


def test_global_removes_the_smallest_magnitudes_of_all_layers_together(kernels, table):
    ratios = allocate("global", LAYERS, 0.5, (), kernels, table)
    magnitudes = np.sort(np.abs(np.concatenate([np.ravel(kernel) for kernel in kernels])))
    removed = sum(layer.size for layer in LAYERS) - parameter_budget(LAYERS, 0.5)
    threshold = magnitudes[removed]
    for layer, kernel in zip(LAYERS, kernels, strict=True):
        assert round(ratios[layer.path] * layer.size) == np.sum(np.abs(kernel) < threshold)


def test_dp_shares_the_loss_of_signal_where_the_sum_of_errors_would_not():
    # Levels remove 0, 100, 190, ... of 1,000 weights, and 190 of the 2,000 must go: one layer at level 2, or both at 1.
    # Sum of errors:     0.9 + 0 = 0.9  <  0.5 + 0.5 = 1.
    # Signal let pass:   0.1 * 1 = 0.1  <  0.5 * 0.5 = 0.25, the larger the better.
    layers = [LayerSpec("a/kernel", (10, 100)), LayerSpec("b/kernel", (100, 10))]
    errors = {
        "a/kernel": np.float32([0, 0.5, 0.9, *[0.99] * (len(DENSITIES) - 3)]),
        "b/kernel": np.float32([0, 0.5, 0.95, *[0.99] * (len(DENSITIES) - 3)]),
    }
    by_sum = dp_allocation(layers, 0.095, DENSITIES, errors)
    assert removed_counts(layers, by_sum).tolist() == [190, 0]
    by_signal = allocate("dp", layers, 0.095, (), [np.zeros(layer.shape) for layer in layers], FakeTable(errors))
    assert sorted(removed_counts(layers, by_signal)) == [90, 100]  # both at level 1 less the 10 that need not go


def test_dp_takes_a_layer_that_loses_all_its_signal(kernels):
    lost = FakeTable({layer.path: np.float32([0, *[1.0] * (len(DENSITIES) - 1)]) for layer in LAYERS})
    ratios = allocate("dp", LAYERS, 0.5, (), kernels, lost)
    assert kept_weights(LAYERS, ratios) == parameter_budget(LAYERS, 0.5)


# 4,848 of 5,320 weights at most: at ratio 0.996957, 1148 of 1152, 255 of 256 and 3445 of 3456.
@pytest.mark.parametrize("protocol", BASELINES)
def test_an_unreachable_ratio_is_refused_by_each_protocol(protocol, kernels, table):
    with pytest.raises(InputError, match=r"at most 0\.911278,.*Received: 0\.99"):
        allocate(protocol, LAYERS, 0.99, ENDS, kernels, table)


def test_the_ends_are_the_first_and_the_last_layer():
    assert dense_ends(LAYERS, True) == ENDS
    assert dense_ends(LAYERS, False) == ()


def test_layer_specs_are_paths_and_shapes():
    class Kernel:
        path, shape = "fc/kernel", (4, 2)

    assert layer_specs([Kernel()]) == [LayerSpec("fc/kernel", (4, 2))]
