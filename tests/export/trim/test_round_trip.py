import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import trimflow
from compressors.quantizers import QUANTIZERS
from compressors.thinning import thin
from export.trim import VALUES, load_trim, save_trim, trim_layer_bytes
from tests import networks_with_zeros
from tests.export.trim import networks
from utils.errors import InputError

NETWORKS = [
    networks.convolutional,
    networks.nested,
    networks.recurrent,
    networks.mixed,
    networks.without_kernels,
    networks.small,
]
LOSSY = [values for values in VALUES if values != "float32"]


def bits(variable):
    return keras.ops.convert_to_numpy(variable).tobytes()


def configuration(model):
    """As JSON, which knows no tuples."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def saved(model, tmp_path, values="float32"):
    path = tmp_path / "model.trim.npz"
    save_trim(model, path, values)
    return path


def outputs(model, inputs):
    return [np.asarray(part) for part in keras.tree.flatten(model(inputs, training=False))]


@pytest.mark.parametrize("build", NETWORKS)
def test_float32_gives_back_every_bit_name_and_option(build, tmp_path):
    model = networks.with_zeros(build())
    loaded = load_trim(saved(model, tmp_path))
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    assert [v.dtype for v in loaded.variables] == [v.dtype for v in model.variables]
    assert [bits(v) for v in loaded.variables] == [bits(v) for v in model.variables]
    assert configuration(loaded) == configuration(model)
    inputs = networks.example(model)
    for mine, theirs in zip(outputs(model, inputs), outputs(loaded, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_zeros_with_a_sign_denormals_infinities_and_nans_keep_their_bits(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="fc")])
    odd = np.array([0x80000000, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC01234, 0, 0x3F800000], "u4")
    kernel = np.resize(odd, (4, 4)).view("f4")
    model.get_layer("fc").kernel.assign(kernel)
    model.get_layer("fc").bias.assign(odd[:4].view("f4"))
    loaded = load_trim(saved(model, tmp_path))
    assert bits(loaded.get_layer("fc").kernel) == kernel.tobytes()
    assert bits(loaded.get_layer("fc").bias) == odd[:4].tobytes()


@settings(max_examples=25)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.one_of(st.just(0.0), st.floats(width=32, allow_nan=False)),
    )
)
def test_any_kernel_comes_back_bit_for_bit(tmp_path_factory, kernel):
    model = keras.Sequential([keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1], name="fc")])
    model.get_layer("fc").kernel.assign(kernel)
    loaded = load_trim(saved(model, tmp_path_factory.mktemp("any")))
    assert bits(loaded.get_layer("fc").kernel) == kernel.tobytes()


@pytest.mark.parametrize("values", LOSSY)
@pytest.mark.parametrize("build", NETWORKS)
def test_the_forms_that_lose_something_keep_zeros_and_come_near(build, values, tmp_path):
    model = networks.with_zeros(build())
    loaded = load_trim(saved(model, tmp_path, values))
    for mine, theirs in zip(model.variables, loaded.variables, strict=True):
        before, after = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in (mine, theirs))
        if before.ndim >= 2:
            assert not after[before == 0].any()
            error = np.sqrt(np.mean(np.square(after - before)))
            assert error <= 0.25 * np.sqrt(np.mean(np.square(before)))
    for mine, theirs in zip(
        outputs(model, networks.example(model)), outputs(loaded, networks.example(model)), strict=True
    ):
        mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
        spread = np.sqrt(np.mean(np.square(mine)))
        assert np.sqrt(np.mean(np.square(mine - theirs))) <= {"float16": 0.01}.get(values, 0.4) * spread + 1e-6


@pytest.mark.parametrize(("values", "most"), [("codebook-256", 256), ("codebook-16", 16)])
def test_a_codebook_has_at_most_so_many_values(values, most, tmp_path):
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(40, name="fc")])
    networks.with_zeros(model, 0.5)
    kernel = load_trim(saved(model, tmp_path, values)).get_layer("fc").kernel.numpy()
    assert 2 < len(np.unique(kernel[kernel != 0])) <= most


def test_kernels_of_few_values_in_whole_steps_come_back_exactly(tmp_path):
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20, use_bias=False, name="fc")])
    kernel = np.random.default_rng(0).choice(np.float32([-2, -1, 0, 0, 0, 1, 2]) / 4, (30, 20))
    model.get_layer("fc").kernel.assign(kernel)
    loaded = load_trim(saved(model, tmp_path, "codebook-256")).get_layer("fc").kernel.numpy()
    np.testing.assert_allclose(loaded, kernel, rtol=1e-4)
    np.testing.assert_array_equal(loaded == 0, kernel == 0)


def test_a_batch_norm_becomes_the_scale_and_shift_that_it_is(tmp_path):
    model = networks.with_zeros(networks.convolutional())
    norm = load_trim(saved(model, tmp_path, "float16")).get_layer("stage1.bn")
    old = model.get_layer("stage1.bn")
    scale = old.gamma.numpy() / np.sqrt(old.moving_variance.numpy() + 1e-5)
    np.testing.assert_allclose(norm.gamma.numpy(), scale, rtol=2**-10)
    np.testing.assert_allclose(norm.beta.numpy(), old.beta.numpy() - old.moving_mean.numpy() * scale, atol=1e-3)
    assert not norm.moving_mean.numpy().any()
    np.testing.assert_array_equal(norm.moving_variance.numpy(), np.full(8, 1 - 1e-5, np.float32))


def test_what_float16_cannot_hold_stays_float32(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="fc"), keras.layers.Dense(3, name="tiny")])
    for name, size in (("fc", 1e9), ("tiny", 1e-12)):
        model.get_layer(name).kernel.assign(np.full((model.get_layer(name).kernel.shape), size))
        model.get_layer(name).bias.assign([size, 2 * size, -size])
    loaded = load_trim(saved(model, tmp_path, "float16"))
    assert [bits(v) for v in loaded.variables] == [bits(v) for v in model.variables]


@pytest.mark.parametrize("values", VALUES)
def test_not_a_number_in_a_kernel_is_kept_in_every_form(values, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="fc")])
    model.get_layer("fc").kernel.assign([[np.nan, 1.0], [0.0, np.inf]])
    kernel = load_trim(saved(model, tmp_path, values)).get_layer("fc").kernel.numpy()
    np.testing.assert_array_equal(kernel, np.float32([[np.nan, 1.0], [0.0, np.inf]]))


def test_a_compiled_and_trained_network_is_saved_without_its_training(tmp_path):
    model = networks.nested()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 12)), np.ones((8, 3)), verbose=0)
    loaded = load_trim(saved(model, tmp_path))
    assert [bits(v) for v in loaded.variables] == [bits(v) for v in model.variables]
    assert not loaded.compiled


def test_statistics_of_a_normalization_layer_are_in_force_after_loading(tmp_path):
    normalise = keras.layers.Normalization(name="normalise")
    normalise.adapt(np.random.default_rng(0).normal(5, 3, (50, 4)).astype("f4"))
    model = keras.Sequential([keras.Input((4,)), normalise, keras.layers.Dense(2)])
    inputs = networks.example(model)
    loaded = load_trim(saved(model, tmp_path))
    np.testing.assert_array_equal(outputs(loaded, inputs)[0], outputs(model, inputs)[0])


def test_the_same_network_gives_the_same_bytes(tmp_path):
    model = networks.with_zeros(networks.convolutional())
    for values in VALUES:
        first, second = (saved(model, tmp_path / name, values).read_bytes() for name in "ab")
        assert first == second


def test_numpy_opens_it_without_pickle(tmp_path):
    path = saved(networks.small(), tmp_path)
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["trim"]
        assert file["trim"][:5].tobytes() == b"TRIM\x01"


def test_sparser_kernels_and_fewer_values_take_fewer_bytes(tmp_path):
    sizes = {}
    for removed in (0.0, 0.5, 0.9):
        model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(100, name="fc")])
        networks.with_zeros(model, removed)
        for values in VALUES:
            path = saved(model, tmp_path / f"{removed}", values)
            (sizes[removed, values],) = trim_layer_bytes(path).values()
            assert 0 < path.stat().st_size - sizes[removed, values] < 2500
    for values in VALUES:
        assert sizes[0.0, values] > sizes[0.5, values] > sizes[0.9, values]
    for removed in (0.0, 0.5, 0.9):
        assert sorted((sizes[removed, v] for v in VALUES), reverse=True) == [sizes[removed, v] for v in VALUES]
    assert sizes[0.0, "float32"] < 4 * 20_000 * 1.002  # a dense kernel does not blow up


@pytest.mark.parametrize("values", VALUES)
def test_a_large_kernel_of_zeros_takes_few_bytes_but_enough_to_be_believed(values, tmp_path):
    model = keras.Sequential([keras.Input((3000,)), keras.layers.Dense(1000, use_bias=False, name="fc")])
    model.get_layer("fc").kernel.assign(np.zeros((3000, 1000)))
    path = saved(model, tmp_path, values)
    assert path.stat().st_size < 1500
    assert not load_trim(path).get_layer("fc").kernel.numpy().any()


def test_bytes_of_layers_go_by_the_paths_of_kernels(tmp_path):
    model = networks.with_zeros(networks.convolutional())
    sizes = trim_layer_bytes(saved(model, tmp_path, "codebook-16"))
    assert list(sizes) == [v.path for v in model.variables if len(v.shape) >= 2]
    assert sum(sizes.values()) < (tmp_path / "model.trim.npz").stat().st_size


def test_a_network_of_our_own_layers_loads_through_trimflow(tmp_path):
    from nets.resnet import build_resnet

    model = networks.with_zeros(build_resnet(20, 10), 0.9)
    loaded = trimflow.load(saved(model, tmp_path))
    assert type(loaded.get_layer("bn1")).__name__ == "FusedBatchNormalization"
    assert [bits(v) for v in loaded.variables] == [bits(v) for v in model.variables]
    assert (tmp_path / "model.trim.npz").stat().st_size < 130_000


@pytest.mark.parametrize("name", ["model.npz", "model.trim", "model.keras"])
def test_another_name_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.trim\.npz"):
        save_trim(networks.small(), tmp_path / name, "float32")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"must end in \.trim\.npz"):
        load_trim(tmp_path / name)


def test_an_unknown_kind_of_values_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="float32, float16, codebook-256, codebook-16. Received: 'int4'"):
        save_trim(networks.small(), tmp_path / "model.trim.npz", "int4")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no trim file at .*absent.trim.npz"):
        load_trim(tmp_path / "absent.trim.npz")


def test_python_code_vocabularies_and_what_is_not_built_are_refused(tmp_path):
    path = tmp_path / "model.trim.npz"
    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1), keras.layers.Dense(1)])
    with pytest.raises(InputError, match="no Python code"):
        save_trim(code, path, "float32")
    words = keras.Sequential([keras.Input((1,), dtype="string"), keras.layers.StringLookup(vocabulary=["a"])])
    with pytest.raises(InputError, match="keeps more than variables"):
        save_trim(words, path, "float32")
    with pytest.raises(InputError, match="must be built"):
        save_trim(keras.Sequential([keras.layers.Dense(1)]), path, "float32")


def test_layers_that_keras_does_not_know_are_named_when_saving_and_loading(tmp_path):
    class Doubled(keras.layers.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs)

    model = keras.Sequential([keras.Input((2,)), Doubled(3)])
    with pytest.raises(InputError, match="Doubled"):
        save_trim(model, tmp_path / "model.trim.npz", "float32")
    with keras.saving.custom_object_scope({"Doubled": Doubled}):
        path = saved(model, tmp_path)
        assert type(load_trim(path).layers[0]) is Doubled
    with pytest.raises(InputError, match="model.trim.npz cannot be read: .*Doubled"):
        load_trim(path)


@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_a_quantized_network_keeps_its_outputs(name, tmp_path):
    model = networks_with_zeros.small_mobilenet()
    images = networks_with_zeros.images(model)
    bits_of = {"bits_activations": 8} | ({} if name == "PostTrainLinearQuantizer" else {"bits_weights": 4})
    quantized = QUANTIZERS[name](**bits_of).prepare(model, lambda: [(images, np.zeros(4))])
    loaded = trimflow.load(saved(quantized, tmp_path))
    assert [v.path for v in loaded.variables] == [v.path for v in quantized.variables]
    assert [bits(v) for v in loaded.variables] == [bits(v) for v in quantized.variables]
    np.testing.assert_array_equal(outputs(loaded, images)[0], outputs(quantized, images)[0])


def test_a_network_without_its_removed_filters_is_one_like_any_other(tmp_path):
    model = networks_with_zeros.small_mobilenet()
    networks_with_zeros.zero(model, "conv2", [0, 3, 5])
    thinner = thin(model, keras.optimizers.SGD(), "remove_filters").model
    assert thinner.count_params() < model.count_params()
    images = networks_with_zeros.images(model)
    loaded = load_trim(saved(thinner, tmp_path, "codebook-256"))
    np.testing.assert_allclose(outputs(loaded, images)[0], outputs(thinner, images)[0], atol=0.15)
