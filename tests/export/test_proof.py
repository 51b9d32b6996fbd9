"""The proof of exported files, with runners made by hand."""

import re

import numpy as np
import pytest

from export.keras_model import KerasRunner
from export.proof import is_equal, prove
from tests.export.small_network import CLASSES, evaluation_set, small_network


@pytest.fixture(scope="module")
def network():
    return small_network()


def prove_one(network, runner, most=1000, **options):
    data = evaluation_set(network, **options)
    proofs, count = prove(KerasRunner(network), {"file": runner}, data, most, quiet=True)
    return proofs["file"], count


def test_the_network_itself_agrees_everywhere_and_has_its_accuracy(network):
    proof, count = prove_one(network, KerasRunner(network))
    assert count == 50
    assert (proof.accuracy, proof.agreement, proof.largest_difference) == (0.9, 1.0, 0.0)
    assert is_equal(proof)


def test_a_file_that_says_another_class_now_and_then_is_counted(network):
    run = KerasRunner(network)

    def other(examples):
        outputs = run(examples).copy()
        outputs[0] = np.eye(CLASSES)[(outputs[0].argmax() + 2) % CLASSES] * 1000
        return outputs

    proof, _ = prove_one(network, other)  # batches of 16, 16, 16, 2: four of fifty say another class
    assert proof.agreement == pytest.approx(46 / 50)
    # Of those four examples 0 has a wrong label anyway; 16, 32 and 48 had the right one.
    assert proof.accuracy == pytest.approx(42 / 50)
    assert 900 < proof.largest_difference < 1100
    assert not is_equal(proof)


def test_no_more_examples_are_looked_at_than_asked_for(network):
    asked = []

    def runner(examples):
        asked.append(len(examples))
        return KerasRunner(network)(examples)

    proof, count = prove_one(network, runner, most=20)
    assert (count, asked) == (20, [16, 4])
    assert proof.accuracy == pytest.approx(18 / 20)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (lambda examples: np.full((len(examples), CLASSES), np.nan), "gives outputs that are no numbers"),
        (lambda examples: np.zeros((len(examples), 3)), r"gives outputs of shape \(16, 3\) in place of \(16, 5\)"),
        (lambda examples: 1 / 0, "division by zero"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_the_reason(network, outputs, reason):
    calls = []

    def runner(examples):
        calls.append(1)
        return outputs(examples)

    proof, _ = prove_one(network, runner)
    assert len(calls) == 1
    assert re.search(reason, proof.refused)


def test_rounding_is_equal_and_more_is_not(network):
    run = KerasRunner(network)
    largest = np.abs(run(evaluation_set(network).batches[0][0])).max()
    close, _ = prove_one(network, lambda examples: run(examples) * (1 + 1e-3))
    far, _ = prove_one(network, lambda examples: run(examples) + 0.02 * max(1, 2 * largest))
    assert is_equal(close)
    assert not is_equal(far)
