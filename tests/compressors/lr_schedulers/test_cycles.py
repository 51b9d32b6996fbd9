import numpy as np
import pydantic
import pytest

from compressors.lr_schedulers import LR_SCHEDULERS

BASE, EPOCHS = 0.2, np.arange(100)


def rates(name, base=BASE, **arguments):
    scheduler = LR_SCHEDULERS[name](**arguments)
    return [scheduler.rate_at(base, int(epoch)) for epoch in EPOCHS]


@pytest.mark.parametrize(("first", "multiple"), [(9, 1), (7, 2), (1, 3), (100, 1), (10, 10)])
def test_warm_restarts_begin_anew_after_each_period(first, multiple):
    expected, since, period = [], 0, first
    for _ in EPOCHS:
        expected.append(0.002 + (BASE - 0.002) * 0.5 * (1 + np.cos(np.pi * since / period)))
        since += 1
        if since == period:
            since, period = 0, period * multiple
    found = rates("CosineAnnealingWarmRestarts", T_0=first, T_mult=multiple, eta_min=0.002)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[first % 100] == BASE


def triangle(up, down):
    """Heights in [0, 1] of each epoch, and the number of its cycle."""
    corners = np.arange(0, 400, up + down)
    heights = np.interp(EPOCHS, np.sort([*corners, *(corners + up)]), np.tile([0.0, 1.0], len(corners)))
    return heights, EPOCHS // (up + down)


@pytest.mark.parametrize(
    ("mode", "scale"),
    [("triangular", lambda cycle: 1.0), ("triangular2", lambda cycle: 0.5**cycle)],
)
@pytest.mark.parametrize(("up", "down"), [(7, 11), (8, 8), (1, 1)])
def test_a_cyclic_rate_goes_up_and_down_between_its_bounds(mode, scale, up, down):
    heights, cycle = triangle(up, down)
    expected = 0.01 + 0.09 * heights * scale(cycle)
    found = rates("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=up, step_size_down=down, mode=mode)
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_cyclic_rate_may_fade_with_each_epoch():
    heights, _ = triangle(6, 6)
    expected = 0.01 + 0.09 * heights * 0.98**EPOCHS
    found = rates("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=6, mode="exp_range", gamma=0.98)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_way_up_has_2000_epochs_unless_it_is_given():
    assert rates("CyclicLR", base_lr=0.0, max_lr=1.0) == pytest.approx(EPOCHS / 2000)


def in_shape(shape, start, stop, progress):
    eased = progress if shape == "linear" else 0.5 - 0.5 * np.cos(np.pi * progress)
    return start * (1 - eased) + stop * eased


@pytest.mark.parametrize("shape", ["cos", "linear"])
def test_one_cycle_rises_and_falls_once(shape):
    # 80 epochs, a quarter of them up: the top is at epoch 19, the end at 79; from then on the rate stays.
    first, top, last = 0.1 / 10, 0.1, 0.1 / 10 / 100
    up = in_shape(shape, first, top, np.arange(19) / 19)
    down = in_shape(shape, top, last, np.arange(61) / 60)
    found = rates(
        "OneCycleLR", max_lr=0.1, total_steps=80, pct_start=0.25, anneal_strategy=shape, div_factor=10,
        final_div_factor=100,
    )  # fmt: skip
    assert found == pytest.approx([*up, *down, *[last] * 20], abs=1e-12)


@pytest.mark.parametrize("length", [{"total_steps": 100}, {"epochs": 4, "steps_per_epoch": 25}])
def test_one_cycle_in_three_phases(length):
    # A fifth of 100 epochs up, top at 19; down again to the first rate at 38; the last rate at 99.
    up = in_shape("linear", 0.01, 0.25, np.arange(19) / 19)
    down = in_shape("linear", 0.25, 0.01, np.arange(19) / 19)
    out = in_shape("linear", 0.01, 0.01 / 1e4, np.arange(62) / 61)
    found = rates("OneCycleLR", max_lr=0.25, pct_start=0.2, anneal_strategy="linear", three_phase=True, **length)
    assert found == pytest.approx([*up, *down, *out], abs=1e-12)


def test_one_cycle_whose_rise_is_its_first_epoch():
    # PyTorch divides by 0 here: the rise of a tenth of 10 epochs has no length.
    found = rates("OneCycleLR", max_lr=0.1, total_steps=10, pct_start=0.1)
    assert found[0] == 0.1
    assert found[9] == pytest.approx(0.1 / 25 / 1e4)


def test_cycles_do_not_depend_on_the_base_rate():
    for name, arguments in [
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1}),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 9}),
    ]:
        assert rates(name, base=1.0, **arguments) == rates(name, base=2.0, **arguments)


CYCLES = [("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}), ("OneCycleLR", {"max_lr": 0.2, "total_steps": 10})]


@pytest.mark.parametrize(("name", "arguments"), CYCLES)
@pytest.mark.parametrize("momentum", [{"cycle_momentum": True}, {"base_momentum": 0.8}, {"max_momentum": 0.9}])
def test_the_momentum_is_not_cycled(name, arguments, momentum):
    with pytest.raises(pydantic.ValidationError, match="cycle_momentum must be false: .* Received: .*momentum"):
        LR_SCHEDULERS[name](**arguments, **momentum)


@pytest.mark.parametrize(("name", "arguments"), CYCLES)
def test_with_cycle_momentum_off_the_momentums_bounds_mean_nothing(name, arguments):
    without = rates(name, **arguments)
    assert rates(name, **arguments, cycle_momentum=False, base_momentum=0.8, max_momentum=0.9) == without


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("CosineAnnealingWarmRestarts", {}, "T_0"),
        ("CosineAnnealingWarmRestarts", {"T_0": 0}, "T_0"),
        ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 1.5}, "T_mult"),
        ("CyclicLR", {"base_lr": 0.1}, "max_lr"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "mode": "square"}, "mode"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "step_size_up": 0}, "step_size_up"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1, "scale_fn": "x"}, "scale_fn"),
        ("OneCycleLR", {"max_lr": 0.1}, "total_steps must be given, or both"),
        ("OneCycleLR", {"max_lr": 0.1, "epochs": 3}, "total_steps must be given, or both"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 0}, "total_steps"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "pct_start": 1.1}, "pct_start"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "anneal_strategy": "step"}, "anneal_strategy"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "div_factor": 0}, "div_factor"),
    ],
)
def test_wrong_arguments_are_errors(name, arguments, wrong):
    with pytest.raises(pydantic.ValidationError, match=wrong):
        LR_SCHEDULERS[name](**arguments)
