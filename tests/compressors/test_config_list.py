import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from compressors.config_list import AgpEntry, LevelEntry, LotteryEntry, choose
from utils.errors import InputError


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(4, 3, name="conv2")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc")(layers.Flatten()(x)), name="small")


def sparsities(model, config_list):
    choice = choose(model, config_list, LevelEntry)
    return {name.split("/")[0]: entry.sparsity for name, entry in choice.entries.items()}


def test_default_is_every_layer_with_a_kernel(model):
    everything = dict.fromkeys(("conv1", "conv2", "depthwise", "fc"), 0.5)
    assert sparsities(model, [{"sparsity": 0.5, "op_types": ["default"]}]) == everything
    assert sparsities(model, [{"sparsity": 0.5, "op_types": "default"}]) == everything
    assert sparsities(model, [{"sparsity": 0.5}]) == everything


def test_later_entries_override_earlier_ones(model):
    config = [
        {"sparsity": 0.5, "op_types": ["default"]},
        {"sparsity": 0.8, "op_types": ["Conv2D"]},
        {"sparsity": 0.2, "op_names": ["conv1"]},
    ]
    assert sparsities(model, config) == {"conv1": 0.2, "conv2": 0.8, "depthwise": 0.5, "fc": 0.5}
    assert sparsities(model, config[::-1]) == dict.fromkeys(("conv1", "conv2", "depthwise", "fc"), 0.5)


def test_a_layer_must_fit_both_its_type_and_its_name(model):
    assert sparsities(model, [{"sparsity": 0.5, "op_types": ["Conv2D"], "op_names": ["conv1", "fc"]}]) == {"conv1": 0.5}


def test_excluded_layers_are_left_alone_until_a_later_entry_takes_them_back(model):
    config = [{"sparsity": 0.5}, {"exclude": True, "op_types": ["Conv2D", "DepthwiseConv2D"]}]
    assert sparsities(model, config) == {"fc": 0.5}
    assert sparsities(model, [*config, {"sparsity": 0.9, "op_names": "conv2"}]) == {"fc": 0.5, "conv2": 0.9}
    assert sparsities(
        model, [{"sparsity": 0.5}, {"sparsity": 0.5, "exclude": True, "op_names": "fc"}]
    ) == dict.fromkeys(("conv1", "conv2", "depthwise"), 0.5)


def test_an_embedding_is_pruned_only_where_its_class_or_name_is_given():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="fc")(layers.Embedding(10, 3, name="words")(inputs)))
    assert sparsities(model, [{"sparsity": 0.5, "op_types": "default"}]) == {"fc": 0.5}
    assert sparsities(model, [{"sparsity": 0.5, "op_types": ["default", "Embedding"]}]) == {"fc": 0.5, "words": 0.5}
    assert sparsities(model, [{"sparsity": 0.5, "op_names": "words"}]) == {"words": 0.5}


def test_nested_layers_answer_to_their_own_name_and_to_the_whole_one():
    part = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")], name="encoder")
    model = keras.Sequential([keras.Input((4,)), part, layers.Dense(4, name="head")])
    for name in ("fc", "encoder/fc"):
        choice = choose(model, [{"sparsity": 0.5, "op_names": [name]}], LevelEntry)
        assert [layer.nested_name for layer in choice.layers.values()] == ["encoder/fc"]


