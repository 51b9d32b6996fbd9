import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressors.schedules import ConstantSchedule, OneShotSchedule, PolynomialSchedule
from utils.errors import InputError

steps = st.integers(0, 5000)


@st.composite
def polynomials(draw):
    begin = draw(st.integers(0, 1000))
    return PolynomialSchedule(
        begin_step=begin,
        end_step=begin + draw(st.integers(1, 1000)),
        update_every=draw(st.integers(1, 700)),
        exponent=draw(st.floats(0.1, 5)),
        initial=draw(st.floats(0, 0.5)),
    )


def update_steps(schedule, stop):
    return [step for step in range(stop) if schedule.is_update_step(step)]


def test_constant_has_the_final_ratio_at_every_step():
    assert [ConstantSchedule().ratio_at(step, 0.7) for step in (0, 1, 999)] == [0.7] * 3
    assert update_steps(ConstantSchedule(), 4) == [0, 1, 2, 3]


def test_constant_selects_the_masks_at_multiples_of_the_step_size():
    assert update_steps(ConstantSchedule(update_every=3), 10) == [0, 3, 6, 9]


def test_one_shot_is_dense_before_its_step_and_selects_the_masks_once():
    schedule = OneShotSchedule(5)
    assert [schedule.ratio_at(step, 0.7) for step in (0, 4, 5, 6)] == [0.0, 0.0, 0.7, 0.7]
    assert update_steps(schedule, 20) == [5]


@pytest.mark.parametrize(
    ("step", "ratio"), [(0, 0), (100, 0), (150, 0.24756), (200, 0.43359), (300, 0.65625), (400, 0.73828), (500, 0.75)]
)
def test_polynomial_from_zero_known_values(step, ratio):
    assert PolynomialSchedule(100, 500, 50).ratio_at(step, 0.75) == pytest.approx(ratio, abs=5e-6)


@pytest.mark.parametrize(("step", "ratio"), [(100, 0.2), (102, 0.4928), (105, 0.725), (110, 0.8)])
def test_polynomial_from_a_nonzero_ratio_known_values(step, ratio):
    assert PolynomialSchedule(100, 110, 1, initial=0.2).ratio_at(step, 0.8) == pytest.approx(ratio, abs=1e-12)


def test_polynomial_over_epochs_known_values():
    # Distiller's AGP over epochs 0..9 of a policy that ends before epoch 10: a span of 9.
    schedule = PolynomialSchedule(0, 9, 1, initial=0.05)
    ratios = [schedule.ratio_at(epoch, 0.75) for epoch in range(5)]
    assert ratios == pytest.approx([0.05, 0.258368, 0.420645, 0.542593, 0.629973], abs=5e-7)
    assert schedule.ratio_at(9, 0.75) == 0.75


@pytest.mark.parametrize(
    ("update_every", "expected"),
    [
        (50, [100, 150, 200, 250]),  # divides both ends
        (70, [140, 210, 280]),  # 280 is the first multiple after the end
        (125, [125, 250]),  # the end is a multiple
        (130, [130, 260]),
        (500, [500]),  # no multiple within the ramp: one shot after it
        (249, [249, 498]),
    ],
)
def test_polynomial_changes_the_masks_in_the_ramp_and_once_at_or_after_its_end(update_every, expected):
    schedule = PolynomialSchedule(100, 250, update_every)
    assert update_steps(schedule, 2000) == expected
    assert schedule.last_update_step == expected[-1]
    assert schedule.ratio_at(expected[-1], 0.9) == 0.9


def test_polynomial_holds_the_initial_ratio_before_and_the_final_ratio_after_the_ramp():
    schedule = PolynomialSchedule(100, 250, 10, initial=0.3)
    assert schedule.ratio_at(0, 0.9) == pytest.approx(0.3, abs=1e-15)
    assert schedule.ratio_at(10**9, 0.9) == 0.9


def test_exponent_one_is_a_straight_line():
    assert PolynomialSchedule(0, 10, 1, exponent=1.0).ratio_at(4, 0.5) == pytest.approx(0.2)


@given(polynomials(), st.floats(0, 1))
def test_polynomial_ends_bit_equal_to_the_final_ratio_whatever_the_step_size(schedule, final):
    last = max(update_steps(schedule, 4000))
    assert last >= schedule.end_step
    assert last - schedule.end_step < schedule.update_every
    assert schedule.ratio_at(last, final) == final


@given(polynomials(), st.floats(0.5, 1), steps)
def test_polynomial_never_falls_towards_a_higher_final_ratio(schedule, final, step):
    now, then = schedule.ratio_at(step, final), schedule.ratio_at(step + 1, final)
    assert schedule.initial - 1e-12 <= now <= then + 1e-12 <= final + 2e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"end_step": 100}, "end_step must be above begin_step=100. Received: 100"),
        ({"end_step": 99}, "end_step must be above begin_step=100. Received: 99"),
        ({"update_every": 0}, "update_every must be above 0. Received: 0"),
        ({"exponent": 0.0}, "exponent must be above 0. Received: 0.0"),
        ({"initial": 1.5}, r"initial must be in \[0, 1\]. Received: 1.5"),
        ({"initial": float("nan")}, "initial must be in"),
    ],
)
def test_a_polynomial_that_makes_no_sense_is_an_error(arguments, message):
    with pytest.raises(InputError, match=message):
        PolynomialSchedule(**({"begin_step": 100, "end_step": 200, "update_every": 10} | arguments))


def test_a_constant_schedule_needs_a_positive_step_size():
    with pytest.raises(InputError, match="update_every must be above 0. Received: -1"):
        ConstantSchedule(update_every=-1)
