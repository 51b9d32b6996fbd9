import math

import numpy as np
import pydantic
import pytest

from compressors.lr_schedulers import LR_SCHEDULERS

BASE, EPOCHS = 0.2, range(100)


def scheduler(name, **arguments):
    return LR_SCHEDULERS[name](**arguments)


def rates(name, **arguments):
    made = scheduler(name, **arguments)
    return [made.rate_at(BASE, epoch) for epoch in EPOCHS]


def unrolled(next_rate, first=BASE):
    """The rates of a recursion `next_rate(rate of the epoch before, epoch)`, as PyTorch's `step()` computes them."""
    found = [first]
    for epoch in EPOCHS[1:]:
        found.append(next_rate(found[-1], epoch))
    return pytest.approx(found, rel=1e-9, abs=1e-15)


def test_step_lr_falls_at_each_multiple_of_the_step_size():
    assert rates("StepLR", step_size=7, gamma=0.3) == unrolled(lambda rate, e: rate * 0.3 if e % 7 == 0 else rate)
    assert scheduler("StepLR", step_size=30).rate_at(BASE, 30) == pytest.approx(0.02)  # gamma 0.1


def test_multi_step_lr_falls_at_its_milestones_a_repeated_one_counts_twice():
    expected = unrolled(lambda rate, e: rate * {3: 0.5, 30: 0.25, 80: 0.5}.get(e, 1))
    assert rates("MultiStepLR", milestones=[3, 30, 30, 80], gamma=0.5) == expected
    assert scheduler("MultiStepLR", milestones=[5]).rate_at(BASE, 5) == pytest.approx(0.02)


def test_multi_step_multi_gamma_lr_has_a_factor_for_each_milestone():
    factors = {0: 0.9, 10: 0.1, 40: 5.0, 99: 0.0}
    expected = unrolled(lambda rate, e: rate * factors.get(e, 1), first=BASE * 0.9)
    assert rates("MultiStepMultiGammaLR", milestones=list(factors), gammas=list(factors.values())) == expected


def test_exponential_lr():
    assert rates("ExponentialLR", gamma=0.97) == unrolled(lambda rate, e: rate * 0.97)


def test_linear_lr_moves_on_a_line_and_stays():
    expected = np.interp(EPOCHS, [0, 50], [0.9 * BASE, 0.1 * BASE])
    assert rates("LinearLR", start_factor=0.9, end_factor=0.1, total_iters=50) == pytest.approx(expected)
    warm_up = [BASE * (1 / 3 + 2 / 3 * k / 5) for k in range(5)] + [BASE] * 95
    assert rates("LinearLR") == pytest.approx(warm_up)


def test_constant_lr_is_a_share_of_the_rate_for_some_epochs():
    assert rates("ConstantLR", factor=0.25, total_iters=40) == [0.05] * 40 + [BASE] * 60
    assert rates("ConstantLR") == pytest.approx([BASE / 3] * 5 + [BASE] * 95)
    assert rates("ConstantLR", total_iters=0) == [BASE] * 100


@pytest.mark.parametrize("name_of_length", ["total_iters", "T_max"])
def test_polynomial_lr_falls_to_0_and_stays(name_of_length):
    def next_rate(rate, epoch):
        return rate * ((1 - epoch / 60) / (1 - (epoch - 1) / 60)) ** 2.5 if epoch <= 60 else rate

    assert rates("PolynomialLR", **{name_of_length: 60}, power=2.5) == unrolled(next_rate)
    assert rates("PolynomialLR") == pytest.approx([BASE * k / 5 for k in (5, 4, 3, 2, 1)] + [0.0] * 95)


def test_cosine_annealing_lr_falls_for_half_a_period_and_rises_again():
    def next_rate(rate, epoch):
        if (epoch - 1) % 74 == 37:  # after the lowest point the ratio would be 0 / 0
            return rate + (BASE - 0.001) * (1 - math.cos(math.pi / 37)) / 2
        ratio = (1 + math.cos(math.pi * epoch / 37)) / (1 + math.cos(math.pi * (epoch - 1) / 37))
        return 0.001 + (rate - 0.001) * ratio

    assert rates("CosineAnnealingLR", T_max=37, eta_min=0.001) == unrolled(next_rate)
    found = rates("CosineAnnealingLR", T_max=50)
    assert (found[0], found[25], found[50]) == pytest.approx((BASE, BASE / 2, 0.0))


def test_what_is_remembered_is_nothing():
    assert scheduler("StepLR", step_size=3).next_rate(BASE, 3, 100, {}, {"loss": 1.0}) == (pytest.approx(0.02), {})


def test_pytorchs_arguments_without_meaning_are_accepted_at_their_defaults():
    assert scheduler("StepLR", step_size=3, last_epoch=-1, verbose=True).rate_at(BASE, 2) == BASE
    with pytest.raises(pydantic.ValidationError, match="last_epoch"):
        scheduler("StepLR", step_size=3, last_epoch=5)


def test_lambda_lr_is_refused_with_its_alternatives():
    with pytest.raises(pydantic.ValidationError, match=r"takes a function, .* MultiStepMultiGammaLR"):
        scheduler("LambdaLR", lr_lambda="lambda epoch: 0.95 ** epoch")
    with pytest.raises(pydantic.ValidationError, match="takes a function"):
        scheduler("LambdaLR")


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("StepLR", {}, "step_size"),
        ("StepLR", {"step_size": 0}, "step_size"),
        ("StepLR", {"step_size": 2.5}, "step_size"),
        ("StepLR", {"step_size": True}, "step_size"),
        ("StepLR", {"step_size": 3, "gamma": -0.1}, "gamma"),
        ("StepLR", {"step_size": 3, "gama": 0.1}, "gama"),
        ("MultiStepLR", {"milestones": [30, 10]}, r"milestones\n.*ascending order. Received: \[30, 10\]"),
        ("MultiStepLR", {"milestones": 30}, "milestones"),
        ("MultiStepLR", {"milestones": [-1]}, "milestones"),
        ("MultiStepMultiGammaLR", {"milestones": [1, 2], "gammas": [0.1]}, "gammas must be 2 numbers.*Received: 1"),
        ("ExponentialLR", {}, "gamma"),
        ("LinearLR", {"start_factor": 0}, "start_factor"),
        ("LinearLR", {"start_factor": 1.1}, "start_factor"),
        ("LinearLR", {"end_factor": -0.1}, "end_factor"),
        ("LinearLR", {"total_iters": 0}, "total_iters"),
        ("ConstantLR", {"factor": 1.5}, "factor"),
        ("PolynomialLR", {"T_max": 5, "total_iters": 5}, "T_max and total_iters"),
        ("PolynomialLR", {"power": 0}, "power"),
        ("CosineAnnealingLR", {}, "T_max"),
        ("CosineAnnealingLR", {"T_max": 5, "eta_min": -1}, "eta_min"),
    ],
)
def test_wrong_arguments_are_errors(name, arguments, wrong):
    with pytest.raises(pydantic.ValidationError, match=wrong):
        scheduler(name, **arguments)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert scheduler("CosineAnnealingLR", T_max="10", eta_min="1e-4").rate_at(BASE, 10) == pytest.approx(1e-4)
