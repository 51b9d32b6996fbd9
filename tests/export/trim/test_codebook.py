import numpy as np
import pytest

from export.trim.codebook import (
    ALL_INPUTS,
    SAME_INPUT,
    Codebook,
    assign,
    assign_balanced,
    entropy,
    fit_codebook,
    root_mean_square,
)


def centres(codebook):
    return codebook.levels * codebook.step


def test_two_clusters_have_their_means_as_codewords():
    values = np.repeat([-1.1, -0.9, 0.9, 1.1], [1, 3, 2, 2])
    book = fit_codebook(values, 2, 0.0, 1 << 14)
    np.testing.assert_allclose(centres(book), [-0.95, 1.0], rtol=1e-4)
    np.testing.assert_allclose(book.shares, [0.5, 0.5])


def test_few_different_values_are_codewords_themselves():
    values = np.repeat([-3.0, 1.0, 2.0], [5, 1, 4])
    book = fit_codebook(values, 16, 0.0, 127)
    np.testing.assert_allclose(centres(book), [-3.0, 1.0, 2.0], atol=3 / 254)
    np.testing.assert_allclose(book.shares, [0.5, 0.1, 0.4])


@pytest.mark.parametrize("count", [3000, 60_000])  # as they are, and gathered in bins
def test_a_gaussian_gets_the_optimal_four_levels_of_lloyd_and_max(count):
    values = np.random.default_rng(0).normal(size=count)
    found = centres(fit_codebook(values, 4, 0.0, 1 << 14))
    np.testing.assert_allclose(found, [-1.510, -0.4528, 0.4528, 1.510], atol=0.06)


def test_a_price_on_bits_lowers_the_entropy_for_a_larger_error():
    values = np.random.default_rng(1).normal(size=5000)
    results = []
    for rate in (0.0, 0.01, 0.05):
        book = fit_codebook(values, 32, rate, 1 << 14)
        indices = assign(values, book, rate)
        results.append((entropy(np.bincount(indices)), np.mean(np.square(centres(book)[indices] - values))))
    bits, errors = zip(*results, strict=True)
    assert bits[0] > bits[1] > bits[2]
    assert errors[0] < errors[1] < errors[2]


def test_without_a_price_each_value_goes_to_the_nearest():
    values = np.random.default_rng(2).normal(size=500)
    book = fit_codebook(values, 16, 0.0, 127)
    nearest = np.abs(values[:, None] - centres(book)).argmin(1)
    np.testing.assert_array_equal(assign(values, book, 0.0), nearest)


def test_a_price_moves_the_border_by_its_share_of_bits():
    # Codewords 0 and 1 with shares 1/4 and 3/4: v^2 + 2 r against (v - 1)^2 + log2(4 / 3) r.
    book, rate = Codebook(np.array([0, 1]), np.array([0.25, 0.75]), 1.0), 0.1
    border = 0.5 + rate * (np.log2(4 / 3) - 2) / 2
    assert assign(np.array([border - 0.001, border + 0.001]), book, rate).tolist() == [0, 1]


def test_balanced_errors_cost_less_than_the_nearest_values_do_and_zeros_keep_index_0():
    generator = np.random.default_rng(3)
    kernel = generator.normal(size=(20, 9, 12))
    kernel[generator.random(kernel.shape) < 0.7] = 0
    book = fit_codebook(kernel[kernel != 0], 8, 0.0, 127)

    def cost(indices):
        errors = np.where(kernel != 0, centres(book)[indices] - kernel, 0)
        by_input, overall = np.square(errors.sum(1)).sum(), np.square(errors.sum((0, 1))).sum()
        return np.square(errors).sum() + SAME_INPUT * by_input + ALL_INPUTS * overall

    nearest = np.where(kernel != 0, np.abs(kernel[..., None] - centres(book)).argmin(-1), 0)
    balanced = assign_balanced(kernel, book, 0.0)
    assert cost(balanced) < 0.8 * cost(nearest)
    assert not balanced[kernel == 0].any()


def test_no_single_change_of_two_weights_makes_balanced_errors_cheaper():
    # Both are 0.4 of the way from 0 to 1: nearest is 0 for both with errors -0.4 each. Weighed together
    # (e1^2 + e2^2) + 0.8 (e1 + e2)^2: (0, 0) 0.832, (0, 1) 0.552, (1, 1) 1.872.
    book = Codebook(np.array([0, 1]), np.array([0.5, 0.5]), 1.0)
    kernel = np.full((1, 2, 1), 0.4)
    assert sorted(assign_balanced(kernel, book, 0.0).ravel()) == [0, 1]


def test_entropy_by_hand():
    assert entropy(np.array([2, 1, 1])) == 1.5
    assert entropy(np.array([7])) == 0.0
    assert entropy(np.array([], int)) == 0.0


def test_root_mean_square_of_the_smallest_and_largest_numbers():
    assert root_mean_square(np.array([3e-200, 4e-200])) == pytest.approx(np.sqrt(12.5) * 1e-200)
    assert root_mean_square(np.array([3e200, -4e200])) == pytest.approx(np.sqrt(12.5) * 1e200)
    assert root_mean_square(np.zeros(3)) == 0.0
