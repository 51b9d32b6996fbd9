import math

import pydantic
import pytest

from compressors.lr_schedulers import LR_SCHEDULERS


def rates(metrics, **arguments):
    """The rate after each epoch, from 1.0 on, for the metrics of the epochs."""
    name = "validation_accuracy" if arguments.get("mode") == "max" else "validation_loss"
    scheduler, memory, found = LR_SCHEDULERS["ReduceLROnPlateau"](**arguments), {}, []
    for epoch, metric in enumerate(metrics):
        logs = {"loss": 0.0, "validation_loss": 0.0, "validation_accuracy": 0.0} | {name: metric}
        rate, memory = scheduler.next_rate(1.0, epoch + 1, 100, memory, logs)
        assert all(isinstance(value, int | float) for value in memory.values())
        found.append(rate)
    return pytest.approx(found)


def test_the_rate_falls_after_more_than_patience_bad_epochs_in_a_row():
    #        best     1    2    3       1    2   better  1    2    3
    losses = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.6, 0.7]
    assert rates(losses, patience=2) == [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01]


def test_the_patience_is_10_epochs_unless_it_is_given():
    assert rates([1.0] * 13) == [1.0] * 11 + [0.1] * 2


def test_max_looks_at_the_accuracy():
    assert rates([0.5, 0.6, 0.55, 0.7, 0.7], mode="max", patience=0, factor=0.5) == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "at_the_bound", "better"),
    [("min", "rel", 1.8, 1.79), ("min", "abs", 1.9, 1.89), ("max", "rel", 2.2, 2.21), ("max", "abs", 2.1, 2.11)],
)
def test_better_means_by_more_than_the_threshold(mode, threshold_mode, at_the_bound, better):
    arguments = {"mode": mode, "threshold": 0.1, "threshold_mode": threshold_mode, "patience": 0}
    assert rates([2.0, at_the_bound], **arguments) == [1, 0.1]
    assert rates([2.0, better], **arguments) == [1, 1]


def test_what_is_a_little_better_is_not_the_new_best():
    assert rates([2.0, 1.9, 1.8, 1.7], threshold=0.1, patience=1) == [1, 1, 0.1, 0.1]


def test_bad_epochs_of_the_cooldown_are_not_counted():
    # Reduced in epoch 1; epochs 2 and 3 cool down; reduced again in epoch 4.
    assert rates([1.0] * 6, patience=0, cooldown=2) == [1, 0.1, 0.1, 0.1, 0.01, 0.01]


def test_the_rate_stays_at_or_above_its_minimum():
    assert rates([1.0] * 4, patience=0, min_lr=0.05) == [1, 0.1, 0.05, 0.05]


def test_a_reduction_by_no_more_than_eps_is_left_out():
    assert rates([1.0] * 4, patience=0, factor=0.5, eps=0.25) == [1, 0.5, 0.5, 0.5]


def test_a_metric_that_is_no_number_is_a_bad_one():
    assert rates([math.nan, math.nan, 1.0, 0.5], patience=1) == [1, 0.1, 0.1, 0.1]


def test_before_the_first_metric_the_rate_is_the_base():
    assert LR_SCHEDULERS["ReduceLROnPlateau"]().rate_at(0.3, 7) == 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "loss"},
        {"factor": 1.0},
        {"factor": -0.1},
        {"patience": -1},
        {"patience": 1.5},
        {"threshold": -1},
        {"threshold_mode": "relative"},
        {"cooldown": -1},
        {"min_lr": [0.1, 0.2]},
        {"eps": -1},
        {"last_epoch": -1},
    ],
)
def test_wrong_arguments_are_errors(change):
    with pytest.raises(pydantic.ValidationError, match=next(iter(change))):
        LR_SCHEDULERS["ReduceLROnPlateau"](**change)
