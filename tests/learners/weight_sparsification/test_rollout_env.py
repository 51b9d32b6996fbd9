import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compressors.ratios import LayerSpec, kept_weights, overall_ratio, parameter_budget, uniform
from learners.weight_sparsification.rollout_env import (
    RatioConfig,
    RolloutEnv,
    action_to_ratio,
    ratio_to_action,
    reward,
)
from utils.errors import InputError


def pocketflow_resnet20() -> list[LayerSpec]:
    """Its 23 kernels: each stage begins with a projection, the first stage too."""
    shapes, channels = [(3, 3, 3, 16)], 16
    for width in (16, 32, 64):
        shapes.append((1, 1, channels, width))
        for _ in range(3):
            shapes += [(3, 3, channels, width), (3, 3, width, width)]
            channels = width
    return [LayerSpec(f"kernel{index}", shape) for index, shape in enumerate([*shapes, (64, 10)])]


def walk(env: RolloutEnv, actions) -> list[np.ndarray]:
    """A roll-out with the given actions; returns the states seen, the last one too."""
    states = [env.reset()]
    for index, action in enumerate(actions):
        state, done = env.step(action)
        states.append(state)
        assert done == (index == len(actions) - 1)
    return states


# The values of PocketFlow's own code at target 0.75, single-obj, ends dense.


@pytest.mark.parametrize(
    ("action", "ratios", "overall"),
    [
        (0.0, [0, *[0.25] * 14, 0.58, *[0.917] * 6, 0], 0.75),
        (0.5, [0, *[0.75] * 20, 0.772, 0], 0.75),
        (1.0, [0, *[0.917] * 21, 0], 0.91304),
    ],
)
def test_known_ratios_of_constant_actions(action, ratios, overall):
    layers = pocketflow_resnet20()
    env = RolloutEnv(layers, RatioConfig(0.75))
    walk(env, [action] * 23)
    assert list(env.ratios().values()) == pytest.approx(ratios, abs=5e-4)
    assert overall_ratio(layers, env.ratios()) == pytest.approx(overall, abs=1e-5)


def test_the_raised_layer_meets_the_budget_to_the_weight():
    layers = pocketflow_resnet20()
    env = RolloutEnv(layers, RatioConfig(0.75))
    walk(env, [0.5] * 23)
    assert kept_weights(layers, env.ratios()) == 271_152 // 4


# The map from action to ratio.


@pytest.mark.parametrize(
    ("action", "ratio"), [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.75 + 1 / 12), (1.0, 0.75 + 1 / 6)]
)
def test_action_to_ratio_is_piecewise_linear(action, ratio):
    assert action_to_ratio(action, 0.25, 0.75, 0.75 + 1 / 6) == pytest.approx(ratio)


@pytest.mark.parametrize(("action", "ratio"), [(0.0, 0.8), (0.5, 0.8), (0.6, 0.8), (0.8, 0.84), (1.0, 0.9)])
def test_a_lower_end_above_the_reference_cuts_off_what_is_below(action, ratio):
    assert action_to_ratio(action, 0.8, 0.75, 0.9) == pytest.approx(ratio)


FRACTION = st.floats(0, 1)


@given(FRACTION, st.lists(FRACTION, min_size=3, max_size=3))
def test_action_for_a_ratio_gives_the_nearest_ratio_there_is(ratio, bounds):
    low, middle, high = sorted(bounds)
    action = ratio_to_action(ratio, low, middle, high)
    assert 0 <= action <= 1
    assert action_to_ratio(action, low, middle, high) == pytest.approx(min(max(ratio, low), high), abs=1e-9)


@given(FRACTION, FRACTION, st.lists(FRACTION, min_size=3, max_size=3))
def test_a_larger_action_never_prunes_less_and_stays_within_bounds(one, other, bounds):
    low, middle, high = sorted(bounds)
    ratios = [action_to_ratio(action, low, middle, high) for action in sorted((one, other))]
    assert low <= ratios[0] <= ratios[1] + 1e-12 <= high + 1e-12


def test_a_layer_with_one_possible_ratio_gets_the_neutral_action():
    assert ratio_to_action(0.3, 0.0, 0.0, 0.0) == 0.5


# Budgets.

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.sampled_from([1, 3]), st.just(3), st.integers(1, 20), st.integers(1, 20)),
)
LAYERS = st.lists(SHAPES, min_size=1, max_size=12).map(
    lambda shapes: [LayerSpec(f"layer{index}", shape) for index, shape in enumerate(shapes)]
)


