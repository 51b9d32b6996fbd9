import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.lottery import removed_after_round, sparsity_after_round


def test_survivors_of_a_hundred_weights_in_five_rounds_to_80_percent():
    # 0.2**(r / 5) = 1, .72478, .52531, .38073, .27595, .2
    assert [removed_after_round(100, 0.8, r, 5) for r in range(6)] == [0, 27, 47, 61, 72, 80]


def test_two_rounds_to_75_percent_halve_the_survivors_each_time():
    assert [removed_after_round(1000, 0.75, r, 2) for r in range(3)] == [0, 500, 750]


def test_a_share_that_floats_miss_is_met_in_the_last_round():
    assert removed_after_round(10, 0.9, 3, 3) == 9  # 1 - (1 - 0.9)**(3 / 3) is 0.9 only nearly


@given(st.integers(1, 10_000), st.floats(0, 0.99), st.integers(1, 20))
def test_rounds_never_give_weights_back_and_each_takes_its_share_of_the_survivors(size, sparsity, rounds):
    removed = [removed_after_round(size, sparsity, r, rounds) for r in range(rounds + 1)]
    assert removed == sorted(removed)
    assert removed[0] == 0
    share = 1 - (1 - sparsity) ** (1 / rounds)
    for before, after in zip(removed, removed[1:], strict=False):
        assert after - before == pytest.approx(share * (size - before), abs=2)


@given(st.floats(0, 0.99), st.integers(1, 20))
def test_the_share_of_survivors_multiplies_from_round_to_round(sparsity, rounds):
    kept = [1 - sparsity_after_round(sparsity, r, rounds) for r in range(rounds + 1)]
    assert kept[-1] == pytest.approx(1 - sparsity)
    assert all(b / a == pytest.approx((1 - sparsity) ** (1 / rounds)) for a, b in zip(kept, kept[1:], strict=False))
