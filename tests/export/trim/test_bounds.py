import keras
import numpy as np
import pytest

from export.trim import VALUES, ideal_bytes, save_trim, trim_layer_bytes
from export.trim.bounds import KINDS
from utils.errors import InputError


def sparse(shape, count, seed=0):
    generator, kernel = np.random.default_rng(seed), np.zeros(shape, np.float32)
    kernel.flat[generator.choice(kernel.size, count, replace=False)] = generator.normal(size=count)
    return kernel


def test_floats_by_hand():
    kernel = np.zeros((8, 8))
    kernel[:, :2] = 1.25  # of each input 2 of 8: H(1/4) = 0.811278, 64 * 0.811278 = 51.92 bits for the places
    kernel[:4, :2] *= -4  # half of the 16 values have another sign and exponent: 1 bit
    assert ideal_bytes(kernel, "float32") == -(-(51.92 + 16 * (23 + 1)) // 8)
    assert ideal_bytes(kernel, "float16") == -(-(51.92 + 16 * (10 + 1)) // 8)


def test_places_are_counted_by_input():
    kernel = np.zeros((3, 3, 4, 8))
    kernel[:, :, 1] = 0.5  # all weights of one input: where they are takes nothing, and so does what they are
    assert ideal_bytes(kernel, "codebook-16") == 0
    assert ideal_bytes(kernel, "float16") == 72 * 10 / 8
    across = np.moveaxis(kernel, 2, 3)  # of each input one output of four: H(1/4) of 288 weights
    assert ideal_bytes(across, "codebook-16") == np.ceil(288 * 0.811278 / 8)


def test_codebooks_by_hand():
    kernel = np.zeros((8, 8))
    kernel[:, 0] = [1, 1, 1, 1, 2, 2, -3, -3]  # 1.5 bits each; H(1/8) = 0.543564
    for values in ("codebook-256", "codebook-16"):
        assert ideal_bytes(kernel, values) == -(-(64 * 0.543564 + 8 * 1.5) // 8)


def test_int8_has_a_scale_for_each_output_channel_and_small_weights_become_zero():
    kernel = np.zeros((4, 2))
    kernel[:, 0] = [127, 1, 0.4, 0]  # 127, 1, 0, 0
    kernel[:, 1] = [0.127, -0.127, 0.127, 0]  # 127, -127, 127, 0 by its own scale
    # Inputs 0 and 1 have two of 2, input 2 one of 2 (1 bit each), input 3 none; three times 127, once -127, once 1.
    places = 2
    values = -5 * (0.6 * np.log2(0.6) + 0.4 * np.log2(0.2))
    assert ideal_bytes(kernel, "int8") == np.ceil((places + values) / 8)


@pytest.mark.parametrize("values", KINDS)
def test_kernels_of_zeros_or_of_nothing_take_nothing_and_dense_ones_no_places(values):
    assert ideal_bytes(np.zeros((3, 3, 4, 5)), values) == 0
    assert ideal_bytes(np.zeros((0, 4)), values) == 0
    assert ideal_bytes(np.ones((4, 4)), values) == {"float32": 16 * 23 / 8, "float16": 16 * 10 / 8}.get(values, 0)


def test_fewer_bits_for_fewer_values():
    kernel = sparse((64, 64), 1000)
    sizes = [ideal_bytes(kernel, values) for values in KINDS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_a_kernel_without_structure_comes_within_a_few_percent_of_the_bound(tmp_path):
    kernel = sparse((300, 200), 6000)
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(200, use_bias=False, name="fc")])
    model.get_layer("fc").kernel.assign(kernel)
    for values in VALUES:
        save_trim(model, tmp_path / "model.trim.npz", values)
        (taken,) = trim_layer_bytes(tmp_path / "model.trim.npz").values()
        assert ideal_bytes(kernel, values) < taken < 1.06 * ideal_bytes(kernel, values)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(InputError, match="float32, float16, int8, codebook-256, codebook-16. Received: 'int4'"):
        ideal_bytes(np.ones((2, 2)), "int4")