@given(
    layers=LAYERS,
    target=st.one_of(FRACTION, st.sampled_from([0.0, 0.1, 0.29, 0.7, 0.75, 0.9, 0.98, 1.0])),
    keep_ends_dense=st.booleans(),
    max_layer_ratio=st.one_of(st.just(1.0), st.floats(0.5, 1.0)),
    seed=st.integers(0, 2**32 - 1),
    extreme=st.booleans(),
)
def test_single_objective_never_ends_above_the_budget(layers, target, keep_ends_dense, max_layer_ratio, seed, extreme):
    try:
        env = RolloutEnv(layers, RatioConfig(target, "single-obj", keep_ends_dense, max_layer_ratio))
    except InputError:
        assume(False)
    actions = np.random.default_rng(seed).uniform(size=len(layers))
    walk(env, np.round(actions) if extreme else actions)
    assert kept_weights(layers, env.ratios()) <= parameter_budget(layers, target)
    ends = (layers[0].path, layers[-1].path) if keep_ends_dense else ()
    for path, ratio in env.ratios().items():
        assert 0 <= ratio <= (0 if path in ends else max_layer_ratio + 1e-12)


@given(layers=LAYERS, target=FRACTION, seed=st.integers(0, 2**32 - 1))
def test_multiple_objectives_hold_each_layer_between_three_times_and_a_third_of_the_density(layers, target, seed):
    env = RolloutEnv(layers, RatioConfig(target, "multi-obj", keep_ends_dense=False))
    walk(env, np.random.default_rng(seed).uniform(size=len(layers)))
    for ratio in env.ratios().values():
        assert max(0, 1 - 3 * (1 - target)) - 1e-9 <= ratio <= 1 - (1 - target) / 3 + 1e-9


def test_multiple_objectives_need_no_budget():
    layers = pocketflow_resnet20()
    env = RolloutEnv(layers, RatioConfig(0.75, "multi-obj"))
    walk(env, [0.0] * 23)
    assert set(list(env.ratios().values())[1:-1]) == {0.25}


@given(layers=LAYERS, target=st.floats(0.5, 1), max_layer_ratio=st.floats(0.5, 1.0))
def test_an_unreachable_target_names_the_largest_reachable(layers, target, max_layer_ratio):
    config = RatioConfig(target, max_layer_ratio=max_layer_ratio)
    try:
        RolloutEnv(layers, config)
    except InputError as error:
        largest = float(str(error).split("at most ")[1].split(",")[0])
        assert largest < target
        RolloutEnv(layers, RatioConfig(largest, max_layer_ratio=max_layer_ratio))
        if largest + 1e-4 < target:
            with pytest.raises(InputError):
                RolloutEnv(layers, RatioConfig(largest + 1e-4, max_layer_ratio=max_layer_ratio))


def test_high_targets_are_reachable_as_long_as_the_dense_ends_leave_room():
    # Ends of 432 + 640 and 270,080 others: at target r at least 1,072 + 270,080 (1 - r) / 3 stay, of 271,152 (1 - r).
    limit = 1 - 1072 / (271_152 - 270_080 / 3)
    layers = pocketflow_resnet20()
    walk(RolloutEnv(layers, RatioConfig(math.floor(limit * 1e4) / 1e4)), [0.0] * 23)
    with pytest.raises(InputError, match=f"at most {math.floor(limit * 1e4) / 1e4:.4f}, .*Received: 0.996"):
        RolloutEnv(layers, RatioConfig(0.996))


