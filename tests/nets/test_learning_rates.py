import numpy as np

from nets.learning_rates import piecewise, warm_up_cosine


def test_piecewise_divides_by_ten_at_each_boundary():
    rates = piecewise(np.array([0, 99, 100, 149, 150, 199, 200, 249]), 0.1, [100, 150, 200])
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_warm_up_is_linear_and_ends_at_the_peak():
    rates = warm_up_cosine(np.arange(100), 0.2, 100)
    np.testing.assert_allclose(rates[:10], 0.02 * np.arange(1, 11))
    assert rates.max() == 0.2


def test_cosine_is_half_way_in_the_middle_and_ends_near_zero():
    rates = warm_up_cosine(np.arange(101), 1.0, 100)
    np.testing.assert_allclose(rates[55], 0.5, atol=1e-12)
    np.testing.assert_allclose(rates[100], 0.0, atol=1e-12)


def test_a_training_of_one_step_has_a_rate():
    assert warm_up_cosine(np.arange(1), 0.1, 1)[0] == 0.1
