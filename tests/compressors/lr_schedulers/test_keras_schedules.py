import keras
import numpy as np
import pydantic
import pytest

from compressors.lr_schedulers import LR_SCHEDULERS

STEPS_PER_EPOCH = 20
STEPS = np.arange(100) * STEPS_PER_EPOCH


def cosine(progress):
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(progress, 0, 1))


CASES = {
    "ExponentialDecay": (
        {"initial_learning_rate": 0.1, "decay_steps": 500, "decay_rate": 0.9},
        0.1 * 0.9 ** (STEPS / 500),
    ),
    "InverseTimeDecay": (
        {"initial_learning_rate": 0.1, "decay_steps": 500, "decay_rate": 0.9, "staircase": True},
        0.1 / (1 + 0.9 * (STEPS // 500)),
    ),
    "PiecewiseConstantDecay": (
        {"boundaries": [400, 1000], "values": [0.1, 0.01, 0.001]},
        np.where(STEPS <= 400, 0.1, np.where(STEPS <= 1000, 0.01, 0.001)),
    ),
    "PolynomialDecay": (
        {"initial_learning_rate": 0.1, "decay_steps": 1500, "end_learning_rate": 0.01, "power": 2},
        0.01 + 0.09 * (1 - np.minimum(STEPS, 1500) / 1500) ** 2,
    ),
    "CosineDecay": (
        {"initial_learning_rate": 0.0, "decay_steps": 1000, "alpha": 0.1, "warmup_target": 0.1, "warmup_steps": 200},
        np.where(STEPS < 200, 0.1 * STEPS / 200, 0.1 * (0.9 * cosine((STEPS - 200) / 1000) + 0.1)),
    ),
    "CosineDecayRestarts": (
        {"initial_learning_rate": 0.1, "first_decay_steps": 410, "t_mul": 1.0, "m_mul": 0.5},
        0.1 * 0.5 ** (STEPS // 410) * cosine(STEPS % 410 / 410),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rate_of_an_epoch_is_that_of_its_first_step(name):
    arguments, expected = CASES[name]
    scheduler = LR_SCHEDULERS[name](**arguments)
    found = [scheduler.rate_at(7.0, epoch, STEPS_PER_EPOCH) for epoch in range(100)]
    assert all(isinstance(rate, float) for rate in found)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_there_is_a_scheduler_for_every_schedule_of_keras():
    schedules = {name for name in dir(keras.optimizers.schedules) if name[0].isupper()} - {"LearningRateSchedule"}
    assert schedules == set(CASES)
    assert schedules <= set(LR_SCHEDULERS)


def test_the_arguments_are_those_that_were_given():
    arguments, _ = CASES["PolynomialDecay"]
    scheduler = LR_SCHEDULERS["PolynomialDecay"](**arguments)
    assert scheduler.arguments() == arguments
    assert scheduler == LR_SCHEDULERS["PolynomialDecay"](**arguments | {"decay_steps": "1500", "power": 2.0})


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 5}, "decay_rate\n.*required"),
        ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 0, "decay_rate": 1}, "decay_steps"),
        ("ExponentialDecay", {"initial_learning_rate": -1, "decay_steps": 5, "decay_rate": 1}, "initial_learning_rate"),
        ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 5, "gamma": 0.1}, "gamma"),
        ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 5, "warmup_steps": -5}, "warmup_steps"),
        ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5, "t_mul": 0.5}, "t_mul"),
        ("PiecewiseConstantDecay", {"boundaries": [5], "values": [0.1]}, "length of boundaries"),
        ("PiecewiseConstantDecay", {"boundaries": [], "values": [0.1]}, "boundaries"),
        ("PiecewiseConstantDecay", {"boundaries": [9, 5], "values": [0.1, 0.1, 0.1]}, "ascending order"),
    ],
)
def test_wrong_arguments_are_errors(name, arguments, wrong):
    with pytest.raises(pydantic.ValidationError, match=wrong):
        LR_SCHEDULERS[name](**arguments)