def test_two_dense_layers_reach_nothing():
    layers = [LayerSpec("first", (4, 4)), LayerSpec("last", (4, 4))]
    with pytest.raises(InputError, match="at most 0.0"):
        RolloutEnv(layers, RatioConfig(0.5))
    assert RolloutEnv(layers, RatioConfig(0.5, keep_ends_dense=False)).state_size == 9


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prune_ratio": 1.2}, "prune_ratio must be in .*Received: 1.2"),
        ({"prune_ratio": float("nan")}, "prune_ratio must be in"),
        ({"prune_ratio": 0.5, "max_layer_ratio": -0.1}, "max_layer_ratio must be in"),
        ({"prune_ratio": 0.5, "reward_type": "best"}, "single-obj, multi-obj. Received: 'best'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values, words):
    with pytest.raises(InputError, match=words):
        RatioConfig(**values)


# A reference other than the target itself.


def test_the_neutral_action_gives_the_reference():
    layers = [LayerSpec(name, (10, 10)) for name in "abcd"]
    reference = {"a": 0.0, "b": 0.9, "c": 0.6, "d": 0.5}
    env = RolloutEnv(layers, RatioConfig(0.5, keep_ends_dense=False), reference)
    walk(env, [0.5] * 4)
    assert env.ratios() == pytest.approx(reference)


def test_the_ends_of_the_action_are_three_times_and_a_third_of_the_reference_s_density():
    layers = [LayerSpec(name, (10, 10)) for name in "abc"]
    reference = {"a": 0.4, "b": 0.8, "c": 0.94}
    env = RolloutEnv(layers, RatioConfig(0.7, "multi-obj", keep_ends_dense=False), reference)
    walk(env, [0.0] * 3)
    assert list(env.ratios().values()) == pytest.approx([0.0, 0.4, 0.82])
    walk(env, [1.0] * 3)
    assert list(env.ratios().values()) == pytest.approx([0.8, 1 - 0.2 / 3, 0.98])


@given(layers=LAYERS, target=st.floats(0, 0.99), seed=st.integers(0, 2**32 - 1))
def test_a_reference_that_meets_the_budget_keeps_it_reachable(layers, target, seed):
    reference = uniform(layers, target)
    env = RolloutEnv(layers, RatioConfig(target, keep_ends_dense=False), reference)
    walk(env, np.random.default_rng(seed).uniform(size=len(layers)))
    assert kept_weights(layers, env.ratios()) <= parameter_budget(layers, target)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_roll_out_replayed_by_its_ratios_is_the_same_roll_out(seed):
    layers = pocketflow_resnet20()
    env = RolloutEnv(layers, RatioConfig(0.75))
    states = walk(env, np.random.default_rng(seed).uniform(size=23))
    ratios = env.ratios()
    replayed = [env.reset()]
    for layer in layers:
        replayed.append(env.step(env.action_for(ratios[layer.path]))[0])
    assert env.ratios() == pytest.approx(ratios, abs=1e-9)
    np.testing.assert_allclose(replayed, states, atol=1e-4)


# States and rewards.


def test_states_by_hand():
    layers = [LayerSpec("conv", (3, 3, 1, 2)), LayerSpec("dense", (4, 8)), LayerSpec("last", (8, 10))]
    env = RolloutEnv(layers, RatioConfig(0.5, "multi-obj", keep_ends_dense=False))
    assert env.state_size == 3 + 7
    first, second, third, end = walk(env, [0.5, 0.5, 0.5])  # 18, 32 and 80 weights
    shape = np.array([[3, 3, 1, 2], [1, 1, 4, 8], [1, 1, 8, 10]]) / [3, 3, 8, 10]
    before = np.array([0, 9, 9 + 16]) / 50
    for index, state in enumerate((first, second, third)):
        size, after = np.array([18, 32, 80])[index] / 80, np.array([112, 80, 0])[index] / 112
        expected = [*np.eye(3)[index], *shape[index], size, before[index], after]
        assert state == pytest.approx(expected)
        assert state.dtype == np.float32
    assert not end.any()


@given(st.lists(FRACTION, min_size=23, max_size=23))
def test_states_stay_between_0_and_1(actions):
    states = np.array(walk(RolloutEnv(pocketflow_resnet20(), RatioConfig(0.75)), actions))
    assert states.min() >= 0
    assert states.max() <= 1


def test_a_state_given_out_does_not_change_later():
    env = RolloutEnv(pocketflow_resnet20(), RatioConfig(0.75))
    first = env.reset()
    copy = first.copy()
    walk(env, [0.3] * 23)
    np.testing.assert_array_equal(first, copy)


def test_rewards():
    assert reward("single-obj", 0.8, 0.9) == 0.8
    assert reward("multi-obj", 0.8, 0.9) == pytest.approx(0.8 * math.log(1.9))


def test_an_unfinished_rollout_has_no_allocation():
    env = RolloutEnv(pocketflow_resnet20(), RatioConfig(0.75))
    env.step(0.5)
    with pytest.raises(ValueError, match="shorter"):
        env.ratios()


# Layers that stay dense by name.


def test_named_layers_keep_all_weights_and_the_others_make_up_for_them():
    layers = [LayerSpec(name, (10, 10)) for name in "abcd"]
    config = RatioConfig(0.5, keep_ends_dense=False, dense=["b"])
    for action in (0.0, 0.5, 1.0):
        env = RolloutEnv(layers, config)
        walk(env, [action] * 4)
        assert env.ratios()["b"] == 0
        assert kept_weights(layers, env.ratios()) <= 200
    with pytest.raises(InputError, match="with first and last layer and 1 named layers dense. Received: 0.7"):
        RolloutEnv(layers, RatioConfig(0.7, dense=["b"]))
