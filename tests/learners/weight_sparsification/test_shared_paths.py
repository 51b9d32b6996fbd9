"""Gram matrices and pruning paths by several workers."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.graph import prunable_kernels
from compressors.pruning_path import build_path
from compressors.regression import collect_grams
from compressors.second_moments import InputSample, KeptInputs
from learners.weight_sparsification.shared_paths import build_paths, path_cost, share_out, shared_grams
from tests.fake_workers import run_in_threads
from tests.small_training import conv_net
from utils.workers import ALONE

IMAGES = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype(np.float32)


@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_sum_of_the_workers_matrices_is_the_matrix_of_all_images(size):
    """With ten workers for seven images three have none."""
    keras.utils.set_random_seed(0)
    model = conv_net()
    whole = collect_grams(model, [IMAGES])
    for grams in run_in_threads(size, lambda workers: shared_grams(model, IMAGES, workers)):
        assert list(grams) == list(whole)
        for path, gram in grams.items():
            np.testing.assert_allclose(gram, whole[path], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [2, 10])
def test_the_workers_keep_the_inputs_that_one_alone_would_keep(size):
    keras.utils.set_random_seed(0)
    model = conv_net()
    kept = {"fc/kernel": KeptInputs(np.arange(7), 7, (1,))}
    kept["conv2/kernel"] = KeptInputs(np.array([3, 40, 41, 150, 251]), 252, (36,))
    whole = collect_grams(model, [IMAGES], kept=kept)
    for grams in run_in_threads(size, lambda workers: shared_grams(model, IMAGES, workers, kept)):
        np.testing.assert_allclose(grams["conv1/kernel"], whole["conv1/kernel"], rtol=1e-4, atol=1e-4)
        for path in kept:
            np.testing.assert_allclose(grams[path].rows, whole[path].rows, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(grams[path].ridge, whole[path].ridge, rtol=1e-4)


def test_one_worker_alone_has_the_matrices_bit_for_bit():
    model = conv_net()
    whole = collect_grams(model, [IMAGES])
    for path, gram in shared_grams(model, IMAGES, ALONE).items():
        np.testing.assert_array_equal(gram, whole[path])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_workers_have_all_paths_as_one_would_build_them(size):
    keras.utils.set_random_seed(0)
    model = conv_net()
    kernels, grams = prunable_kernels(model), collect_grams(model, [IMAGES])

    def of(workers):
        table = build_paths(kernels, grams, "magnitude", workers)
        return [(name, path.removed, path.values) for name, path in table.paths.items()]

    for table in run_in_threads(size, of):
        assert [name for name, _, _ in table] == [kernel.path for kernel in kernels]
        for kernel, (name, removed, values) in zip(kernels, table, strict=True):
            alone = build_path(grams[name], kernel.numpy(), score="magnitude")
            np.testing.assert_array_equal(removed, alone.removed)
            np.testing.assert_array_equal(values, alone.values)


def test_a_path_costs_the_product_of_gram_matrix_and_kernel():
    kernel = keras.Variable(np.zeros((3, 3, 2, 5)))  # H is [18, 18], the kernel [18, 5]
    assert path_cost(kernel, np.zeros((18, 18))) == 18 * 18 * 5
    assert path_cost(kernel, InputSample(np.zeros((3, 18)))) == 2 * 3 * 18 * 5


def test_the_dearest_goes_first_to_whom_has_least():
    assert share_out([3.0, 9.0, 5.0, 4.0], 2) == [0, 0, 1, 1]  # 9 | 5, then 4 to the 5, then, both at 9, 3 to rank 0
    assert share_out([1.0], 3) == [0]
    assert share_out([], 2) == []


@given(st.lists(st.floats(0.1, 100), max_size=12), st.integers(1, 5))
def test_no_worker_has_more_than_the_mean_and_the_dearest(costs, size):
    owners = share_out(costs, size)
    shares = [[cost for cost, owner in zip(costs, owners, strict=True) if owner == rank] for rank in range(size)]
    loads = [math.fsum(share) for share in shares]
    assert max(loads) <= math.fsum(costs) / size + max(costs, default=0) + 1e-9
    assert set(owners) <= set(range(size))