def test_what_was_asked_for_and_cannot_be_pruned_is_named(model):
    choice = choose(model, [{"sparsity": 0.5, "op_types": ["Dense", "BatchNormalization"]}], LevelEntry)
    assert choice.warnings == [
        "these layers cannot be pruned and stay as they are: norm (BatchNormalization has no kernel)"
    ]
    assert choose(model, [{"sparsity": 0.5}], LevelEntry).warnings == []  # nobody expects it of batch norm


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ([], ["config_list must have at least one entry"]),
        ({"sparsity": 0.5}, ["config_list must be a list of dicts", "{'sparsity': 0.5}"]),
        ("sparsity", ["config_list must be a list of dicts"]),
        (None, ["config_list must be a list of dicts. Received: null"]),
        ([0.5], ["item 1", "must be a dict. Received: 0.5"]),
        ([{}], ["item 1 > sparsity: is missing"]),
        ([{"sparsity": 1.0}], ["item 1 > sparsity", "Received: 1.0"]),
        ([{"sparsity": -0.1}], ["item 1 > sparsity: must be at least 0. Received: -0.1"]),
        ([{"sparsity": float("nan")}], ["item 1 > sparsity"]),
        ([{"sparsity": True}], ["item 1 > sparsity: must be a number. Received: true"]),
        ([{"sparsity": "much"}], ["item 1 > sparsity: must be a number. Received: 'much'"]),
        ([{"sparsity": 0.5, "op_type": "Dense"}], ["unknown argument 'op_type'; did you mean 'op_types'?"]),
        ([{"sparsity": 0.5, "op_types": []}], ["item 1 > op_types", "at least 1"]),
        ([{"sparsity": 0.5, "op_types": ["Conv3D"]}], ["the model has no 'Conv3D'", "Conv2D, BatchNormalization"]),
        ([{"sparsity": 0.5, "op_names": ["conv9"]}], ["has no 'conv9'; did you mean 'conv", "conv1, conv2"]),
        ([{"sparsity": 0.5, "op_types": "Dense", "op_names": "conv1"}], ["chooses no layer of 'small'", "fc (Dense)"]),
        ([{"exclude": True}], ["chooses no layer"]),
        ([{"sparsity": 2}, {"sparsity": 0.5, "op_types": 3}], ["2 errors", "item 1 > sparsity", "item 2 > op_types"]),
    ],
)
def test_a_wrong_list_is_refused_with_what_is_allowed(model, config, parts):
    with pytest.raises(InputError) as error:
        choose(model, config, LevelEntry)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"end_epoch": -1}, "item 1 > end_epoch: must be at least 0"),
        ({"end_epoch": 2, "start_epoch": 3}, "end_epoch must be at least start_epoch=3. Received: 2"),
        ({"frequency": 0}, "item 1 > frequency: must be at least 1. Received: 0"),
        ({"initial_sparsity": 0.9}, "final_sparsity must be at least initial_sparsity=0.9. Received: 0.8"),
        ({"final_sparsity": 1}, "item 1 > final_sparsity"),
        ({"sparsity": 0.5}, "unknown argument 'sparsity'"),
    ],
)
def test_a_wrong_gradual_entry_is_refused(model, changes, part):
    with pytest.raises(InputError) as error:
        choose(model, [{"final_sparsity": 0.8, "end_epoch": 10} | changes], AgpEntry)
    assert part in str(error.value)


@pytest.mark.parametrize("count", [0, -1, 1.5, None, True])
def test_a_wrong_number_of_rounds_is_refused(model, count):
    with pytest.raises(InputError, match="item 1 > prune_iterations"):
        choose(model, [{"sparsity": 0.8, "prune_iterations": count}], LotteryEntry)


def test_the_documented_cubic_values():
    # NNI: s_t = s_f + (s_i - s_f) * (1 - (t - t_0) / (n * dt))**3 for t = t_0, t_0 + dt, ..., t_0 + n * dt
    entry = AgpEntry(initial_sparsity=0, final_sparsity=0.8, start_epoch=0, end_epoch=10, frequency=1)
    expected = [0.0, 0.2168, 0.3904, 0.5256, 0.6272, 0.7, 0.7488, 0.7784, 0.7936, 0.7992, 0.8, 0.8]
    assert [entry.sparsity_at(epoch) for epoch in range(12)] == pytest.approx(expected)


def test_between_two_updates_the_sparsity_stays():
    entry = AgpEntry(initial_sparsity=0.1, final_sparsity=0.9, start_epoch=2, end_epoch=6, frequency=2)
    assert [entry.sparsity_at(epoch) for epoch in range(9)] == pytest.approx([0, 0, 0.1, 0.1, 0.8, 0.8, 0.9, 0.9, 0.9])


def test_a_last_update_that_no_multiple_meets_comes_at_the_end():
    entry = AgpEntry(final_sparsity=0.8, end_epoch=5, frequency=3)
    assert [entry.sparsity_at(epoch) for epoch in (2, 3, 4, 5)] == pytest.approx([0, 0.7488, 0.7488, 0.8])
    assert AgpEntry(final_sparsity=0.8, start_epoch=3, end_epoch=3).sparsity_at(3) == 0.8


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 20), st.integers(0, 20), st.integers(1, 7))
def test_sparsity_never_falls_and_ends_at_the_final_one(one, other, start, length, frequency):
    entry = AgpEntry(
        initial_sparsity=min(one, other), final_sparsity=max(one, other), start_epoch=start, end_epoch=start + length,
        frequency=frequency,
    )  # fmt: skip
    values = [entry.sparsity_at(epoch) for epoch in range(start + length + 5)]
    assert values == sorted(values)
    assert values[-1] == entry.final_sparsity
