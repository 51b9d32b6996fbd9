"""A target of exactly 0 changes nothing, and one of exactly 1 is refused or removes everything: as is documented."""

import keras
import numpy as np
import pytest

from compressors.masks import MaskSet
from compressors.path_table import PathTable
from compressors.pruner_api import AGP_Pruner, LevelPruner, LotteryTicketPruner
from compressors.pruning_path import DENSITIES
from compressors.ratios import LayerSpec
from compressors.schedules import PolynomialSchedule
from learners.weight_sparsification.allocation import BASELINES, MAX_LAYER_RATIO, allocate
from learners.weight_sparsification.rollout_env import RatioConfig, RolloutEnv, reward
from tests.small_training import WEIGHTS, linear_model
from utils.errors import InputError

LAYERS = [LayerSpec("first", (3, 9)), LayerSpec("middle", (7, 11)), LayerSpec("one", (1, 1)), LayerSpec("last", (5, 2))]
KERNELS = [np.random.default_rng(0).standard_normal(layer.shape).astype(np.float32) for layer in LAYERS]


class Kernel:
    """What a PathTable needs of a keras.Variable."""

    def __init__(self, path, value):
        self.path, self._value = path, value

    def numpy(self):
        return self._value


@pytest.fixture(scope="module")
def table():
    kernels = [Kernel(layer.path, value) for layer, value in zip(LAYERS, KERNELS, strict=True)]
    grams = {layer.path: np.eye(layer.shape[0], dtype=np.float32) for layer in LAYERS}
    return PathTable.build(kernels, grams, DENSITIES)


@pytest.mark.parametrize("dense", [(), ("first", "last"), tuple(layer.path for layer in LAYERS)])
@pytest.mark.parametrize("protocol", BASELINES)
def test_at_target_0_each_protocol_leaves_every_layer_at_exactly_0(table, protocol, dense):
    ratios = allocate(protocol, LAYERS, 0.0, dense, KERNELS, table)
    assert ratios == dict.fromkeys((layer.path for layer in LAYERS), 0.0)
    for solved, kernel in zip(table.solve(ratios), KERNELS, strict=True):
        np.testing.assert_array_equal(solved, kernel)


@pytest.mark.parametrize("dense", [(), ("first", "last")])
@pytest.mark.parametrize("protocol", BASELINES)
def test_target_1_is_refused_by_each_protocol_which_says_the_largest_it_reaches(table, protocol, dense):
    # Paths end at 0.3% of a layer: floor(0.99696 * n) of 27, 77, 1 and 10 weights, in all 26 + 76 + 0 + 9 of 115.
    largest = 76 / 115 if dense else 111 / 115
    with pytest.raises(InputError, match=rf"at most {int(largest * 1e6) / 1e6}.* Received: 1.0"):
        allocate(protocol, LAYERS, 1.0, dense, KERNELS, table)
    ratios = allocate(protocol, LAYERS, largest, dense, KERNELS, table)
    for layer in LAYERS:
        expected = 0 if layer.path in dense else int(MAX_LAYER_RATIO * layer.size)
        assert int(ratios[layer.path] * layer.size + 1e-9) == expected


@pytest.mark.parametrize("action", [0.0, 0.5, 1.0])
def test_a_search_for_target_0_proposes_up_to_two_thirds_and_at_the_neutral_action_nothing(action):
    env = RolloutEnv(LAYERS, RatioConfig(0.0, keep_ends_dense=False, max_layer_ratio=MAX_LAYER_RATIO))
    env.reset()
    done = False
    while not done:
        state, done = env.step(action)
        assert np.isfinite(state).all()
    expected = 2 / 3 if action == 1 else 0.0
    assert list(env.ratios().values()) == pytest.approx([expected] * len(LAYERS), abs=1e-12)
    assert action == 1 or not any(env.ratios().values())


@pytest.mark.parametrize("reward_type", ["single-obj", "multi-obj"])
def test_a_search_for_target_1_is_refused_where_a_budget_is_held_and_is_capped_where_none_is(reward_type):
    config = RatioConfig(1.0, reward_type, keep_ends_dense=False, max_layer_ratio=MAX_LAYER_RATIO)
    if reward_type == "single-obj":
        with pytest.raises(InputError, match=r"prune_ratio must be at most 0\.96\d*.* Received: 1.0"):
            RolloutEnv(LAYERS, config)
        return
    env, done = RolloutEnv(LAYERS, config), False
    while not done:
        _, done = env.step(1.0)
    assert set(env.ratios().values()) == {MAX_LAYER_RATIO}


def test_removing_nothing_is_worth_nothing_where_sparsity_counts():
    assert reward("multi-obj", 0.9, 0.0) == 0
    assert reward("single-obj", 0.9, 0.0) == 0.9
    assert reward("multi-obj", 0.5, 1.0) == pytest.approx(0.5 * np.log(2))


@pytest.mark.parametrize("final", [0.0, 1.0])
def test_the_dynamic_schedule_goes_to_both_ends_exactly(final):
    schedule = PolynomialSchedule(2, 10, 2)
    masks = MaskSet([keras.Variable(np.arange(1.0, 8.0, dtype=np.float32), name="kernel")], ["kernel"])
    for step in filter(schedule.is_update_step, range(20)):
        masks.update({"kernel": schedule.ratio_at(step, final)})
    assert masks.sparsity() == final
    np.testing.assert_array_equal(masks.kernels[0], (1 - final) * np.arange(1.0, 8.0))


def pruners(model, sparsity):
    optimizer, common = keras.optimizers.SGD(0.1), {"op_types": ["default"]}
    return {
        "level": lambda: LevelPruner(model, [{"sparsity": sparsity, **common}]),
        "agp": lambda: AGP_Pruner(model, [{"final_sparsity": sparsity, "end_epoch": 3, **common}]),
        "lottery": lambda: LotteryTicketPruner(
            model, [{"prune_iterations": 2, "sparsity": sparsity, **common}], optimizer
        ),
    }


@pytest.mark.parametrize("kind", ["level", "agp", "lottery"])
def test_the_pruner_api_takes_sparsity_0_which_removes_nothing_and_refuses_1(kind):
    model = linear_model()
    with pytest.raises(InputError, match=r"sparsity.*less than 1|sparsity.*below 1"):
        pruners(model, 1.0)[kind]()
    pruner = pruners(model, 0.0)[kind]()
    pruner.compress()
    for epoch in range(5):
        if kind == "agp":
            pruner.update_epoch(epoch)
    np.testing.assert_array_equal(model.get_weights()[0].ravel(), WEIGHTS)
    assert pruner.get_pruned_weights().sparsity == 0
