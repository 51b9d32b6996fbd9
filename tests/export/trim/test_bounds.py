import keras
import numpy as np
import pytest

from export.trim import ideal_bytes, save_trim, trim_layer_bytes
from export.trim.bounds import KINDS
from utils.errors import InputError


def sparse(shape, count, seed=0):
    generator, kernel = np.random.default_rng(seed), np.zeros(shape, np.float32)
    kernel.flat[generator.choice(kernel.size, count, replace=False)] = generator.normal(size=count)
    return kernel


def test_floats_by_hand():
    # H(1/4) = 0.811278: 64 * 0.811278 = 51.92 bits for the places, 16 values.
    kernel = sparse((8, 8), 16)
    assert ideal_bytes(kernel, "float32") == -(-(51.92 + 16 * 32) // 8)
    assert ideal_bytes(kernel, "float16") == -(-(51.92 + 16 * 16) // 8)


def test_codebooks_by_hand():
    kernel = np.zeros((8, 8))
    kernel[0] = [1, 1, 1, 1, 2, 2, -3, -3]  # 1.5 bits each; H(1/8) = 0.543564
    for values in ("codebook-256", "codebook-16"):
        assert ideal_bytes(kernel, values) == -(-(64 * 0.543564 + 8 * 1.5) // 8)


def test_int8_has_a_scale_for_each_output_channel_and_small_weights_become_zero():
    kernel = np.zeros((4, 2))
    kernel[:, 0] = [127, 1, 0.4, 0]  # 127, 1, 0, 0
    kernel[:, 1] = [0.127, -0.127, 0.127, 0]  # 127, -127, 127, 0 by its own scale
    # 5 of 8 are not 0: three times 127, once -127, once 1.
    places = -8 * (5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(3 / 8))
    values = -5 * (0.6 * np.log2(0.6) + 0.4 * np.log2(0.2))
    assert ideal_bytes(kernel, "int8") == np.ceil((places + values) / 8)


@pytest.mark.parametrize("values", KINDS)
def test_kernels_of_zeros_or_of_nothing_take_nothing_and_dense_ones_no_places(values):
    assert ideal_bytes(np.zeros((3, 3, 4, 5)), values) == 0
    assert ideal_bytes(np.zeros((0, 4)), values) == 0
    assert ideal_bytes(np.ones((4, 4)), values) == {"float32": 64, "float16": 32}.get(values, 0)


def test_fewer_bits_for_fewer_values():
    kernel = sparse((64, 64), 1000)
    sizes = [ideal_bytes(kernel, values) for values in KINDS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_a_kernel_without_structure_comes_within_a_few_percent_of_the_bound(tmp_path):
    kernel = sparse((300, 200), 6000)
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(200, use_bias=False, name="fc")])
    model.get_layer("fc").kernel.assign(kernel)
    for values, most in (("float32", 1.0), ("float16", 1.0), ("codebook-256", 1.04), ("codebook-16", 1.04)):
        save_trim(model, tmp_path / "model.trim.npz", values)
        (taken,) = trim_layer_bytes(tmp_path / "model.trim.npz").values()
        assert 0.8 * ideal_bytes(kernel, values) < taken < most * ideal_bytes(kernel, values)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match="float32, float16, int8, codebook-256, codebook-16. Received: 'int4'"):
        ideal_bytes(np.ones((2, 2)), "int4")
