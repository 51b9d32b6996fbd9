"""Latency by a clock of the test's own."""

import numpy as np
import pytest

from export.latency import LEAST_ROUNDS, MOST_ROUNDS, WARM_UP_CALLS, interleaved_seconds, milliseconds


class Machine:
    """Programs that take as long as they say, on a clock that only they move."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def program(self, name, seconds):
        def call():
            self.now += seconds
            self.order.append(name)

        return call


def test_each_program_is_measured_by_itself():
    machine = Machine()
    calls = {name: machine.program(name, seconds) for name, seconds in (("slow", 0.03), ("quick", 0.0005))}
    measured = interleaved_seconds(calls, 1.0, clock=lambda: machine.now)
    assert measured["slow"] == pytest.approx(0.03)
    assert measured["quick"] == pytest.approx(0.0005)


def test_rounds_fill_the_budget_within_bounds():
    def rounds(seconds, budget):
        machine = Machine()
        return len(interleaved_seconds({"a": machine.program("a", seconds)}, budget, clock=lambda: machine.now)["a"])

    assert rounds(0.125, 2.0) == 16
    assert rounds(0.125, 0.2) == LEAST_ROUNDS
    assert rounds(0.01, 1000.0) == MOST_ROUNDS


def test_programs_take_turns_in_an_order_that_changes():
    machine = Machine()
    calls = {name: machine.program(name, 0.01) for name in "abc"}
    interleaved_seconds(calls, 0.3, clock=lambda: machine.now)
    turns = np.reshape(machine.order[3 * WARM_UP_CALLS :], (-1, 3))
    assert all(sorted(turn) == list("abc") for turn in turns.tolist())
    assert len({tuple(turn) for turn in turns.tolist()}) > 1


def test_a_quick_program_is_called_often_enough_to_be_measured():
    machine = Machine()
    interleaved_seconds({"a": machine.program("a", 2**-14)}, 0.0, clock=lambda: machine.now)
    assert len(machine.order) == WARM_UP_CALLS + LEAST_ROUNDS * 33  # 33 * 2**-14 s is just over 2 ms


def test_milliseconds_are_median_lowest_and_highest():
    assert milliseconds(np.array([0.003, 0.001, 0.01, 0.002])) == {"median": 2.5, "low": 1.0, "high": 10.0}
