import numpy as np
import pydantic
import pytest

from compressors.components import When
from compressors.pruners import PRUNERS
from utils.errors import InputError

CONV = "conv2/kernel"  # (1, 1, 4, 4)
RULES = ["ActivationAPoZ", "ActivationMean", "Gradient", "Random"]


def ranked(rule, level, weights=(CONV,), **more):
    pruner = PRUNERS[f"{rule}RankedFilterPruner"]
    return pruner(group_type="Filters", desired_sparsity=level, weights=list(weights), **more)


def removed_filters(mask):
    flat = mask.reshape(-1, mask.shape[-1])
    assert (flat == flat[0]).all()
    return np.flatnonzero(flat[0] == 0).tolist()


@pytest.fixture
def evidence(evidence_of):
    """Says of the filters of both kernels that 1 is zero most often, 3 the lowest, 0 (to the loss) the least."""
    gradient = np.zeros((1, 1, 4, 4))
    gradient[0, 0, :2] = [[1, 1, -3, 2], [-1, 1, 0, 2]]  # sums with weights of one: 0, 2, -3, 4
    paths = (CONV, "conv1/kernel")
    return evidence_of(
        zero_shares=dict.fromkeys(paths, [0.2, 0.9, 0.5, 0.1]),
        mean_activations=dict.fromkeys(paths, [0.4, 0.3, 0.2, -0.1]),
        gradient={CONV: gradient},
    )


@pytest.mark.parametrize(
    ("rule", "order"),
    [("ActivationAPoZ", [1, 2, 0, 3]), ("ActivationMean", [3, 2, 1, 0]), ("Gradient", [0, 1, 2, 3])],
)
def test_filters_go_in_the_order_of_the_criterion(masks_of, evidence, rule, order):
    kernel = np.ones((1, 1, 4, 4))
    for count in range(5):
        mask = masks_of(ranked(rule, count / 4), {CONV: kernel}, evidence=evidence)[CONV]
        assert removed_filters(mask) == sorted(order[:count])


def test_the_gradient_is_weighed_by_the_weights(masks_of, evidence):
    kernel = np.ones((1, 1, 4, 4))
    kernel[0, 0, :, 3] = 0.1  # |sum| 0.4: below the 2 of filter 1, above the 0 of filter 0
    assert removed_filters(masks_of(ranked("Gradient", 0.5), {CONV: kernel}, evidence=evidence)[CONV]) == [0, 3]


def test_random_filters_are_the_generators_permutation(masks_of, evidence_of):
    found = set()
    for seed in range(12):
        order = np.argsort(evidence_of(seed).generator(CONV).permutation(4))
        mask = masks_of(ranked("Random", 0.5), {CONV: np.ones((1, 1, 4, 4))}, evidence=evidence_of(seed))[CONV]
        assert removed_filters(mask) == sorted(order[:2])
        found.add(tuple(removed_filters(mask)))
    assert len(found) > 2


@pytest.mark.parametrize("rule", RULES)
def test_filters_of_zeros_go_first(masks_of, evidence, rule):
    kernel = np.ones((1, 1, 4, 4))
    kernel[..., 2] = 0
    assert removed_filters(masks_of(ranked(rule, 0.25), {CONV: kernel}, evidence=evidence)[CONV]) == [2]


@pytest.mark.parametrize("rule", RULES)
def test_the_first_kernel_leads(masks_of, evidence, rule):
    kernels = {CONV: np.ones((1, 1, 4, 4)), "conv1/kernel": np.random.default_rng(0).normal(size=(3, 3, 2, 4))}
    pruner = ranked(rule, 0.5, kernels, group_dependency="Leader")
    first, second = (removed_filters(mask) for mask in masks_of(pruner, kernels, evidence=evidence).values())
    assert len(first) == 2
    assert first == second


@pytest.mark.parametrize("rule", RULES)
def test_the_gradual_variant_removes_more_and_more(masks_of, parameters, evidence, rule):
    pruner = PRUNERS[f"{rule}RankedFilterPruner_AGP"](
        initial_sparsity=0.25, final_sparsity=0.75, group_type="3D", weights=[CONV]
    )
    target = pruner.targets(parameters)[0]
    # levels .25, .539, .6875, .742, .75
    for epoch, count in enumerate([1, 2, 2, 2, 3]):
        when = When(epoch, 0, 5)
        mask = masks_of(pruner, {CONV: np.ones((1, 1, 4, 4))}, when, evidence)[CONV]
        assert len(removed_filters(mask)) == count
        assert pruner.planned_sparsity(target, when) == count / 4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("arguments", [{"group_type": "Channels"}, {"noise": 0.1}, {"kwargs": None}, {"weights": []}])
def test_wrong_arguments_are_errors(rule, arguments):
    right = {"group_type": "Filters", "desired_sparsity": 0.5, "weights": [CONV]}
    with pytest.raises(pydantic.ValidationError):
        PRUNERS[f"{rule}RankedFilterPruner"](**right | arguments)


@pytest.mark.parametrize("rule", RULES)
def test_a_dense_kernel_has_no_filters(parameters, rule):
    with pytest.raises(InputError, match="fc/kernel"):
        ranked(rule, 0.5, ["fc/kernel"]).targets(parameters)
